package node

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/internal/failover"
)

// oracle is a witness that answers after a time, if it is asked for that long.
type oracle struct {
	verdict failover.Verdict
	after   time.Duration

	mu    sync.Mutex
	asked []failover.Purpose
}

func (o *oracle) Ask(ctx context.Context, q failover.AskWitness) (failover.Verdict, string) {
	o.mu.Lock()
	o.asked = append(o.asked, q.Purpose)
	o.mu.Unlock()
	select {
	case <-time.After(o.after):
		return o.verdict, "it says " + o.verdict.String()
	case <-ctx.Done():
		return failover.VerdictUnknown, "no answer in time"
	}
}

// TestWitness: the question is a worker's, and has a bound.
func TestWitness(t *testing.T) {
	for _, tt := range []struct {
		name   string
		oracle *oracle
		state  failover.State
		detail string
	}{
		{"yes", &oracle{verdict: failover.VerdictYes}, failover.Active, "it says yes"},
		{"no", &oracle{verdict: failover.VerdictNo}, failover.Refused, "it says no"},
		{"it hangs", &oracle{verdict: failover.VerdictYes, after: time.Hour}, failover.Refused, "no answer in time"},
		{"there is none", nil, failover.Refused, "this node has no witness to ask"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "compass")
				cfg := coreConfig("compass", 51)
				cfg.Witness = "gateway"
				core, err := failover.New(cfg)
				if err != nil {
					t.Fatal(err)
				}
				in := w.node.instances[0]
				in.Core = core
				if tt.oracle != nil {
					in.Witness = tt.oracle
				}
				w.run()
				w.until("compass", tt.state)
				if got := w.status("compass").Witness; got == nil || got.Detail != tt.detail {
					t.Errorf("%+v", got)
				}
				if tt.state == failover.Refused {
					if why := w.status("compass").Why.Reason; why != failover.WitnessSilent {
						t.Errorf("%s", why)
					}
				}
				if tt.oracle == nil {
					return
				}
				tt.oracle.mu.Lock()
				defer tt.oracle.mu.Unlock()
				takes := false
				for _, p := range tt.oracle.asked {
					takes = takes || p == failover.ToTake
				}
				if diff := cmp.Diff(true, takes); diff != "" {
					t.Errorf("asked to take: %v", tt.oracle.asked)
				}
			})
		})
	}
}
