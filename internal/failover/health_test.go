package failover

import (
	"strings"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/health"
	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/replication"
)

// A rule is one row of docs/health-effects.md and the scene that plays it.
type rule struct {
	clause string // effect/case
	when   string
	does   string
	play   func(t *testing.T)
}

func TestHealthRules(t *testing.T) {
	for _, r := range healthRules() {
		t.Run(r.clause, r.play)
	}
}

// withDisk adds a check of effect yield to the one of effect fault.
func withDisk(c *Config) {
	c.Checks = append(c.Checks, health.Check{Name: "disk", Rise: 1, Fall: 1, Effect: health.Yield})
}

func (r *rig) fails(check string) { r.after(time.Millisecond, Probed{Check: check, Detail: "bad"}) }
func (r *rig) heals(check string) { r.after(time.Millisecond, Probed{Check: check, OK: true}) }

// flaps lets a check fail until it is held back.
func (r *rig) flaps(check string) {
	for range health.FlapFalls {
		r.fails(check)
		r.heals(check)
	}
}

// ready is a peer that could take the role.
func ready() PeerState { return PeerState{State: Backup, Bids: true, Stopped: []string{unit}} }

func closedFor(codes ...replication.Code) PeerState {
	p := ready()
	for _, c := range codes {
		p.Gate = append(p.Gate, replication.Reason{Code: c, Detail: "for a test"})
	}
	return p
}

// holding is a peer that has the role.
func holding() PeerState {
	return PeerState{State: Active, Holds: true, Epoch: 1, ActiveEpoch: 1, Sources: NoDatabases, Bids: true}
}

// behindRig returns a node that settled behind an Active peer.
func behindRig(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	r := newRig(t, func(c *Config) {
		c.Promote = c.Promote[2:]
		withDisk(c)
		if change != nil {
			change(c)
		}
	})
	r.boots()
	r.settles()
	return r
}

func (r *rig) settles() {
	r.t.Helper()
	r.says(holding())
	r.ends("close", hooks.Unchanged)
	r.ends("unit", hooks.Unchanged)
}

// offered lets the peer begin a switchover to this node and returns how far it came.
func (r *rig) offered(give Give) TakeStage {
	r.t.Helper()
	p := holding()
	give.ID, give.Stage, give.Epoch = HandoverID{Boot: 99, Seq: r.seq + 1}, GivePreparing, 2
	p.Give = &give
	r.says(p)
	if c, ok := find[CheckSteps](r); ok {
		r.after(time.Millisecond, Checked{ID: c.ID})
	}
	return r.o.take.view.Stage
}

func (r *rig) freezes() {
	p := holding()
	give := r.o.take.give
	give.Stage = GiveFrozen
	p.Give = &give
	r.says(p)
}

func (r *rig) wantTake(s TakeStage, why Reason, code replication.Code) {
	r.t.Helper()
	v := r.o.take.view
	if v.Stage != s || v.Why.Reason != why {
		r.t.Fatalf("stage %d: %+v; want stage %d: %s", v.Stage, v.Why, s, why)
	}
	if code != 0 && (len(v.Why.Gate) != 1 || v.Why.Gate[0].Code != code) {
		r.t.Fatalf("%+v, want %s", v.Why.Gate, code)
	}
}

// hears for d that the peer is what it is, and counts what goes to log and journal.
func (r *rig) listens(d time.Duration, p func() PeerState) (notes []Note, records int) {
	r.t.Helper()
	for end := r.now.Add(d); r.now.Before(end); r.says(p()) {
		if n, ok := find[Note](r); ok {
			notes = append(notes, n)
		}
		if _, ok := find[Append](r); ok {
			records++
		}
		r.run(100 * time.Millisecond)
	}
	return notes, records
}

func always(p PeerState) func() PeerState { return func() PeerState { return p } }

// wantStays wants the role to stay, with one line in the log and a reason in status.
func (r *rig) wantStays(p func() PeerState, why Reason, codes ...replication.Code) {
	r.t.Helper()
	notes, records := r.listens(30*time.Second, p)
	s := r.o.Status(r.now)
	if s.State != Active || !s.Holds || s.Stays == nil || s.Stays.Reason != why || s.Stays.Check != "disk" || len(s.Stays.Gate) != len(codes) {
		r.t.Fatalf("%s, stays %+v", s.State, s.Stays)
	}
	for i, c := range codes {
		if s.Stays.Gate[i].Code != c {
			r.t.Errorf("%+v, want %s", s.Stays.Gate[i], c)
		}
	}
	if len(notes) != 1 || !notes[0].Urgent || notes[0].Why.Reason != why || notes[0].Why.Check != "disk" || records != 0 {
		r.t.Errorf("%d records, notes %+v", records, notes)
	}
}

// promotes wants a bid to come to its durable record within limit.
func (r *rig) promotes(limit time.Duration) bool {
	for end := r.now.Add(limit); ; {
		for _, e := range r.out {
			if a, ok := e.(Append); ok && a.Record.Kind == hooks.Began && a.Record.Role == hooks.Active {
				return true
			}
		}
		if ask, ok := find[AskKernel](r); ok {
			r.after(time.Millisecond, Asked{ID: ask.ID})
			continue
		}
		at, _ := r.o.Deadline()
		if at.After(end) {
			r.now = end
			return false
		}
		r.now = max(r.now, at)
		r.step(Tick{})
	}
}

func faultRules() []rule {
	return []rule{
		{"fault/active", "it fails on the Active", "the address and the writes go at once, then the demote plan runs; state `fault`; the peer takes over", func(t *testing.T) {
			r := activeRig(t, nil)
			r.says(ready())
			r.fails("gateway")
			need[Drop](r)
			r.wantState(Demoting, Unhealthy)
			if s, _ := find[Send](r); s.Advertisement.Priority != 0 {
				t.Error("it does not say that it left")
			}
			r.ends("close", hooks.Changed)
			r.ends("unit", hooks.Changed)
			r.wantState(Fault, Unhealthy)
			if r.o.why.Check != "gateway" || r.o.bids() {
				t.Errorf("%+v, bids %t", r.o.why, r.o.bids())
			}
		}},
		{"fault/standby", "it fails on a standby", "state `fault`; it takes over from nobody, not by an operator's force either", func(t *testing.T) {
			r := behindRig(t, nil)
			r.fails("gateway")
			r.wantState(Fault, Unhealthy)
			if r.promotes(10 * time.Second) {
				t.Error("it takes over")
			}
			r.wantState(Fault, Unhealthy)
			r.after(time.Millisecond, SwitchoverWanted{Command: 1, Request: Request{To: "primary", Force: true, Reason: "I want", Timeout: time.Minute}})
			if a := need[Answer](r); a.Outcome != RefusedTo || a.Why.Reason != Unhealthy || a.Why.Check != "gateway" {
				t.Errorf("%+v", a)
			}
		}},
		{"fault/quiet", "its samples go on saying why", "one line in the log, however the words change", func(t *testing.T) {
			r := behindRig(t, nil)
			r.fails("gateway")
			r.run(5 * time.Second)
			for i := range 50 {
				r.after(100*time.Millisecond, Probed{Check: "gateway", Detail: strings.Repeat("x", i)})
				none[Note](r)
			}
		}},
		{"fault/well", "it is well again", "state `backup` (`recovered`), and the node may be promoted", func(t *testing.T) {
			r := behindRig(t, nil)
			r.fails("gateway")
			r.run(5 * time.Second)
			r.heals("gateway")
			if n := need[Note](r); n.State != Backup || n.Why.Reason != Recovered {
				t.Errorf("%+v", n)
			}
			if !r.promotes(5 * time.Second) {
				t.Error("it does not take over from a dead peer")
			}
		}},
		{"fault/taking", "it fails on the new node of a switchover", "before the address came: everything is taken back", func(t *testing.T) {
			r := behindRig(t, func(c *Config) { c.Promote = testPromote[1:] })
			if s := r.offered(Give{}); s != TakePrepared {
				t.Fatalf("stage %d", s)
			}
			r.freezes()
			r.journaled(nil)
			r.freezes() // the word that it asked for
			open := need[StartStep](r)
			r.fails("gateway")
			r.wantState(Demoting, Unhealthy)
			r.after(time.Millisecond, StepEnded{ID: open.Order.ID, Outcome: hooks.Changed})
			none[Hold](r)
		}},
		{"fault/forced", "it fails on the new node of a forced switchover", "refused: force goes against the gate, not against this", func(t *testing.T) {
			r := behindRig(t, nil)
			r.fails("gateway")
			r.offered(Give{Force: true})
			r.wantTake(TakeRefused, Busy, 0)
		}},
	}
}

func yieldRules() []rule {
	active := func(t *testing.T, p PeerState) *rig {
		r := activeRig(t, withDisk)
		r.says(p)
		r.fails("disk")
		return r
	}
	return []rule{
		{"yield/moves", "it fails on the Active, and the peer is well and promotable", "a planned switchover to the peer, cause `unhealthy`", func(t *testing.T) {
			r := active(t, ready())
			none[Drop](r)
			r.after(time.Millisecond, Checked{ID: need[CheckSteps](r).ID})
			r.takes(r.o.give.id, TakePrepared)
			r.wantState(Demoting, Unhealthy)
			if r.o.why.Check != "disk" || !r.o.lease.held || r.o.give.view().leaves() {
				t.Errorf("%+v, held %t, leaves %t", r.o.why, r.o.lease.held, r.o.give.view().leaves())
			}
		}},
		{"yield/gate", "the peer's gate is closed", "it stays Active; status `stays` and one line of the log say `peer_refused` with the peer's gate codes", func(t *testing.T) {
			lag := 0
			r := active(t, closedFor(replication.Lagging))
			r.wantStays(func() PeerState {
				p := closedFor(replication.Lagging)
				lag++
				p.Gate[0].Detail = strings.Repeat("s", lag%7) // a number that changes
				return p
			}, PeerRefused, replication.Lagging)
		}},
		{"yield/both", "the peer fails a check too", "it stays where it is, on both sides; gate code `unhealthy` names the check", func(t *testing.T) {
			s := behindRig(t, nil)
			s.fails("disk")
			gate := s.o.peerState().Gate
			if len(gate) != 1 || gate[0].Code != replication.Unhealthy || gate[0].Detail != "health check fails: disk: bad" {
				t.Fatalf("%+v", gate)
			}
			p := ready()
			p.Gate = gate
			active(t, p).wantStays(always(p), PeerRefused, replication.Unhealthy)
		}},
		{"yield/blocked", "the peer is blocked", "it stays: gate code `blocked`", func(t *testing.T) {
			p := closedFor(replication.Blocked)
			active(t, p).wantStays(always(p), PeerRefused, replication.Blocked)
		}},
		{"yield/fault", "the peer is in fault", "it stays: `peer_refused`", func(t *testing.T) {
			p := PeerState{State: Fault, Why: Why{Reason: Unhealthy}}
			active(t, p).wantStays(always(p), PeerRefused)
		}},
		{"yield/unreachable", "the link to the peer is down", "it stays: `peer_unreachable`", func(t *testing.T) {
			r := active(t, closedFor(replication.Lagging))
			r.run(5 * time.Second)
			if s := r.o.Status(r.now); s.Stays == nil || s.Stays.Reason != PeerUnreachable || s.State != Active {
				t.Errorf("%s %+v", s.State, s.Stays)
			}
		}},
		{"yield/refused", "the peer refuses when it is asked", "it stays with the peer's reason, and asks again every ten seconds", func(t *testing.T) {
			r := active(t, ready())
			asked := 0
			for end := r.now.Add(35 * time.Second); r.now.Before(end); {
				p := ready()
				if r.o.giving() {
					asked++
					p.Take = &Take{ID: r.o.give.id, Stage: TakeRefused, Why: Why{Reason: CatchUpFailed, Detail: "slow"}}
				}
				r.says(p)
				r.run(100 * time.Millisecond)
			}
			if s := r.o.Status(r.now); asked != 4 || s.Stays == nil || s.Stays.Reason != CatchUpFailed || s.Stays.Check != "disk" {
				t.Errorf("asked %d times, stays %+v", asked, s.Stays)
			}
		}},
		{"yield/taken-back", "a handover was begun and taken back", "the next one follows ever later: ten seconds, doubled, five minutes at most", func(t *testing.T) {
			r := active(t, ready())
			began := []mono.Instant{r.now}
			for len(began) < 4 {
				r.after(time.Millisecond, Checked{ID: r.o.give.check})
				id := r.o.give.id
				r.takes(id, TakePrepared)
				learned := need[Append](r)
				r.ends("close", hooks.Changed)
				r.after(time.Millisecond, Durable{ID: learned.ID})
				r.takes(id, TakeUndone)
				r.ends("undo close", hooks.Changed)
				r.wantState(Active, Withdrawn)
				for !r.o.giving() {
					if r.now.Sub(last(began)) > settleMost {
						t.Fatalf("no attempt after %s", r.now.Sub(last(began)))
					}
					r.run(100 * time.Millisecond)
					r.says(ready())
				}
				began = append(began, r.now)
			}
			for i, want := range []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second} {
				if got := began[i+1].Sub(began[i]); got < want || got > want+time.Second {
					t.Errorf("attempt %d after %s, want %s", i+2, got, want)
				}
			}
		}},
		{"yield/over", "it is well again", "nothing wants the role to move any more", func(t *testing.T) {
			r := active(t, closedFor(replication.Lagging))
			r.heals("disk")
			r.says(ready())
			r.run(30 * time.Second)
			if s := r.o.Status(r.now); s.Stays != nil || r.o.giving() || s.State != Active {
				t.Errorf("%s, stays %+v", s.State, s.Stays)
			}
		}},
		{"yield/takes-over", "it fails on a standby whose peer is dead", "it takes over: a sick holder is better than none", func(t *testing.T) {
			r := behindRig(t, nil)
			r.fails("disk")
			r.wantState(Backup, PeerActive)
			if !r.promotes(5 * time.Second) {
				t.Error("it does not take over")
			}
		}},
		{"yield/standby", "it fails on the new node of a switchover", "refused: gate code `unhealthy`", func(t *testing.T) {
			r := behindRig(t, nil)
			r.fails("disk")
			r.offered(Give{})
			r.wantTake(TakeRefused, GateClosed, replication.Unhealthy)
		}},
		{"yield/meanwhile", "it begins to fail there while the node catches up", "taken back, until the plan of the promotion begins", func(t *testing.T) {
			r := behindRig(t, nil)
			if s := r.offered(Give{}); s != TakePrepared {
				t.Fatalf("stage %d", s)
			}
			r.freezes()
			r.fails("disk")
			r.wantTake(TakeUndone, Unhealthy, 0)
		}},
		{"yield/leaving", "it fails on the peer of a node that is told to stop, or whose database died", "the role is handed over all the same", func(t *testing.T) {
			r := activeRig(t, withDisk)
			r.says(closedFor(replication.Unhealthy))
			r.after(time.Millisecond, StopWanted{})
			if !r.o.giving() || !r.o.give.view().leaves() {
				t.Fatalf("%+v", r.o.give)
			}
			for _, give := range []Give{{Cause: Stopping}, {Lost: []string{"pivot"}}} {
				s := behindRig(t, nil)
				s.fails("disk")
				if stage := s.offered(give); stage != TakePrepared {
					t.Errorf("%+v: stage %d, %+v", give, stage, s.o.take.view.Why)
				}
				if want := map[bool]Reason{true: DatabaseDown, false: Stopping}[len(give.Lost) > 0]; s.o.take.reason() != want {
					t.Errorf("promotes for %s, want %s", s.o.take.reason(), want)
				}
			}
		}},
		{"yield/forced", "an operator forced the role onto the node", "it stays there until the check was well once", func(t *testing.T) {
			r := behindRig(t, nil)
			r.fails("disk")
			if s := r.offered(Give{Force: true}); s != TakePrepared {
				t.Fatalf("stage %d", s)
			}
			r.freezes()
			r.journaled(nil)
			r.freezes() // the word that it asked for
			r.acquires(nil)
			r.says(PeerState{State: Backup, Stopped: []string{unit}})
			r.ends("unit", hooks.Changed)
			r.listens(20*time.Second, always(ready()))
			if r.o.state != Active || r.o.giving() || r.o.Status(r.now).Stays != nil {
				t.Fatalf("%s, giving %t", r.o.state, r.o.giving())
			}
			r.heals("disk")
			r.says(ready())
			r.fails("disk")
			if !r.o.giving() {
				t.Error("the next failure does not move it")
			}
		}},
	}
}

func last(is []mono.Instant) mono.Instant {
	if len(is) == 0 {
		return 0
	}
	return is[len(is)-1]
}
