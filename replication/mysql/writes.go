package mysql

// Closing writes ends with proof: read_only read back, and the position the
// same twice. Opening writes expires by itself, so that a server which was hung
// while the service moved on does not open when it wakes.

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tanist-ha/tanist/replication"
)

const (
	// transactionPoll is above 100 ms: INNODB_TRX shows the copy of the last look
	// to who looks again sooner.
	transactionPoll = 125 * time.Millisecond
	sessionPoll     = 10 * time.Millisecond
	// goneTimeout bounds the wait for killed sessions. What is left then rolls
	// back, which writes nothing to the binary log.
	goneTimeout = 2 * time.Second
	// frozenPause lies between the two readings of a position that must agree.
	frozenPause = 15 * time.Millisecond
)

// ErrExpired is in the error of OpenWrites when the server came to it too late
// and left writes closed.
var ErrExpired = errors.New("deadline passed before the server got to it, writes stay closed")

// WritesOpen reports whether the database takes writes of ordinary accounts.
func (d *Database) WritesOpen(ctx context.Context) (bool, error) {
	var open bool
	err := d.look(ctx, "read read_only", func(ctx context.Context, s *session) (err error) {
		open, err = s.writesOpen(ctx)
		return err
	})
	return open, err
}

// CloseWrites makes the database read-only, disconnects its clients and returns
// the position at which it then stands still. Transactions that are open when it
// is called get the grace to end; what blocks read_only after that is killed, and
// so in the end is every client, because MariaDB's read_only does not bind
// accounts with READ ONLY ADMIN. Replicas that stream from here, replication
// threads and Tanist's own connections stay. It can be repeated; each time
// clients are disconnected.
//
// On an error writes may be open or closed; read_only may also be set later, by
// a statement that a hung server still holds. That is harmless here.
func (d *Database) CloseWrites(ctx context.Context, grace time.Duration) (replication.Position, error) {
	var position replication.Position
	err := d.act(ctx, "close writes", func(ctx context.Context, s *session) (err error) {
		position, err = d.closeWrites(ctx, s, time.Now().Add(grace))
		return err
	})
	return position, err
}

func (d *Database) closeWrites(ctx context.Context, s *session, patience time.Time) (replication.Position, error) {
	open, err := s.writesOpen(ctx)
	if err != nil {
		return replication.Position{}, err
	}
	if open {
		if err := d.awaitTransactions(ctx, s, patience); err != nil {
			return replication.Position{}, err
		}
		if err := d.setReadOnly(ctx, s, patience); err != nil {
			return replication.Position{}, err
		}
	}
	return d.freeze(ctx, s)
}

// awaitTransactions waits for the clients' transactions that are open now, not
// for those that follow. It always lets one poll pass before it looks, because
// what somebody else's look a moment ago left in INNODB_TRX is older than now.
func (d *Database) awaitTransactions(ctx context.Context, s *session, patience time.Time) error {
	if !time.Now().Before(patience) {
		return nil
	}
	waiting, err := d.clients(ctx, s)
	if err != nil {
		return err
	}
	for len(waiting) > 0 && time.Now().Before(patience) {
		if err := pause(ctx, min(transactionPoll, time.Until(patience))); err != nil {
			return err
		}
		current, err := s.openTransactions(ctx)
		if serverErrorNumber(err) == errSpecificAccessDenied {
			// Closing goes on; freeze reports what the account lacks.
			return nil
		}
		if err != nil {
			return err
		}
		for id := range waiting {
			if !current[id] {
				delete(waiting, id)
			}
		}
	}
	return nil
}

// setReadOnly sets read_only. While the statement waits for a client's lock it
// holds up all other writers, so each attempt ends after the connection's
// lock_wait_timeout of 1 s; once patience is over the clients are killed.
func (d *Database) setReadOnly(ctx context.Context, s *session, patience time.Time) error {
	for {
		err := s.exec(ctx, s.dialect.closeWrites)
		if serverErrorNumber(err) != errLockWaitTimeout {
			return err
		}
		if time.Now().Before(patience) {
			continue
		}
		if err := d.disconnectClients(ctx, s); err != nil {
			return err
		}
	}
}

// freeze disconnects the clients until nothing is written any more. Only this
// server's own writes count: a replica goes on applying.
func (d *Database) freeze(ctx context.Context, s *session) (replication.Position, error) {
	if _, err := s.openTransactions(ctx); err != nil {
		// Without PROCESS other accounts' sessions would silently not be seen.
		return replication.Position{}, fmt.Errorf("look for sessions: %w", err)
	}
	for {
		if err := d.disconnectClients(ctx, s); err != nil {
			return replication.Position{}, err
		}
		before, err := s.ownWrites(ctx)
		if err != nil {
			return replication.Position{}, err
		}
		if err := pause(ctx, frozenPause); err != nil {
			return replication.Position{}, fmt.Errorf("writes go on with read_only set: %w", err)
		}
		open, err := s.writesOpen(ctx)
		if err != nil {
			return replication.Position{}, err
		}
		if open {
			return replication.Position{}, errors.New("somebody opened writes again")
		}
		after, err := s.ownWrites(ctx)
		if err != nil {
			return replication.Position{}, err
		}
		if after.own.Equal(before.own) {
			return after.position, nil
		}
	}
}

type written struct {
	own      replication.BinlogState
	position replication.Position
}

func (s *session) ownWrites(ctx context.Context) (written, error) {
	r, err := queryOne(ctx, s.conn, s.dialect.variables)
	if err != nil {
		return written{}, err
	}
	var f replication.Facts
	fillVariables(&f, r)
	position, positionOK := f.Position()
	state, stateOK := f.BinlogState.Get()
	server, serverOK := f.ServerID.Get()
	if !positionOK || !stateOK || !serverOK {
		return written{}, fmt.Errorf("positions cannot be read: applied %s, binary log %s, its state %s, server_id %s",
			f.Applied, f.Executed, f.BinlogState, f.ServerID)
	}
	return written{own: state.WrittenBy(server), position: position}, nil
}

// disconnectClients kills every client's session and waits for them to be gone.
func (d *Database) disconnectClients(ctx context.Context, s *session) error {
	victims, err := d.clients(ctx, s)
	if err != nil {
		return err
	}
	for id := range victims {
		if err := s.exec(ctx, s.dialect.kill(id)); err != nil && serverErrorNumber(err) != errNoSuchThread {
			return fmt.Errorf("kill session %d: %w", id, err)
		}
	}
	for until := time.Now().Add(goneTimeout); len(victims) > 0 && time.Now().Before(until); {
		if err := pause(ctx, sessionPoll); err != nil {
			return err
		}
		now, err := d.clients(ctx, s)
		if err != nil {
			return err
		}
		for id := range victims {
			if !now[id] {
				delete(victims, id)
			}
		}
	}
	return nil
}

// clients returns the sessions that may write: all but the server's own threads,
// replicas that stream from here and this database's two handles.
func (d *Database) clients(ctx context.Context, s *session) (map[uint64]bool, error) {
	rows, err := query(ctx, s.conn, s.dialect.processes)
	if err != nil {
		return nil, err
	}
	clients := make(map[uint64]bool)
	for _, r := range rows {
		id, err := strconv.ParseUint(r["id"].String, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("session id %q is not a number", r["id"].String)
		}
		if id != s.id && id != d.probeID.Load() && isClient(r["user"].String, r["command"].String) {
			clients[id] = true
		}
	}
	return clients, nil
}

func isClient(user, command string) bool {
	switch user {
	case "system user", "event_scheduler", "unauthenticated user":
		return false
	}
	switch command {
	case "Daemon", "Slave_IO", "Slave_SQL", "Slave_worker":
		return false
	}
	return !strings.HasPrefix(command, "Binlog Dump")
}

func (s *session) openTransactions(ctx context.Context) (map[uint64]bool, error) {
	rows, err := query(ctx, s.conn, s.dialect.openTransactions)
	if err != nil {
		return nil, err
	}
	ids := make(map[uint64]bool, len(rows))
	for _, r := range rows {
		// A recovered transaction has thread 0; it belongs to nobody.
		if id, err := strconv.ParseUint(r["id"].String, 10, 64); err == nil && id != 0 {
			ids[id] = true
		}
	}
	return ids, nil
}

// OpenWrites makes the database take writes, unless the server gets to it after
// until: then it stays closed and the error is ErrExpired. Until is an instant of
// this host's clock; the server's own clock is read first, so that the two need
// not agree.
func (d *Database) OpenWrites(ctx context.Context, until time.Time) error {
	return d.act(ctx, "open writes", func(ctx context.Context, s *session) error {
		open, err := s.writesOpen(ctx)
		if err != nil || open {
			return err
		}
		deadline, err := s.serverDeadline(ctx, until)
		if err != nil {
			return err
		}
		return s.openWrites(ctx, deadline)
	})
}

// serverDeadline returns until on the server's clock, as a decimal number of
// seconds. It is early by as long as the answer took, never late.
func (s *session) serverDeadline(ctx context.Context, until time.Time) (string, error) {
	r, err := queryOne(ctx, s.conn, s.dialect.serverTime)
	if err != nil {
		return "", err
	}
	seconds, fraction, _ := strings.Cut(r["now"].String, ".")
	whole, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return "", fmt.Errorf("server's time %q is not a number", r["now"].String)
	}
	micros, err := strconv.ParseInt((fraction + "000000")[:6], 10, 64)
	if err != nil {
		return "", fmt.Errorf("server's time %q is not a number", r["now"].String)
	}
	left := time.Until(until)
	if left <= 0 {
		return "", ErrExpired
	}
	end := whole*1e6 + micros + left.Microseconds()
	return fmt.Sprintf("%d.%06d", end/1e6, end%1e6), nil
}

func (s *session) openWrites(ctx context.Context, serverDeadline string) error {
	if err := s.exec(ctx, s.dialect.openWritesUntil(serverDeadline)); err != nil {
		return err
	}
	open, err := s.writesOpen(ctx)
	if err != nil {
		return err
	}
	if !open {
		return ErrExpired
	}
	return nil
}
