package mysql

// Closing writes ends with proof: read_only read back, and a position that
// stands still. Opening writes expires by itself, and so can closing, so that a
// server which was hung while the service moved on does neither when it wakes.

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
	// shortWait is how long an attempt to set read_only may stand in the way of
	// other writers. longWait is for when they are not to write any more.
	shortWait = 100 * time.Millisecond
	longWait  = time.Second
	// longStatement is the age from which a statement is waited for before an
	// attempt, not behind it: short ones end within the attempt.
	longStatement = shortWait
	// blockedPause follows an attempt that a lock of an idle session was in the way of.
	blockedPause = 400 * time.Millisecond
	// statementPoll is the time between two looks at statements that run.
	statementPoll = 10 * time.Millisecond
	// closeAttempts bounds how often a closing whose connection is lost begins again.
	closeAttempts = 5
	// frozenPause lies between the two readings of a position that must agree.
	frozenPause = 5 * time.Millisecond
)

// ErrExpired is in the error of OpenWrites and CloseWritesUntil when the server
// came to it too late and left writes as they were.
var ErrExpired = errors.New("deadline passed before the server got to it, writes stay as they were")

// WritesOpen reports whether the database takes writes of ordinary accounts.
func (d *Database) WritesOpen(ctx context.Context) (bool, error) {
	var open bool
	err := d.look(ctx, "read read_only", func(ctx context.Context, s *session) (err error) {
		open, err = s.writesOpen(ctx)
		return err
	})
	return open, err
}

// WritesAre reports whether writes are open, or closed, with all that goes with
// it: the event scheduler does not run on a closed database, and runs again on
// an open one where closing stopped it.
func (d *Database) WritesAre(ctx context.Context, open bool) (bool, error) {
	var are bool
	opening := d.beats.opening()
	err := d.look(ctx, "read read_only", func(ctx context.Context, s *session) error {
		is, sealed, err := s.writes(ctx)
		if err != nil || open && !is || !open && !sealed {
			return err
		}
		if open { // who wants them open finds them so, and opens nothing
			d.beats.allow(opening)
		}
		are, err = d.eventsGoWith(ctx, s, open)
		return err
	})
	return are, err
}

// CloseWrites makes the database read-only, stops its event scheduler,
// disconnects its clients and returns the position at which it then stands still.
//
// Transactions that are open when it is called get the grace to end; what is in
// the way of read_only after that is killed, and so in the end is every client,
// because MariaDB's read_only does not bind accounts with READ ONLY ADMIN. Until
// the grace is over, other writers are held up for no more than 100 ms at a time (by
// a client's lock on MySQL, which waits no shorter, a second), and not at all by a
// statement that runs for longer. Replicas that stream from
// here, replication threads, the probe and other closings stay; what else Tanist does
// on this database ends as a client's does. It can be repeated; each time clients are
// disconnected.
//
// No heartbeat is written any more from the call on, until writes are opened.
//
// On an error writes may be open or closed; read_only may also be set later, by
// a statement that a hung server still holds. That is what an emergency wants.
func (d *Database) CloseWrites(ctx context.Context, grace time.Duration) (replication.Position, error) {
	return d.CloseWritesUntil(ctx, grace, time.Time{})
}

// CloseWritesUntil does the same, but a server that gets to it after until leaves
// writes as they were: for a closing that is taken back when it fails. Until is an
// instant of this host's clock; the zero time is no limit.
func (d *Database) CloseWritesUntil(ctx context.Context, grace time.Duration, until time.Time) (replication.Position, error) {
	return d.close(ctx, closing{patience: time.Now().Add(grace)}, until)
}

// AwaitTransactions waits until the transactions that clients have open now have
// ended, at most until patience is over. Others begin and end meanwhile. A closed
// database is not waited for. It is the part of closing that holds nobody up: who
// closes many databases lets all of them come to its end before the first is closed.
func (d *Database) AwaitTransactions(ctx context.Context, patience time.Time) error {
	return d.act(ctx, "wait for transactions", func(ctx context.Context, s *session) error {
		_, sealed, err := s.writes(ctx)
		if err != nil || sealed {
			return err
		}
		return d.awaitTransactions(ctx, s, patience)
	})
}

// CloseAwaited does what CloseWritesUntil does after AwaitTransactions: what is open
// now is not waited for again.
func (d *Database) CloseAwaited(ctx context.Context, patience, until time.Time) (replication.Position, error) {
	return d.close(ctx, closing{patience: patience, awaited: true}, until)
}

func (d *Database) close(ctx context.Context, c closing, until time.Time) (replication.Position, error) {
	c.database = d
	d.beats.stop(ctx)
	for attempt := 1; ; attempt++ {
		position, err := c.act(ctx, until)
		if err == nil || attempt == closeAttempts || ctx.Err() != nil || !wasKilled(err) {
			return position, err
		}
	}
}

// wasKilled reports whether somebody ended this session.
func wasKilled(err error) bool {
	n := serverErrorNumber(err)
	return isLost(err) || n == errQueryInterrupted || n == errConnectionKilled
}

// closing is one run of CloseWrites.
type closing struct {
	database *Database
	session  *session
	patience time.Time // until then clients may end what they do
	awaited  bool      // what was open was waited for already
	deadline string    // on the server's clock, empty for none
}

// act is one attempt. Another closing of this process may take its connection for
// a client's before either knows of the other.
func (c closing) act(ctx context.Context, until time.Time) (position replication.Position, err error) {
	err = c.database.act(ctx, "close writes", func(ctx context.Context, s *session) (err error) {
		c.database.closers.Store(s.id, true)
		defer c.database.closers.Delete(s.id)
		c.session = s
		if !until.IsZero() {
			if c.deadline, err = s.serverDeadline(ctx, until); err != nil {
				return err
			}
		}
		position, err = c.run(ctx)
		return err
	})
	return position, err
}

func (c closing) run(ctx context.Context) (replication.Position, error) {
	d, s := c.database, c.session
	open, sealed, err := s.writes(ctx)
	if err != nil {
		return replication.Position{}, err
	}
	if !sealed {
		if !c.awaited {
			if err := d.awaitTransactions(ctx, s, c.patience); err != nil {
				return replication.Position{}, err
			}
		}
		if err := c.setReadOnly(ctx); err != nil {
			return replication.Position{}, err
		}
	}
	// After read_only, so that whoever finds writes open and the scheduler off
	// knows that it was not us.
	stopped, eventsErr := d.stopEvents(ctx, s, open)
	if stopped {
		// An event that began at this moment has no session yet that could be seen.
		if err := pause(ctx, frozenPause); err != nil {
			return replication.Position{}, err
		}
	}
	position, err := c.freeze(ctx)
	return position, errors.Join(err, eventsErr)
}

// setReadOnly sets read_only. While the statement waits for a client's lock it
// holds up all other writers. So as long as there is patience it does not wait
// where a long statement is in the way, and not for long where a lock is; then
// the clients are killed until nothing is in the way.
func (c closing) setReadOnly(ctx context.Context) error {
	for time.Now().Before(c.patience) {
		blocked, err := c.attempt(ctx, 0)
		if !blocked {
			return err
		}
		long, err := c.database.longStatements(ctx, c.session)
		if err != nil {
			return err
		}
		rest := statementPoll
		if !long {
			if blocked, err = c.attempt(ctx, shortWait); !blocked {
				return err
			}
			rest = blockedPause
		}
		if err := pause(ctx, min(rest, time.Until(c.patience))); err != nil {
			return err
		}
	}
	for wait := shortWait; ; wait = longWait {
		blocked, err := c.attempt(ctx, wait)
		if !blocked {
			return err
		}
		if _, err := c.database.disconnectClients(ctx, c.session); err != nil {
			return err
		}
	}
}

// attempt sets read_only unless something is in the way for longer than wait. A
// server that waits a second at least is not asked to wait for nothing: for those
// the look at the statements that run comes first.
func (c closing) attempt(ctx context.Context, wait time.Duration) (blocked bool, err error) {
	s := c.session
	if wait == 0 && !s.dialect.waitsShort {
		return true, nil
	}
	switch err := s.exec(ctx, s.dialect.closeWrites(wait, c.deadline, s.words)); serverErrorNumber(err) {
	case errLockWaitTimeout, errStatementTimeout:
		return true, nil
	default:
		if err != nil {
			return false, err
		}
	}
	_, sealed, err := s.writes(ctx)
	if err == nil && !sealed {
		err = ErrExpired
		if c.deadline == "" {
			err = errors.New("read_only was set and reads as not set")
		}
	}
	return false, err
}

// freeze disconnects the clients until nothing is written any more. Only this
// server's own writes count: a replica goes on applying.
func (c closing) freeze(ctx context.Context) (replication.Position, error) {
	d, s := c.database, c.session
	if _, err := s.openTransactions(ctx); err != nil {
		// Without PROCESS other accounts' sessions would silently not be seen.
		return replication.Position{}, fmt.Errorf("look for sessions: %w", err)
	}
	for {
		alone, err := d.disconnectClients(ctx, s)
		if err != nil {
			return replication.Position{}, err
		}
		before, err := s.ownWrites(ctx)
		if err != nil {
			return replication.Position{}, err
		}
		after := before
		if !alone {
			// Clients that came back at once may be of those that read_only does not bind.
			if err := pause(ctx, frozenPause); err != nil {
				return replication.Position{}, fmt.Errorf("writes go on with read_only set: %w", err)
			}
			if after, err = s.ownWrites(ctx); err != nil {
				return replication.Position{}, err
			}
		}
		if !after.readOnly {
			return replication.Position{}, errors.New("somebody opened writes again")
		}
		if after.own == before.own {
			return after.position, nil
		}
	}
}

// OpenWrites makes the database take writes, unless the server gets to it after
// until: then it stays closed and the error is ErrExpired. The event scheduler is
// started again if closing stopped it. Until is an instant of
// this host's clock; the server's own clock is read first, so that the two need
// not agree.
func (d *Database) OpenWrites(ctx context.Context, until time.Time) error {
	opening := d.beats.opening()
	err := d.act(ctx, "open writes", func(ctx context.Context, s *session) error {
		open, err := s.writesOpen(ctx)
		if err != nil {
			return err
		}
		deadline, err := s.serverDeadline(ctx, until)
		if err != nil {
			return err
		}
		if !open {
			if err := s.openWrites(ctx, deadline); err != nil {
				return err
			}
		}
		return d.startEvents(ctx, s, deadline)
	})
	if err == nil {
		d.beats.allow(opening)
	}
	return err
}

// serverDeadline returns until on the server's clock, as a decimal number of
// seconds. It is early by as long as the answer took, never late.
func (s *session) serverDeadline(ctx context.Context, until time.Time) (string, error) {
	return s.deadlineAfter(ctx, func() time.Duration { return time.Until(until) })
}

// deadlineAfter does the same for what is left when the server has answered.
func (s *session) deadlineAfter(ctx context.Context, rest func() time.Duration) (string, error) {
	r, err := queryOne(ctx, s.conn, serverTime)
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
	left := rest()
	if left <= 0 {
		return "", ErrExpired
	}
	end := whole*1e6 + micros + left.Microseconds()
	return fmt.Sprintf("%d.%06d", end/1e6, end%1e6), nil
}

func (s *session) openWrites(ctx context.Context, serverDeadline string) error {
	if err := s.exec(ctx, s.dialect.openWritesUntil(serverDeadline, s.words)); err != nil {
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
