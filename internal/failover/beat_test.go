package failover

import (
	"testing"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/replication"
)

// beats lets the node run, with a peer that says s, and counts the heartbeats.
func (r *rig) beats(d time.Duration, s PeerState, facts ...replication.Facts) int {
	r.t.Helper()
	n := 0
	for end := r.now.Add(d); r.now.Before(end); {
		r.says(s)
		if m, ok := find[Measure](r); ok {
			if m.Beat != 0 {
				n++
				if m.Beat != r.o.activeEpoch || r.o.state != Active {
					r.t.Fatalf("a heartbeat of epoch %d as %s of %d", m.Beat, r.o.state, r.o.activeEpoch)
				}
			}
			for i := range facts {
				facts[i].MeasuredAt = r.now
			}
			r.after(time.Millisecond, Measured{ID: m.ID, Facts: facts})
		}
		r.after(20*time.Millisecond, Tick{})
		if m, ok := find[Measure](r); ok {
			if m.Beat != 0 {
				n++
			}
			r.after(time.Millisecond, Measured{ID: m.ID, Facts: facts})
		}
	}
	return n
}

func TestActiveBeats(t *testing.T) {
	standby := PeerState{State: Backup, Bids: true, Hears: true, Sources: AllReplicas, Stopped: []string{unit}}
	r := sourceRig(t, "pivot")
	r.beats(measurePatience+time.Second, standby, r.source("pivot", "0-1-100")) // the start's measurement has no answer
	if n := r.beats(10*time.Second, standby, r.source("pivot", "0-1-100")); n < 8 || n > 11 {
		t.Errorf("%d heartbeats in 10 s", n)
	}
	for name, change := range map[string]func(o *Orchestrator){
		"not Active":        func(o *Orchestrator) { o.state = Promoting },
		"role":              func(o *Orchestrator) { o.role = hooks.Standby },
		"without the lease": func(o *Orchestrator) { o.lease.held = false },
		"in a plan":         func(o *Orchestrator) { o.run = &planRun{} },
		"before a plan":     func(o *Orchestrator) { o.nextRun = &planRun{} },
		"bidding":           func(o *Orchestrator) { o.bid = &bid{} },
		"giving":            func(o *Orchestrator) { o.give = &giving{stage: GivePreparing} },
		"taking":            func(o *Orchestrator) { o.take = &taking{view: Take{Stage: TakePreparing}} },
		"leaving":           func(o *Orchestrator) { o.stopping = true },
		"alone":             func(o *Orchestrator) { o.peer.at = o.now.Add(-LinkPatience - 1) },
		"never heard":       func(o *Orchestrator) { o.peer = peerView{} },
		"another holder":    func(o *Orchestrator) { o.peer.state.Holds = true },
		"another Active":    func(o *Orchestrator) { o.peer.state.State = Active },
		"another promotion": func(o *Orchestrator) { o.peer.state.State = Promoting },
		"outdated":          func(o *Orchestrator) { o.peer.state.ActiveEpoch = o.activeEpoch + 1 },
		"no epoch":          func(o *Orchestrator) { o.activeEpoch = 0 },
		"too soon":          func(o *Orchestrator) { o.measure.beatAt = o.now + 1 },
	} {
		r := sourceRig(t, "pivot")
		r.o.measure.beatAt = 0
		sound := *r.o
		if sound.beat() == 0 {
			t.Fatal("a sound Active writes none")
		}
		one := *r.o
		change(&one)
		if e := one.beat(); e != 0 {
			t.Errorf("%s: a heartbeat of epoch %d", name, e)
		}
	}
}

func TestNobodyElseBeats(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Databases = []string{"pivot"} })
	r.boots()
	active := PeerState{State: Active, Holds: true, Epoch: 3, ActiveEpoch: 3, Sources: AllSources, Hears: true}
	if n := r.beats(5*time.Second, active, r.replica("pivot", "0-1-100", replication.ThreadRunning)); n != 0 {
		t.Errorf("a standby writes %d heartbeats", n)
	}
	r = sourceRig(t, "pivot")
	r.o.measure.beatAt = 0
	// A transition's own measurement takes none along.
	r.o.out = nil
	r.o.measureNow()
	if m, ok := r.o.out[0].(Measure); !ok || m.Beat != 0 {
		t.Errorf("%+v", r.o.out)
	}
}

// What the source counted goes with its position, and its age is that of hearing it.
func TestBeatsAreHeard(t *testing.T) {
	r := sourceRig(t, "pivot")
	f := r.source("pivot", "0-1-100")
	f.Beats = replication.Known([]replication.Beat{{Server: 2, Epoch: 3, Count: 50}, {Server: 1, Epoch: 4, Count: 7}})
	r.measures(f)
	if ps := r.o.positions(); len(ps) != 1 || ps[0].Beat != (replication.Beat{Server: 1, Epoch: 4, Count: 7}) {
		t.Fatalf("%+v", ps)
	}

	r = newRig(t, func(c *Config) { c.Databases = []string{"pivot"} })
	r.boots()
	here := r.replica("pivot", "0-1-100", replication.ThreadRunning)
	says := func(count uint64) {
		r.says(PeerState{State: Active, Holds: true, Epoch: 4, ActiveEpoch: 4, Sources: AllSources, Hears: true, Positions: []Position{{
			Database: "pivot", Executed: at(t, "0-1-100"), Beat: replication.Beat{Server: 1, Epoch: 4, Count: count},
		}}})
	}
	says(7)
	first := r.now
	here.Beats = replication.Known([]replication.Beat{{Server: 1, Epoch: 4, Count: 6}})
	r.measures(here)
	for range 20 {
		r.after(99*time.Millisecond, Tick{})
		says(7)
	}
	lag, ok := r.o.databases[0].Heard.BeatLag([]replication.Beat{{Server: 1, Epoch: 4, Count: 6}}, r.now)
	if want := r.now.Sub(first); !ok || lag != want {
		t.Errorf("%s, %v, want %s", lag, ok, want)
	}
	here.Beats = replication.Known([]replication.Beat{{Server: 1, Epoch: 4, Count: 7}})
	r.measures(here)
	if lag, ok := r.o.databases[0].Heard.BeatLag([]replication.Beat{{Server: 1, Epoch: 4, Count: 7}}, r.now); lag != 0 {
		t.Errorf("%s, %v", lag, ok)
	}
}
