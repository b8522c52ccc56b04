package step

// The wait step: nothing is changed, something is waited for.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"

	"github.com/tanist-ha/tanist/hooks"
)

const (
	waitPoll    = 250 * time.Millisecond
	connectTime = 2 * time.Second // for one attempt at a port
)

// condition is what a wait step waits for.
type condition interface {
	// begin is called once, before the first met of an Apply. An error ends the
	// wait: what is waited for cannot come.
	begin() error
	// met says whether it is so, and if not, how far it is.
	met(ctx context.Context) (ok bool, progress string, err error)
	// standing says whether it is so now, without a wait.
	standing(ctx context.Context) (State, error)
}

type wait struct {
	condition condition
	say       func(string)
	over      bool // the last Apply saw it so
}

// NewWait returns the step that waits until its condition holds. While it waits
// say hears how far it is, several times a second; say may be nil.
//
//   - Lsyncd: everything that was written below the trees of this lsyncd before
//     the step began has been carried to the other side. See Drained.
//   - TCP: the port accepts a connection.
//   - File: the path exists.
//
// Check is Ok when the condition holds, WouldChange when it has to be waited for
// and Cannot when it cannot come: an lsyncd that does not run. After an Apply that
// saw it hold it is Ok: what was true once was waited for.
func NewWait(a hooks.Wait, say func(string)) Step {
	if say == nil {
		say = func(string) {}
	}
	w := &wait{say: say}
	switch {
	case a.Lsyncd != "":
		w.condition = &drained{status: a.Lsyncd, proc: "/proc"}
	case a.TCP != "":
		w.condition = answering{a.TCP}
	default:
		w.condition = existing{a.File}
	}
	return w
}

func (w *wait) Check(ctx context.Context) (State, error) {
	if w.over {
		return Ok, nil
	}
	state, err := w.condition.standing(ctx)
	if err != nil {
		return cannot(err)
	}
	return state, nil
}

func (w *wait) Apply(ctx context.Context) error {
	w.over = false
	if err := w.condition.begin(); err != nil {
		return err
	}
	for {
		ok, progress, err := w.condition.met(ctx)
		switch {
		case err != nil:
			return err
		case ok:
			w.over = true
			return nil
		}
		w.say(progress)
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", progress, context.Cause(ctx))
		case <-time.After(waitPoll):
		}
	}
}

// answering is a TCP port that accepts connections.
type answering struct{ address string }

func (answering) begin() error { return nil }

func (a answering) met(ctx context.Context) (bool, string, error) {
	err := a.connect(ctx)
	if err == nil {
		return true, "", nil
	}
	return false, text(err), nil
}

func (a answering) standing(ctx context.Context) (State, error) {
	if ok, _, _ := a.met(ctx); ok {
		return Ok, nil
	}
	return WouldChange, nil
}

func (a answering) connect(ctx context.Context) error {
	d := net.Dialer{Timeout: connectTime}
	c, err := d.DialContext(ctx, "tcp", a.address)
	if err != nil {
		return err
	}
	return c.Close()
}

// existing is a path that there is.
type existing struct{ path string }

func (existing) begin() error { return nil }

func (e existing) met(context.Context) (bool, string, error) {
	_, err := os.Stat(e.path)
	switch {
	case err == nil:
		return true, "", nil
	case errors.Is(err, fs.ErrNotExist):
		return false, e.path + " does not exist", nil
	}
	return false, "", err
}

func (e existing) standing(ctx context.Context) (State, error) {
	ok, _, err := e.met(ctx)
	switch {
	case err != nil:
		return Cannot, err
	case ok:
		return Ok, nil
	}
	return WouldChange, nil
}
