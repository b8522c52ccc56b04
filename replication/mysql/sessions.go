package mysql

// The sessions of clients: which there are, what they have open, and ending them.

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	// transactionPoll is above 100 ms: INNODB_TRX shows the copy of the last look
	// to who looks again sooner.
	transactionPoll = 105 * time.Millisecond
	// The time between two looks at killed sessions; most are gone at the first.
	sessionPollFirst = 500 * time.Microsecond
	sessionPollMost  = 10 * time.Millisecond
	// goneTimeout bounds the wait for killed sessions. What is left then rolls
	// back, which writes nothing to the binary log.
	goneTimeout = 2 * time.Second
)

// awaitTransactions waits for the clients' transactions that are open now, not
// for those that follow.
func (d *Database) awaitTransactions(ctx context.Context, s *session, patience time.Time) error {
	if !time.Now().Before(patience) {
		return nil
	}
	// INNODB_TRX can be a copy of up to 100 ms ago. One that shows our own
	// transaction is newer than this moment.
	if _, err := s.conn.ExecContext(ctx, beginSnapshot); err != nil {
		return err
	}
	err := d.awaitOpen(ctx, s, patience)
	if _, endErr := s.conn.ExecContext(ctx, "COMMIT"); err == nil {
		err = endErr
	}
	if serverErrorNumber(err) == errSpecificAccessDenied {
		// Closing goes on; freeze reports what the account lacks.
		return nil
	}
	return err
}

func (d *Database) awaitOpen(ctx context.Context, s *session, patience time.Time) error {
	var waiting map[uint64]bool
	for {
		current, err := s.openTransactions(ctx)
		if err != nil {
			return err
		}
		switch fresh := current[s.id]; {
		case waiting == nil && fresh:
			if waiting, err = d.ofClients(ctx, s, current); err != nil {
				return err
			}
		case waiting != nil:
			for id := range waiting {
				if !current[id] {
					delete(waiting, id)
				}
			}
		}
		if waiting != nil && len(waiting) == 0 || !time.Now().Before(patience) {
			return nil
		}
		if err := pause(ctx, min(transactionPoll, time.Until(patience))); err != nil {
			return err
		}
	}
}

// ofClients leaves out what is not a client's.
func (d *Database) ofClients(ctx context.Context, s *session, ids map[uint64]bool) (map[uint64]bool, error) {
	p, err := d.processes(ctx, s)
	if err != nil {
		return nil, err
	}
	clients := make(map[uint64]bool)
	for id := range p.clients {
		if ids[id] {
			clients[id] = true
		}
	}
	return clients, nil
}

func (s *session) openTransactions(ctx context.Context) (map[uint64]bool, error) {
	rows, err := query(ctx, s.conn, openTransactions)
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

// longStatements reports whether a client's statement has been running for long.
func (d *Database) longStatements(ctx context.Context, s *session) (bool, error) {
	p, err := d.processes(ctx, s)
	return p.long, err
}

// disconnectClients kills every client's session and waits for them to be gone.
// Alone means that at the last look nobody else was connected or logging in.
func (d *Database) disconnectClients(ctx context.Context, s *session) (alone bool, err error) {
	p, err := d.processes(ctx, s)
	if err != nil {
		return false, err
	}
	victims := p.clients
	for id := range victims {
		err := s.exec(ctx, s.dialect.kill(id))
		switch {
		case err == nil, serverErrorNumber(err) == errNoSuchThread:
		case serverErrorNumber(err) == errKillDenied && s.dialect.bindsAll:
			delete(victims, id)
		default:
			return false, fmt.Errorf("kill session %d: %w", id, err)
		}
	}
	rest := sessionPollFirst
	for until := time.Now().Add(goneTimeout); len(victims) > 0 && time.Now().Before(until); {
		if err := pause(ctx, rest); err != nil {
			return false, err
		}
		rest = min(2*rest, sessionPollMost)
		if p, err = d.processes(ctx, s); err != nil {
			return false, err
		}
		for id := range victims {
			if !p.clients[id] {
				delete(victims, id)
			}
		}
	}
	return len(p.clients) == 0 && !p.entering, nil
}

// processes is one look at the list of sessions.
type processes struct {
	clients  map[uint64]bool // that may write
	long     bool            // a client's statement runs for longStatement or more
	entering bool            // somebody logs in
}

// processes leaves out the server's own threads, replicas that stream from here,
// the probe, and whatever else of this process closes the database too.
func (d *Database) processes(ctx context.Context, s *session) (processes, error) {
	rows, err := query(ctx, s.conn, s.dialect.processes)
	if err != nil {
		return processes{}, err
	}
	p := processes{clients: make(map[uint64]bool)}
	for _, r := range rows {
		id, err := strconv.ParseUint(r["id"].String, 10, 64)
		if err != nil {
			return processes{}, fmt.Errorf("session id %q is not a number", r["id"].String)
		}
		user, command := r["user"].String, r["command"].String
		p.entering = p.entering || user == "unauthenticated user"
		_, closes := d.closers.Load(id)
		if id == s.id || id == d.probeID.Load() || closes || !isClient(user, command) {
			continue
		}
		p.clients[id] = true
		age, err := strconv.ParseFloat(r["milliseconds"].String, 64)
		p.long = p.long || command != "Sleep" && err == nil && age >= float64(longStatement.Milliseconds())
	}
	return p, nil
}

// isClient counts events that are being executed, not the scheduler, a Daemon.
func isClient(user, command string) bool {
	switch user {
	case "system user", "unauthenticated user", "mysql.session":
		return false
	}
	switch command {
	case "Daemon", "Slave_IO", "Slave_SQL", "Slave_worker":
		return false
	}
	return !strings.HasPrefix(command, "Binlog Dump")
}
