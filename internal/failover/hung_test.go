package failover

import (
	"testing"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/replication"
)

// A hung is a node whose repair of a unit does not come back.
type hung struct {
	*rig
	peer     PeerState
	facts    func() []replication.Facts
	repair   hooks.StepID
	canceled bool // somebody wants the repair ended
	out      []Effect
}

// slow are the steps of a plan, repaired, with no bound that a test would meet.
func slow(p hooks.Plan) hooks.Plan {
	q := repairs(p)
	for i := range q {
		q[i].Timeout = time.Hour
	}
	return q
}

// hang lets time pass until the unit is repaired, which nobody answers.
func hang(t *testing.T, r *rig, peer PeerState, facts func() []replication.Facts) *hung {
	t.Helper()
	h := &hung{rig: r, peer: peer, facts: facts}
	h.lives(3 * checkEvery)
	if h.repair == 0 || h.canceled {
		t.Fatalf("no repair hangs: %v", r.drifted())
	}
	h.out = nil
	return h
}

func (h *hung) lives(d time.Duration) {
	h.pump(d, h.peer, func() []replication.Facts {
		fs := h.facts()
		for i := range fs {
			fs[i].MeasuredAt = h.now
		}
		return fs
	}, h.sees)
}

func (h *hung) sees(e Effect) Event {
	h.out = append(h.out, e)
	switch e := e.(type) {
	case CheckSteps:
		return found(e, wrong)
	case CancelStep:
		h.canceled = h.canceled || e.ID == h.repair
	case StartStep:
		if h.o.run.purpose == mending {
			h.repair = e.Order.ID
			return nil
		}
		return StepEnded{ID: e.Order.ID, Outcome: hooks.Changed}
	default:
	}
	return nil
}

func (h *hung) closed() (n int) {
	for _, e := range h.out {
		if _, ok := e.(CloseWrites); ok {
			n++
		}
	}
	return n
}

func TestWritesOfAStandbyWaitForNoRepair(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Databases, c.Demote = []string{"team"}, slow(c.Demote) })
	r.boots()
	peer := activePeer(3)
	peer.Sources = AllSources
	opened := false
	h := hang(t, r, peer, func() []replication.Facts {
		f := r.replica("team", "0-1-1", replication.ThreadRunning)
		f.ReadOnly = replication.Known(!opened)
		return []replication.Facts{f}
	})
	if h.lives(2 * measurePatience); h.closed() > 0 || h.canceled {
		t.Fatal("a standby that is as it should be is closed")
	}
	opened = true
	h.lives(2 * measurePatience)
	if h.closed() == 0 {
		t.Error("writes stay open beside a repair that hangs")
	}
	if !h.canceled {
		t.Error("the repair goes on")
	}
	n := h.closed()
	if h.lives(2 * measurePatience); h.closed() == n {
		t.Error("closed once only, though it is open still")
	}
	r.step(StepEnded{ID: h.repair, Outcome: hooks.Cancelled})
	if s := need[StartStep](r); s.Order.Step.Name != "close" {
		t.Errorf("then %s", s.Order.Step.Name)
	}
}

// hungSource is an Active with a database.
func hungSource(t *testing.T) (h *hung, fact *replication.Facts) {
	t.Helper()
	r := newRig(t, func(c *Config) {
		c.Databases, c.Promote = []string{"team"}, slow(c.Promote)
		withDisk(c)
	})
	r.step(Started{Boot: 7, Leftover: true, Memory: hooks.Memory{Epoch: 4, ActiveEpoch: 4, Role: hooks.Active, Finished: true}})
	r.well()
	f := r.source("team", "0-1-1")
	peer := PeerState{State: Backup, Bids: true, Hears: true, Sources: AllReplicas, Stopped: []string{unit}}
	h = hang(t, r, peer, func() []replication.Facts { return []replication.Facts{f} })
	return h, &f
}

func TestWhatARepairThatHangsDoesNotHoldUp(t *testing.T) {
	t.Run("a handover away from a dead database", func(t *testing.T) {
		h, f := hungSource(t)
		*f = h.down("team", replication.ReachRefused)
		h.lives(2 * measurePatience)
		if !h.o.giving() || h.o.give.cause != DatabaseDown || !h.canceled {
			t.Errorf("giving %v, repair cancelled %v", h.o.giving(), h.canceled)
		}
	})
	t.Run("nor does the plan that waits for its end", func(t *testing.T) {
		h, f := hungSource(t)
		f.ReadOnly = replication.Known(true)
		if h.lives(2 * measurePatience); h.o.nextRun == nil {
			t.Fatal("nothing waits")
		}
		*f = h.down("team", replication.ReachRefused)
		if h.lives(2 * measurePatience); !h.o.giving() {
			t.Error("the role stays")
		}
	})
	t.Run("one that a health check wants", func(t *testing.T) {
		h, _ := hungSource(t)
		for _, e := range h.step(Probed{Check: "disk", Detail: "full"}) {
			h.sees(e)
		}
		h.lives(2 * measurePatience)
		if !h.o.giving() || h.o.give.cause != Unhealthy || !h.canceled {
			t.Errorf("giving %v, repair cancelled %v", h.o.giving(), h.canceled)
		}
	})
	t.Run("the opening of a database that came back closed", func(t *testing.T) {
		h, f := hungSource(t)
		f.ReadOnly = replication.Known(true)
		h.lives(2 * measurePatience)
		if !h.canceled || h.closed() > 0 {
			t.Fatalf("repair cancelled %v, closed %d times", h.canceled, h.closed())
		}
		h.step(StepEnded{ID: h.repair, Outcome: hooks.Cancelled})
		h.wantStep(hooks.Writes{Open: true})
	})
	t.Run("removing a channel, after which status tells of the promotion", func(t *testing.T) {
		h, f := hungSource(t)
		*f = stopped(*f)
		h.lives(2 * measurePatience)
		h.step(StepEnded{ID: h.repair, Outcome: hooks.Cancelled})
		h.wantStep(hooks.Replication{Verb: hooks.ResetReplication})
		h.ends("replication reset", hooks.Changed)
		if last := h.o.lastTold(); last.Reason != Adopted {
			t.Errorf("%+v", last)
		}
	})
	t.Run("the rest of a promotion", func(t *testing.T) {
		h, _ := hungSource(t)
		h.o.fixAt = h.now
		h.lives(2 * measurePatience)
		if !h.canceled {
			t.Fatal("the repair goes on")
		}
		h.step(StepEnded{ID: h.repair, Outcome: hooks.Cancelled})
		if s := need[StartStep](h.rig); h.o.run.purpose != repairing || s.Order.Step.Name != "unit" {
			t.Errorf("purpose %d, step %s", h.o.run.purpose, s.Order.Step.Name)
		}
	})
	t.Run("heartbeats", func(t *testing.T) {
		h, _ := hungSource(t)
		at := h.o.measure.beatAt
		if h.lives(2 * measurePatience); h.o.measure.beatAt == at || h.canceled {
			t.Errorf("none is written; repair cancelled %v", h.canceled)
		}
	})
}

// Nor does an operator wait for one: it is on its way out when nobody is Active.
func TestAnOperatorWaitsForNoRepair(t *testing.T) {
	r := settledRig(t, func(c *Config) { c.Demote = slow(c.Demote) })
	h := hang(t, r, activePeer(3), func() []replication.Facts { return nil })
	h.says(PeerState{State: Backup, ActiveEpoch: 3, Epoch: 3, Sources: NoDatabases})
	h.step(SwitchoverWanted{Command: 1, Request: Request{To: "primary", Force: true, Reason: "it burns", Timeout: time.Minute}})
	if a, refused := find[Answer](h.rig); refused || h.o.bid == nil {
		t.Fatalf("%+v", a)
	}
}
