package main

import (
	"context"
	"errors"
	"testing"
)

// A step ends the operator's command, waits for its end, and keeps others away.
func TestAStepGoesFirst(t *testing.T) {
	var turn turn
	ctx, done, err := turn.command(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := turn.command(t.Context()); !errors.Is(err, errCommandRuns) {
		t.Errorf("a second command: %v", err)
	}
	began := make(chan func(), 1)
	go func() {
		end, err := turn.step(t.Context())
		if err != nil {
			t.Error(err)
		}
		began <- end
	}()
	<-ctx.Done()
	if !errors.Is(context.Cause(ctx), errPlanCame) {
		t.Errorf("ended by %v", context.Cause(ctx))
	}
	select {
	case <-began:
		t.Fatal("the step did not wait for the command's end")
	default:
	}
	done()
	end := <-began
	if _, _, err := turn.command(t.Context()); !errors.Is(err, errPlanRuns) {
		t.Errorf("a command beside a step: %v", err)
	}
	end()
	if _, done, err = turn.command(t.Context()); err != nil {
		t.Fatal(err)
	}
	done()
}

// A command that does not end keeps a step no longer than the step has time.
func TestAStepDoesNotWaitForEver(t *testing.T) {
	var turn turn
	_, done, err := turn.command(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := turn.step(over); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	done()
	if _, done, err = turn.command(t.Context()); err != nil {
		t.Fatalf("the step that gave up still counts: %v", err)
	}
	done()
}
