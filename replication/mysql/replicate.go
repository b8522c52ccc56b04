package mysql

// Replication is stopped in the one order that keeps what was received. MariaDB
// throws the unapplied relay log away when the SQL thread starts with the IO
// thread stopped, and then reports that everything is applied.

import (
	"context"
	"fmt"
	"time"

	"github.com/tanist-ha/tanist/replication"
)

const (
	// waitSlice is how long one wait for a position lasts before the threads are
	// looked at again.
	waitSlice = 250 * time.Millisecond
	// connectPatience is how long an IO thread may be connecting before it counts
	// as dead: a living source is reached again within one retry.
	connectPatience = time.Second
)

// SQLThreadError says that an SQL thread stopped while it was needed.
type SQLThreadError struct {
	Channel string // empty for the unnamed one
	Last    replication.ServerError
}

func (e *SQLThreadError) Error() string {
	return fmt.Sprintf("SQL thread%s stopped: %s", channelLabel(e.Channel), e.Last)
}

// UnappliedError says that received transactions wait in a relay log whose
// threads are both stopped. Starting them would drop it; the relay log files
// must be saved or the loss accepted first.
type UnappliedError struct {
	Channel           string
	Received, Applied replication.Position
	Missing           uint64
}

func (e *UnappliedError) Error() string {
	return fmt.Sprintf("both threads%s are stopped with %d received transactions not applied (received %s, applied %s): starting them would drop the relay log",
		channelLabel(e.Channel), e.Missing, e.Received, e.Applied)
}

// NotReceivedError says that a position cannot be reached: nothing fetches it.
type NotReceivedError struct {
	Target, Here replication.Position // Here is received or applied
	Missing      uint64
}

func (e *NotReceivedError) Error() string {
	return fmt.Sprintf("%d transactions up to %s were never received (only %s) and no IO thread fetches them",
		e.Missing, e.Target, e.Here)
}

func channelLabel(name string) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf(" of channel %q", name)
}

// ReplicationStopped reports whether no replica thread runs or connects; so it
// is true of a database without channels.
func (d *Database) ReplicationStopped(ctx context.Context) (bool, error) {
	stopped := true
	err := d.look(ctx, "read replica threads", func(ctx context.Context, s *session) error {
		channels, err := s.channels(ctx)
		for _, c := range channels {
			stopped = stopped && c.IO == replication.ThreadStopped && c.SQL == replication.ThreadStopped
		}
		return err
	})
	return stopped && err == nil, err
}

// StopReplication applies everything received and then stops all channels. The
// caller records Facts.Received before: the server forgets it.
//
// It ends with a *SQLThreadError when a channel cannot apply, and with an
// *UnappliedError where starting the SQL thread would lose what it should apply;
// in both cases nothing was discarded. When ctx ends early, threads may be left
// stopped or running, never a relay log dropped.
//
// The settings of the channels stay. RESET would forget the relay log for good,
// the way back to replication after a rollback, and the trace of what happened;
// and it is not needed for opening writes. A server that starts its channels at
// boot brings them back, which Resume's gate refuses.
func (d *Database) StopReplication(ctx context.Context) error {
	return d.act(ctx, "stop replication", func(ctx context.Context, s *session) error { return s.stopDrained(ctx) })
}

func (s *session) stopDrained(ctx context.Context) error {
	channels, err := s.channels(ctx)
	if err != nil || len(channels) == 0 {
		return err
	}
	loosen, err := s.boundStops(ctx)
	if err != nil {
		return err
	}
	defer loosen()
	if err := s.startApplying(ctx, channels); err != nil {
		return err
	}
	// The long wait comes while the source is still connected, the short one
	// for what arrived in the meantime.
	if err := s.drain(ctx); err != nil {
		return err
	}
	if err := s.stopFetching(ctx); err != nil {
		return err
	}
	if err := s.drain(ctx); err != nil {
		return err
	}
	if err := s.stop(ctx, s.dialect.stopAll(), bothStopped); err != nil {
		return err
	}
	return s.verifyStopped(ctx)
}

// startApplying starts the SQL threads that can be started without loss.
func (s *session) startApplying(ctx context.Context, channels []replication.Channel) error {
	applied, err := s.applied(ctx)
	if err != nil {
		return err
	}
	for _, c := range channels {
		if c.SQL != replication.ThreadStopped {
			continue
		}
		if c.IO == replication.ThreadStopped {
			unapplied := nothingUnapplied(c, applied)
			if unapplied == nil {
				continue
			}
			if !s.dialect.keepsRelayLog {
				return unapplied
			}
		}
		if err := s.exec(ctx, s.dialect.startSQL(c.Name)); err != nil {
			return fmt.Errorf("start SQL thread%s: %w", channelLabel(c.Name), err)
		}
	}
	return nil
}

func nothingUnapplied(c replication.Channel, applied replication.Position) error {
	received, ok := c.Received.Get()
	if !ok {
		return fmt.Errorf("received position%s cannot be read", channelLabel(c.Name))
	}
	if n := applied.Missing(received); n > 0 {
		return &UnappliedError{Channel: c.Name, Received: received, Applied: applied, Missing: n}
	}
	return nil
}

// drain waits until what is received now is applied.
func (s *session) drain(ctx context.Context) error {
	var target replication.Position
	for first := true; ; first = false {
		channels, err := s.channels(ctx)
		if err != nil {
			return err
		}
		if first {
			if target, err = receivedBy(channels); err != nil {
				return err
			}
		}
		reached, err := s.reached(ctx, target)
		if err != nil || reached {
			return err
		}
		if err := s.mustApply(ctx, channels); err != nil {
			return err
		}
		if err := s.await(ctx, target); err != nil {
			return err
		}
	}
}

func (s *session) stopFetching(ctx context.Context) error {
	channels, err := s.channels(ctx)
	if err != nil {
		return err
	}
	for _, c := range channels {
		if c.IO == replication.ThreadStopped {
			continue
		}
		// An SQL thread that stopped meanwhile would find its relay log gone.
		if err := s.mustApply(ctx, []replication.Channel{c}); err != nil {
			return err
		}
		if err := s.stop(ctx, s.dialect.stopIO(c.Name), fetchesNot(c.Name)); err != nil {
			return fmt.Errorf("stop IO thread%s: %w", channelLabel(c.Name), err)
		}
	}
	return nil
}

func (s *session) verifyStopped(ctx context.Context) error {
	channels, err := s.channels(ctx)
	if err != nil {
		return err
	}
	applied, err := s.applied(ctx)
	if err != nil {
		return err
	}
	for _, c := range channels {
		if c.IO != replication.ThreadStopped || c.SQL != replication.ThreadStopped {
			return fmt.Errorf("threads%s are still there after stopping them: IO %s, SQL %s", channelLabel(c.Name), c.IO, c.SQL)
		}
		if err := nothingUnapplied(c, applied); err != nil {
			return err
		}
	}
	return nil
}

// CatchUp waits until the target is applied and returns the applied position;
// the empty target stands for all that is received when it is called. It ends at
// once with a *NotReceivedError when part of the target is not here and no IO
// thread could fetch it, and with a *SQLThreadError when none applies it.
func (d *Database) CatchUp(ctx context.Context, target replication.Position) (replication.Position, error) {
	var applied replication.Position
	err := d.act(ctx, "catch up", func(ctx context.Context, s *session) (err error) {
		if err := s.catchUp(ctx, target); err != nil {
			return err
		}
		applied, err = s.applied(ctx)
		return err
	})
	return applied, err
}

func (s *session) catchUp(ctx context.Context, target replication.Position) error {
	lastFetching := time.Now()
	for {
		channels, err := s.channels(ctx)
		if err != nil {
			return err
		}
		received, err := receivedBy(channels)
		if err != nil {
			return err
		}
		if target.Empty() {
			if target = received; target.Empty() {
				return nil
			}
		}
		reached, err := s.reached(ctx, target)
		if err != nil || reached {
			return err
		}
		switch bestIO(channels) {
		case replication.ThreadRunning:
			lastFetching = time.Now()
		case replication.ThreadConnecting:
			if time.Since(lastFetching) > connectPatience {
				err = s.mustBeHere(ctx, target, received)
			}
		default:
			err = s.mustBeHere(ctx, target, received)
		}
		if err != nil {
			return err
		}
		if err := s.mustApply(ctx, channels); err != nil {
			return err
		}
		if err := s.await(ctx, target); err != nil {
			return err
		}
	}
}

// bestIO returns the best state that any IO thread is in.
func bestIO(channels []replication.Channel) replication.ThreadState {
	best := replication.ThreadStopped
	for _, c := range channels {
		switch c.IO {
		case replication.ThreadRunning:
			return c.IO
		case replication.ThreadConnecting:
			best = c.IO
		case replication.ThreadStopped, replication.ThreadUnknown:
		}
	}
	return best
}

// mustBeHere asks that the target needs no fetching.
func (s *session) mustBeHere(ctx context.Context, target, received replication.Position) error {
	applied, err := s.applied(ctx)
	if err != nil {
		return err
	}
	here := received.Merge(applied)
	if missing := here.Missing(target); missing > 0 {
		return &NotReceivedError{Target: target, Here: here, Missing: missing}
	}
	return nil
}

func receivedBy(channels []replication.Channel) (replication.Position, error) {
	received, ok := replication.Facts{Channels: replication.Known(channels)}.Received()
	if !ok {
		return replication.Position{}, fmt.Errorf("received position cannot be read")
	}
	return received, nil
}

// mustApply asks that every channel's SQL thread runs, but for channels that are
// stopped altogether with nothing left to apply.
func (s *session) mustApply(ctx context.Context, channels []replication.Channel) error {
	applied, err := s.applied(ctx)
	if err != nil {
		return err
	}
	for _, c := range channels {
		received, known := c.Received.Get()
		idle := c.IO == replication.ThreadStopped && known && applied.Covers(received)
		if c.SQL == replication.ThreadRunning || idle {
			continue
		}
		last, _ := c.LastSQLError.Get()
		return &SQLThreadError{Channel: c.Name, Last: last}
	}
	return nil
}

func (s *session) applied(ctx context.Context) (replication.Position, error) {
	r, err := queryOne(ctx, s.conn, s.dialect.variables)
	if err != nil {
		return replication.Position{}, err
	}
	applied, ok := read(r, "applied", replication.ParsePosition).Get()
	if !ok {
		return replication.Position{}, fmt.Errorf("applied position %q cannot be read", r["applied"].String)
	}
	return applied, nil
}

func (s *session) reached(ctx context.Context, target replication.Position) (bool, error) {
	applied, err := s.applied(ctx)
	return err == nil && applied.Covers(target), err
}

// await waits for the target, at most one slice. Whether it was reached is read
// afterwards, not inferred.
func (s *session) await(ctx context.Context, target replication.Position) error {
	r, err := queryOne(ctx, s.conn, s.dialect.waitFor(target, waitSlice.Seconds()))
	if err != nil {
		return err
	}
	switch result := r["result"]; {
	case result.Valid && (result.String == "0" || result.String == s.dialect.noTime):
		return nil
	default:
		return fmt.Errorf("wait for %s: server answered %q", target, result.String)
	}
}
