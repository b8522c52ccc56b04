package failover

import (
	"testing"
	"time"

	"github.com/tanist-ha/tanist/hooks"
)

// tellsFirst lets the promotion tell somebody and run a program behind the address,
// before it starts a unit.
func tellsFirst(c *Config) {
	vip := c.Promote.Pivot()
	head := append(hooks.Plan(nil), c.Promote[:vip+1]...)
	c.Promote = append(head,
		hooks.Step{Name: "tell", Timeout: time.Second, Action: hooks.Notify{Exec: []string{"/bin/tell"}}},
		hooks.Step{Name: "exec", Timeout: time.Second, Action: hooks.Exec{Command: []string{"/bin/x"}}},
		hooks.Step{Name: "unit", Timeout: time.Second, Action: hooks.Unit{Verb: hooks.StartUnit, Name: "app.service"}},
	)
}

// starts lets time pass until a step is started, at most for limit.
func (r *rig) starts(limit time.Duration) {
	r.t.Helper()
	for end := r.now.Add(limit); r.now.Before(end); r.step(Tick{}) {
		if _, ok := find[StartStep](r); ok {
			return
		}
		at, _ := r.o.Deadline()
		r.now = max(r.now, at)
	}
	r.t.Fatal("nothing is started")
}

// A promotion that a crash cut off is gone on with, and nobody is told again.
func TestAnAdoptedPromotionTellsNobody(t *testing.T) {
	r := newRig(t, tellsFirst)
	r.step(Started{Boot: 8, Leftover: true, Memory: hooks.Memory{Epoch: 2, ActiveEpoch: 2, Role: hooks.Active}})
	r.ends("exec", hooks.Changed)
	r.ends("unit", hooks.Failed)
	r.starts(failureDelay + time.Second)
	r.ends("unit", hooks.Changed) // what was done is not done again
	if r.o.fixAt != 0 {
		t.Error("the promotion counts as incomplete")
	}
}

// Writes that are put right meanwhile do not make the promotion forget what it did.
func TestAnAssertionLeavesTheIncompletePromotion(t *testing.T) {
	for _, out := range []hooks.Outcome{hooks.Changed, hooks.Failed} {
		r := newRig(t, func(c *Config) {
			c.Promote = c.Promote[2:]
			tellsFirst(c)
		})
		r.boots()
		r.asksSilence()
		r.journaled(nil)
		r.acquires(nil)
		r.ends("tell", hooks.Changed)
		r.ends("exec", hooks.Changed)
		r.ends("unit", hooks.Failed)
		before := r.o.last
		r.o.startRun(&planRun{
			purpose: asserting, plan: hooks.Plan{{Name: "open", Timeout: time.Second, Action: hooks.Writes{Open: true}}}, to: 1,
			role: hooks.Active, epoch: r.o.activeEpoch, reason: Drifted,
		})
		if r.o.last == before {
			t.Fatal("status does not show what runs")
		}
		r.step(StepEnded{ID: hooks.StepID(r.o.lastID), Outcome: out})
		if r.o.last != before {
			t.Fatalf("%s: the promotion is forgotten", out)
		}
		r.starts(failureDelay + time.Second)
		r.ends("unit", hooks.Changed)
		if r.o.fixAt != 0 {
			t.Errorf("%s: the promotion counts as incomplete", out)
		}
	}
}
