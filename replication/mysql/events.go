package mysql

// The event scheduler goes with the role: stopped with the close, started with
// the open if it was the close that stopped it. A server that restarted has the
// scheduler its configuration names, and says so; one whose scheduler was set by
// a statement says that. So the mark outlives this process where it must and goes
// when it must.

import (
	"context"
	"fmt"
)

// The states of a scheduler. A disabled one cannot be started but by a restart of
// the server with another configuration.
const (
	eventsOn       = "ON"
	eventsOff      = "OFF"
	eventsDisabled = "DISABLED"
)

// eventsKept is what closing found, for the opening after it.
type eventsKept uint32

const (
	eventsUnknown eventsKept = iota // closed by an earlier process, or not yet
	eventsRan
	eventsRested // off though writes were open: that was not us
)

// stopEvents stops the scheduler of a database that was just closed, or was
// closed already. Stopped means that it ran until now.
func (d *Database) stopEvents(ctx context.Context, s *session, wasOpen bool) (stopped bool, err error) {
	state, err := s.eventScheduler(ctx)
	if err != nil {
		return false, err
	}
	if state != eventsOn {
		if wasOpen && state == eventsOff {
			d.events.Store(uint32(eventsRested))
		}
		return false, nil
	}
	d.events.Store(uint32(eventsRan))
	if err := s.exec(ctx, stopEvents); err != nil {
		return false, fmt.Errorf("stop the event scheduler: %w", err)
	}
	if state, err = s.eventScheduler(ctx); err == nil && state == eventsOn {
		err = fmt.Errorf("stop the event scheduler: it is still %s", state)
	}
	return true, err
}

// startEvents starts the scheduler of an open database if closing stopped it,
// unless the server gets to it after the deadline on its own clock.
func (d *Database) startEvents(ctx context.Context, s *session, deadline string) error {
	asItWas, err := d.eventsGoWith(ctx, s, true)
	if err != nil || asItWas {
		return err
	}
	if err := s.exec(ctx, s.dialect.startEventsUntil(deadline)); err != nil {
		return fmt.Errorf("start the event scheduler: %w", err)
	}
	state, err := s.eventScheduler(ctx)
	if err != nil {
		return err
	}
	if state != eventsOn {
		return fmt.Errorf("start the event scheduler: %w", ErrExpired)
	}
	d.events.Store(uint32(eventsUnknown))
	return nil
}

// eventsGoWith reports whether the scheduler is as it should be with writes open,
// or closed.
func (d *Database) eventsGoWith(ctx context.Context, s *session, open bool) (bool, error) {
	state, err := s.eventScheduler(ctx)
	if err != nil || !open || state != eventsOff {
		return err == nil && (open || state != eventsOn), err
	}
	switch eventsKept(d.events.Load()) {
	case eventsRan:
		return false, nil
	case eventsRested:
		return true, nil
	case eventsUnknown:
	}
	stopped, err := s.eventsSetByStatement(ctx)
	return !stopped, err
}

// eventsSetByStatement reports whether the scheduler is as a statement left it. It
// is false where the server does not tell: then only the process that stopped the
// scheduler starts it again.
func (s *session) eventsSetByStatement(ctx context.Context) (bool, error) {
	if s.dialect.eventsSet == "" {
		return false, nil
	}
	r, err := queryOne(ctx, s.conn, s.dialect.eventsSet)
	return r["by_statement"].String == "1", err
}

func (s *session) eventScheduler(ctx context.Context) (string, error) {
	r, err := queryOne(ctx, s.conn, readEvents)
	return r["state"].String, err
}
