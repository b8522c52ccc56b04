package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/tanist-ha/tanist/hooks"
)

// turn keeps an operator's command and a plan's step from working on the same
// databases at once: a promotion must not find threads started behind its back.
// A step ends the command and goes first; no command begins beside a step.
type turn struct {
	mu    sync.Mutex // guards the fields below
	steps int        // under way
	end   context.CancelFunc
	ended chan struct{} // of the command under way, nil: none
}

var (
	errPlanRuns    = errors.New("a transition is working on the databases: try again when it is over")
	errCommandRuns = errors.New("another replication command is under way")
	errPlanCame    = errors.New("a transition began and ended this command")
)

// command begins an operator's command. Its context ends when a step comes.
func (t *turn) command(ctx context.Context) (context.Context, func(), error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.steps > 0:
		return nil, nil, errPlanRuns
	case t.ended != nil:
		return nil, nil, errCommandRuns
	}
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	t.end, t.ended = func() { cancel(errPlanCame) }, ended
	return ctx, func() {
		cancel(nil)
		t.mu.Lock()
		t.end, t.ended = nil, nil
		t.mu.Unlock()
		close(ended)
	}, nil
}

// step begins a step, when the command under way has ended.
func (t *turn) step(ctx context.Context) (func(), error) {
	t.mu.Lock()
	t.steps++
	end, ended := t.end, t.ended
	t.mu.Unlock()
	done := func() {
		t.mu.Lock()
		t.steps--
		t.mu.Unlock()
	}
	if ended == nil {
		return done, nil
	}
	end()
	select {
	case <-ended:
		return done, nil
	case <-ctx.Done():
		done()
		return nil, fmt.Errorf("wait for the end of an operator's replication command: %w", ctx.Err())
	}
}

// onDatabases reports whether a step works on the databases.
func onDatabases(a hooks.Action) bool {
	switch a.(type) {
	case hooks.Writes, hooks.Replication:
		return true
	case hooks.VIP, hooks.Unit, hooks.YAML, hooks.Exec, hooks.JSON, hooks.Line, hooks.Link, hooks.Notify, hooks.Wait:
	}
	return false
}
