package node

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
)

// A transition begins at once, whatever the checks of the role do.
func TestATransitionDoesNotWaitForChecks(t *testing.T) {
	for _, tt := range []struct {
		name  string
		hangs func(ctx context.Context)
	}{
		{"a check that ends with its context", func(ctx context.Context) { <-ctx.Done() }},
		{"a check that nobody can end", func(context.Context) { time.Sleep(time.Minute) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, a := active(t, "a")
				began, over := make(chan struct{}, 1), make(chan error, 1)
				a.set(func() {
					a.check = func(ctx context.Context) (hooks.Outcome, string) {
						select {
						case began <- struct{}{}:
							tt.hangs(ctx)
							over <- ctx.Err()
						default:
						}
						return hooks.Unchanged, ""
					}
				})
				select {
				case <-began:
				case <-time.After(time.Minute):
					t.Fatal("nothing is checked")
				}
				before := len(a.did())
				w.heed(50 * time.Millisecond)
				synctest.Wait()
				if did := since(a, before); !strings.Contains(did, "begin unit stop a.service") {
					t.Errorf("did %s", did)
				}
				if err := <-over; err == nil {
					t.Error("the check was not cancelled")
				}
			})
		})
	}
}

// A check that hangs says nothing of the steps behind it.
func TestChecksAreBoundedOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := true
		h := &host{check: func(ctx context.Context) (hooks.Outcome, string) {
			if first {
				first = false
				<-ctx.Done()
				return hooks.Failed, ctx.Err().Error()
			}
			return hooks.Changed, ""
		}}
		in := &instance{Instance: Instance{Steps: h}}
		step := hooks.Step{Timeout: 30 * time.Second, Action: hooks.Unit{Verb: hooks.StopUnit, Name: "a.service"}}
		ev := in.check(t.Context(), failover.CheckSteps{ID: 7, Plan: hooks.Plan{step, step}, Each: 5 * time.Second})
		var got []hooks.Outcome
		for _, res := range ev.(failover.Checked).Results {
			got = append(got, res.Outcome)
		}
		if diff := cmp.Diff([]hooks.Outcome{hooks.TimedOut, hooks.Changed}, got); diff != "" {
			t.Error(diff)
		}
	})
}
