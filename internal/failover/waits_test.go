package failover

import (
	"testing"
	"time"

	"github.com/tanist-ha/tanist/hooks"
)

// A dead lsyncd refuses a switchover, and does not keep the role where it cannot stay.
func TestAWaitThatCannotCome(t *testing.T) {
	const dead = "lsyncd does not run"
	// The wait stands in front of the address: failing, it would take all back.
	waits := func(c *Config) {
		c.Demote = hooks.Plan{
			{Name: "drain", Timeout: draining, Action: hooks.Wait{Lsyncd: "/s"}},
			{Name: "other", Timeout: draining, Action: hooks.Exec{Command: []string{"/x"}, Verify: []string{"/y"}}},
			c.Demote[0], c.Demote[1], c.Demote[2],
		}
	}
	for _, tt := range []struct {
		name  string
		force bool
		cause Reason
		also  bool // another step cannot be done
		goes  bool
	}{
		{"an ordinary switchover", false, Requested, false, false},
		{"a forced one", true, Requested, false, true},
		{"a health check", false, Unhealthy, false, true},
		{"a daemon that ends", false, Stopping, false, true},
		{"a preempting node", false, Preempting, false, false},
		{"a forced one, and something else", true, Requested, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := activeRig(t, waits)
			r.says(PeerState{State: Backup, Bids: true, Stopped: []string{unit}})
			r.o.out = nil
			r.o.beginGive(&giving{cause: tt.cause, command: 4, request: Request{Force: tt.force, Reason: "r"}, until: r.now.Add(time.Minute)})
			r.out = r.o.out
			ev := Checked{ID: need[CheckSteps](r).ID, Cannot: []string{"drain: " + dead}}
			ev.Results = make([]hooks.Result, len(r.o.cfg.Demote))
			ev.Results[0] = hooks.Result{Name: "drain", Outcome: hooks.Failed, Detail: dead}
			if tt.also {
				ev.Results[1] = hooks.Result{Name: "other", Outcome: hooks.Failed, Detail: dead}
				ev.Cannot = append(ev.Cannot, "other: "+dead)
			}
			r.after(time.Millisecond, ev)
			if !tt.goes {
				want := "primary: drain: " + dead
				if tt.also {
					want = "primary: other: " + dead
				}
				if a := need[Answer](r); a.Outcome != RefusedTo || a.Why.Reason != StepFailed || a.Why.Detail != want {
					t.Errorf("%+v", a)
				}
				return
			}
			none[Answer](r)
			r.takes(r.o.give.id, TakePrepared)
			r.ends("drain", hooks.Failed)
			r.ends("other", hooks.Changed)
			r.ends("close", hooks.Changed)
		})
	}
}

// The new node neither refuses for a wait of its own plan.
func TestANewNodeWhoseWaitCannotCome(t *testing.T) {
	for _, force := range []bool{false, true} {
		r := newRig(t, func(c *Config) {
			c.Promote = append(hooks.Plan{{Name: "app", Timeout: time.Second, Action: hooks.Wait{File: "/proc/1/x/y"}}}, c.Promote[2:]...)
		})
		r.boots()
		id := HandoverID{Boot: 99, Seq: 1}
		g := Give{ID: id, Stage: GivePreparing, Epoch: 2, Force: force, Cause: Requested}
		r.says(PeerState{State: Active, Holds: true, Epoch: 1, ActiveEpoch: 1, Give: &g})
		check := need[CheckSteps](r)
		r.after(time.Millisecond, Checked{ID: check.ID, Cannot: []string{"app: no"}, Results: []hooks.Result{{Name: "app", Outcome: hooks.Failed, Detail: "no"}}})
		want := TakeRefused
		if force {
			want = TakePrepared
		}
		if got := r.o.take.view.Stage; got != want {
			t.Errorf("force %v: %d, want %d", force, got, want)
		}
		if force && r.o.take.plan[0].OnError != hooks.Continue {
			t.Error("the wait ends the promotion")
		}
	}
}
