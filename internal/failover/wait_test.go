package failover

import (
	"testing"
	"time"

	"github.com/tanist-ha/tanist/hooks"
)

const draining = 60 * time.Second

// drains has both nodes wait until lsyncd is empty before the unit stops.
func drains(c *Config) {
	c.Demote = hooks.Plan{
		c.Demote[0], c.Demote[1],
		{Name: "drain", Timeout: draining, Action: hooks.Wait{Lsyncd: "/var/log/lsyncd/lsyncd.status"}},
		c.Demote[2],
		{Name: "tell", Timeout: time.Second, OnError: hooks.Continue, Action: hooks.Notify{Webhook: "http://hooks.example/{{.Active}}"}},
	}
}

// A demotion that nobody planned goes on at once to what it takes away from this
// node, and tells once.
func TestUnplannedDemotionDoesNotWait(t *testing.T) {
	r := activeRig(t, drains)
	r.after(time.Millisecond, Probed{Check: "gateway", OK: false, Detail: "no answer"})
	need[Drop](r)
	r.ends("close", hooks.Changed)
	r.ends("unit", hooks.Changed)
	r.ends("tell", hooks.Changed)
	r.wantState(Fault, Unhealthy)
	// Later it hears who is Active, and comes in line with that.
	r.after(time.Millisecond, Probed{Check: "gateway", OK: true})
	r.hears(253)
	for range 3 {
		r.says(PeerState{State: Active, Holds: true, Epoch: 2, ActiveEpoch: 2})
		if _, ok := find[StartStep](r); ok {
			break
		}
	}
	r.ends("close", hooks.Unchanged)
	r.ends("unit", hooks.Unchanged)
	none[StartStep](r)
	if r.o.run != nil {
		t.Error("the plan goes on")
	}
}

// A node that boots neither waits nor tells.
func TestBootDoesNotWait(t *testing.T) {
	r := newRig(t, drains)
	r.boots()
}

// In a handover the wait has its place and its words, and on_error decides: after
// the address has moved the unit stops in any case.
func TestHandoverWaits(t *testing.T) {
	r := activeRig(t, drains)
	r.says(PeerState{State: Backup, Bids: true, Stopped: []string{unit}})
	r.after(time.Millisecond, SwitchoverWanted{Command: 1, Request: Request{To: "reserve", Timeout: time.Minute}})
	check := need[CheckSteps](r)
	r.after(time.Millisecond, Checked{ID: check.ID})
	id := r.o.give.id
	r.takes(id, TakePrepared)
	learned := need[Append](r)
	r.ends("close", hooks.Changed)
	r.after(time.Millisecond, Durable{ID: learned.ID})
	r.takes(id, TakeAcquired)
	need[Drop](r)
	s := need[StartStep](r)
	if s.Order.Step.Name != "drain" {
		t.Fatalf("started %s", s.Order.Step.Name)
	}
	r.after(time.Millisecond, StepSaid{ID: s.Order.ID, Detail: "lsyncd: 12 delays left"})
	tell := need[Tell](r)
	shows := func(steps []hooks.Result) {
		t.Helper()
		if got := steps[2]; got.Outcome != hooks.Running || got.Detail != "lsyncd: 12 delays left" {
			t.Errorf("%+v", got)
		}
	}
	shows(tell.State.Steps)
	shows(r.o.Status(r.now).Last.Steps)
	r.after(time.Millisecond, StepSaid{ID: s.Order.ID + 1, Detail: "nobody's"})
	shows(r.o.Status(r.now).Last.Steps)

	r.after(time.Millisecond, StepEnded{ID: s.Order.ID, Outcome: hooks.TimedOut, Detail: "lsyncd: 12 delays left", Output: "printed"})
	if steps := need[Tell](r).State.Steps; steps[2].Output != "" || r.o.Status(r.now).Last.Steps[2].Output != "printed" {
		t.Errorf("here %+v, told %+v", r.o.Status(r.now).Last.Steps[2], steps[2])
	}
	if rec := need[Append](r).Record; rec.Kind != hooks.Stepped || rec.Step.Output != "printed" {
		t.Errorf("%+v", rec)
	}
	r.ends("unit", hooks.Changed)
	r.ends("tell", hooks.Changed)
}

// The new node keeps its unit back for as long as the old one may wait, and says
// for what.
func TestHeldUnitOutlastsTheWait(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Promote = c.Promote[2:]; drains(c) })
	r.boots()
	r.run(time.Second)
	says := func(stopped ...string) {
		r.says(PeerState{State: Demoting, Stopped: stopped})
	}
	r.says(PeerState{State: Refused})
	r.journaled(nil)
	says()
	if _, ok := find[Hold](r); !ok {
		says()
	}
	r.acquires(nil)
	for begun := r.now; r.now.Sub(begun) < draining; {
		says()
		none[StartStep](r)
		if w := r.o.Status(r.now).Waiting; w.For != "reserve to stop "+unit {
			t.Fatalf("after %s it waits for %q", r.now.Sub(begun), w.For)
		}
		r.run(200 * time.Millisecond)
	}
	says(unit)
	if w := r.o.Status(r.now).Waiting; w != (Waiting{}) {
		t.Errorf("it waits for %q", w.For)
	}
	r.ends("unit", hooks.Changed)
	r.wantState(Active, PeerLeft)
}
