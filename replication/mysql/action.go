package mysql

// An action runs on an operating connection whose id is known, because leaving a
// statement does not stop it: what was left behind is killed from the probe
// connection, and then looked at.

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/tanist-ha/tanist/replication"
)

// ErrOutcomeUnknown is in the error of an action that lost its connection, or ran
// out of time, after it began to change something. Its last statement may still
// take effect, except opening writes, which expires.
var ErrOutcomeUnknown = errors.New("outcome unknown")

// act runs f with a session on an operating connection. It ends with ctx, or
// after 30 s when ctx has no deadline, and up to half a second later when a
// statement has to be killed.
func (d *Database) act(ctx context.Context, action string, f func(context.Context, *session) error) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, defaultActionTimeout)
		defer cancel()
	}
	err := d.actOn(ctx, f)
	if err != nil {
		return fmt.Errorf("%s of database %s: %w", action, d.name, err)
	}
	return nil
}

func (d *Database) actOn(ctx context.Context, f func(context.Context, *session) error) error {
	c, err := d.operatingConn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	s, err := d.identify(ctx, c)
	if err != nil {
		return err
	}
	if err := f(ctx, s); err != nil {
		if serverErrorNumber(err) == errSpecificAccessDenied {
			// A session keeps the privileges it began with: one that is granted now
			// only a new one has.
			_ = c.Raw(func(any) error { return sqldriver.ErrBadConn })
		}
		if ctx.Err() == nil && !isLost(err) && !isTimeout(err) {
			return err
		}
		// Not within ctx, which is over; the connection goes first, so that the
		// probe can be had when it was the one that operated.
		c.Close()
		open, readErr := d.abandon(context.WithoutCancel(ctx), s)
		if !s.changed {
			return err
		}
		if readErr != nil {
			return fmt.Errorf("%w: %w (and read_only cannot be read: %w)", ErrOutcomeUnknown, err, readErr)
		}
		return fmt.Errorf("%w: %w (writes are now %s)", ErrOutcomeUnknown, err, openWord(open))
	}
	return nil
}

// operatingConn falls back on the probe's connection, which is there already,
// when the server has none to spare.
func (d *Database) operatingConn(ctx context.Context) (*sql.Conn, error) {
	c, err := d.operate.Conn(ctx)
	if err == nil || reachOf(err) != replication.ReachTooManyConnections {
		return c, err
	}
	return d.probe.Conn(ctx)
}

// abandon kills a session that got no answer and tells whether writes are open.
func (d *Database) abandon(ctx context.Context, s *session) (open bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, cleanUpTimeout)
	defer cancel()
	c, err := d.probe.Conn(ctx)
	if err != nil {
		return false, err
	}
	defer c.Close()
	if _, err := c.ExecContext(ctx, s.dialect.kill(s.id)); err != nil && serverErrorNumber(err) != errNoSuchThread {
		return false, err
	}
	again := session{conn: c, dialect: s.dialect}
	return again.writesOpen(ctx)
}

// look runs f with a session on the probe connection, within the limit of a
// measurement.
func (d *Database) look(ctx context.Context, action string, f func(context.Context, *session) error) error {
	ctx, cancel := context.WithTimeout(ctx, d.measureTimeout)
	defer cancel()
	err := d.lookOnce(ctx, f)
	if err != nil && isLost(err) && ctx.Err() == nil {
		err = d.lookOnce(ctx, f)
	}
	if err != nil {
		return fmt.Errorf("%s of database %s: %w", action, d.name, err)
	}
	return nil
}

func (d *Database) lookOnce(ctx context.Context, f func(context.Context, *session) error) error {
	c, err := d.probe.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	s, err := d.identify(ctx, c)
	if err != nil {
		return err
	}
	d.probeID.Store(s.id)
	return f(ctx, s)
}

func (s *session) exec(ctx context.Context, statement string) error {
	s.changed = true
	_, err := s.conn.ExecContext(ctx, statement)
	return err
}

func (s *session) writesOpen(ctx context.Context) (bool, error) {
	open, _, err := s.writes(ctx)
	return open, err
}

// writes reports whether ordinary accounts can write, and whether writes are
// sealed: closed as far as the server itself can, with super_read_only where there
// is one.
func (s *session) writes(ctx context.Context) (open, sealed bool, err error) {
	r, err := queryOne(ctx, s.conn, s.dialect.readOnly)
	if err != nil {
		return false, false, err
	}
	text := r["read_only"].String
	s.words = text != "0" && text != "1"
	readOnly, err := parseReadOnly(text)
	if err != nil {
		return false, false, err
	}
	closed, err := parseReadOnly(r[s.dialect.closes].String)
	return !readOnly, closed, err
}

func openWord(open bool) string {
	if open {
		return "open"
	}
	return "closed"
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
