package failover

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/replication"
)

// around answers what is asked.
type around struct {
	kernel  Asked
	witness Verdict
	mute    bool // the witness's answer gets lost
	slow    bool // steps do not end
	facts   func() replication.Facts
}

// answer answers one question, and says whether it was one.
func (r *rig) answer(e Effect, a around) bool {
	switch e := e.(type) {
	case AskKernel:
		k := a.kernel
		k.ID = e.ID
		r.after(time.Millisecond, k)
	case AskWitness:
		if a.mute {
			return false
		}
		r.after(time.Millisecond, Witnessed{ID: e.ID, Verdict: a.witness, Detail: a.witness.String()})
	case Append:
		if e.ID == 0 {
			return false
		}
		r.after(time.Millisecond, Durable{ID: e.ID})
	case Hold:
		if e.ID == 0 {
			return false
		}
		r.after(time.Millisecond, Held{ID: e.ID})
	case Measure:
		if a.facts == nil {
			return false
		}
		f := a.facts()
		f.MeasuredAt = r.now
		r.after(time.Millisecond, Measured{ID: e.ID, Facts: []replication.Facts{f}})
	case CatchUp:
		r.after(time.Millisecond, CaughtUp{ID: e.ID})
	case StartStep:
		if a.slow {
			return false
		}
		r.after(time.Millisecond, StepEnded{ID: e.Order.ID, Outcome: hooks.Changed})
	default:
		return false
	}
	return true
}

// lives lets d pass among what a says, and returns everything that was done.
func (r *rig) lives(d time.Duration, a around) (all []Effect) {
	r.t.Helper()
	end := r.now.Add(d)
	for i, queue := 0, r.out; ; i++ {
		if i > 100_000 {
			r.t.Fatal("it never comes to rest")
		}
		if len(queue) > 0 {
			e := queue[0]
			queue = queue[1:]
			all = append(all, e)
			if r.answer(e, a) {
				queue = append(slices.Clone(queue), r.out...)
			}
			continue
		}
		at, _ := r.o.Deadline()
		if at.After(end) {
			r.now, r.out = max(r.now, end), nil
			return all
		}
		r.now = max(r.now, at)
		queue = r.step(Tick{})
	}
}

func count[E Effect](all []Effect) (n int) {
	for _, e := range all {
		if _, ok := e.(E); ok {
			n++
		}
	}
	return n
}

func witnessed(policy IsolationPolicy) func(*Config) {
	return func(c *Config) { c.Witness, c.OnIsolation = "gateway", policy }
}

// TestWitnessOfATakeover: what the silent peer's kernel is to a takeover, the witness is
// as well, and they are asked at the same time.
func TestWitnessOfATakeover(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config func(*Config)
		around around
		takes  bool
		state  State
		why    Reason
	}{
		{name: "none is configured", config: nil, takes: true},
		{name: "it answers", config: witnessed(HoldIsolated), around: around{witness: VerdictYes}, takes: true},
		{name: "it answers, release", config: witnessed(ReleaseIsolated), around: around{witness: VerdictYes}, takes: true},
		{name: "it says no", config: witnessed(HoldIsolated), around: around{witness: VerdictNo}, state: Refused, why: WitnessSilent},
		{name: "it cannot be asked", config: witnessed(HoldIsolated), around: around{witness: VerdictUnknown}, state: Refused, why: WitnessSilent},
		{name: "its answer is lost", config: witnessed(HoldIsolated), around: around{mute: true}, state: Refused, why: WitnessSilent},
		{name: "it says no, release", config: witnessed(ReleaseIsolated), around: around{witness: VerdictNo}, state: Fault, why: Isolated},
		{
			name: "it says no and the peer's kernel answers", config: witnessed(ReleaseIsolated),
			around: around{witness: VerdictNo, kernel: Asked{Host: true, OnLink: true}}, state: Refused, why: WitnessSilent,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, func(c *Config) {
				c.Promote = c.Promote[2:]
				if tt.config != nil {
					tt.config(c)
				}
			})
			r.boots()
			r.hears(253)
			r.says(PeerState{State: Active, Holds: true, ActiveEpoch: 1, Epoch: 1})
			all := r.lives(8*time.Second, tt.around)
			if took := r.o.lease.held; took != tt.takes {
				t.Fatalf("took the address: %t; %s (%s: %s)", took, r.o.state, r.o.why.Reason, r.o.why.Detail)
			}
			if tt.config == nil && count[AskWitness](all) > 0 {
				t.Error("a witness was asked that nobody named")
			}
			if !tt.takes {
				// A retry looks like a Backup for a moment.
				if r.o.state == Backup || r.o.state == Refused && r.o.why.Reason != tt.why {
					r.lives(900*time.Millisecond, tt.around)
				}
				r.wantState(tt.state, tt.why)
				return
			}
			if tt.config != nil {
				first := slices.IndexFunc(all, func(e Effect) bool { a, ok := e.(AskWitness); return ok && a.Purpose == ToTake && a.Epoch == 2 })
				decided := slices.IndexFunc(all, func(e Effect) bool {
					a, ok := e.(Append)
					return ok && a.Record.Kind == hooks.Began && a.Record.Role == hooks.Active
				})
				if first < 0 || decided < 0 || first > decided {
					t.Errorf("asked at %d, decided at %d", first, decided)
				}
			}
		})
	}
}

// TestWitnessCostsNoTime: a dead host is taken over at the same instant with and without
// a witness that answers.
func TestWitnessCostsNoTime(t *testing.T) {
	takes := func(change func(*Config)) time.Duration {
		r := newRig(t, func(c *Config) {
			c.Promote = c.Promote[2:]
			if change != nil {
				change(c)
			}
		})
		r.boots()
		r.lives(100*time.Millisecond, around{witness: VerdictYes})
		r.hears(253)
		heard := r.now
		for r.now.Sub(heard) < 10*time.Second && !r.o.lease.held {
			r.lives(time.Millisecond, around{witness: VerdictYes})
		}
		return r.now.Sub(heard)
	}
	without, with := takes(nil), takes(witnessed(HoldIsolated))
	if with-without > 5*time.Millisecond {
		t.Errorf("%s without a witness, %s with one", without, with)
	}
}

// TestWitnessIsNotAskedForARoleThatIsGivenUp: where the peer speaks, its word is enough.
func TestWitnessIsNotAskedForARoleThatIsGivenUp(t *testing.T) {
	r := newRig(t, func(c *Config) {
		witnessed(ReleaseIsolated)(c)
		c.Promote = c.Promote[2:]
	})
	r.boots()
	for end := r.now.Add(5 * time.Second); r.now.Before(end) && !r.o.lease.held; {
		r.says(PeerState{State: Backup, HearsLink: SenseHeard, Stopped: []string{unit}})
		r.lives(50*time.Millisecond, around{witness: VerdictNo})
	}
	if !r.o.lease.held {
		t.Errorf("%s (%s)", r.o.state, r.o.why.Reason)
	}
}

// TestForcedWithoutWitness: an operator knows better.
func TestForcedWithoutWitness(t *testing.T) {
	r := newRig(t, func(c *Config) {
		witnessed(HoldIsolated)(c)
		c.Promote = c.Promote[2:]
	})
	r.boots()
	r.lives(3*time.Second, around{witness: VerdictNo})
	r.step(SwitchoverWanted{Command: 1, Request: Request{To: "primary", Force: true, Reason: "the gateway is gone", Timeout: 10 * time.Second}})
	r.lives(5*time.Second, around{witness: VerdictNo})
	if !r.o.lease.held {
		t.Errorf("%s (%s: %s)", r.o.state, r.o.why.Reason, r.o.why.Detail)
	}
}

// TestWitnessAtTheAddress: a plan can take long, and what the witness said before it is
// too old by then.
func TestWitnessAtTheAddress(t *testing.T) {
	for name, tt := range map[string]struct {
		witness Verdict
		holds   bool
	}{
		"it still says yes":    {VerdictYes, true},
		"it says no meanwhile": {VerdictNo, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, witnessed(HoldIsolated))
			r.boots()
			r.hears(253)
			var first StartStep
			for _, e := range r.lives(3*time.Second, around{witness: VerdictYes, slow: true}) {
				if s, ok := e.(StartStep); ok {
					first = s
				}
			}
			if first.Order.ID == 0 {
				t.Fatalf("no plan: %s (%s)", r.o.state, r.o.why.Reason)
			}
			for range 20 { // the step takes two seconds
				r.lives(100*time.Millisecond, around{witness: tt.witness, slow: true})
			}
			r.step(StepEnded{ID: first.Order.ID, Outcome: hooks.Changed})
			all := r.lives(3*time.Second, around{witness: tt.witness})
			if r.o.lease.held != tt.holds {
				t.Errorf("holds the address: %t; %s (%s)", r.o.lease.held, r.o.state, r.o.why.Reason)
			}
			refused := slices.ContainsFunc(all, func(e Effect) bool {
				n, ok := e.(Note)
				return ok && n.Why.Reason == WitnessSilent
			})
			if refused == tt.holds {
				t.Errorf("says that the witness is silent: %t", refused)
			}
		})
	}
}

// witnessedActive took over from a dead peer with its witness's word.
func witnessedActive(t *testing.T, policy IsolationPolicy) *rig {
	t.Helper()
	r := newRig(t, func(c *Config) {
		witnessed(policy)(c)
		c.Promote = c.Promote[2:]
	})
	r.boots()
	for i := 0; r.o.state != Active; i++ {
		if i > 1000 {
			t.Fatalf("%s (%s)", r.o.state, r.o.why.Reason)
		}
		r.lives(10*time.Millisecond, around{witness: VerdictYes})
	}
	return r
}

// TestIsolation: an Active that hears nobody.
func TestIsolation(t *testing.T) {
	alone := around{witness: VerdictNo}
	for _, tt := range []struct {
		name     string
		policy   IsolationPolicy
		around   around
		says     bool // the peer speaks over the link
		isolated bool
		holds    bool
		state    State
		why      Reason
	}{
		{name: "hold/nobody", policy: HoldIsolated, around: alone, isolated: true, holds: true, state: Active, why: PeerSilent},
		{name: "release/nobody", policy: ReleaseIsolated, around: alone, isolated: true, state: Fault, why: Isolated},
		{name: "release/the witness cannot be asked", policy: ReleaseIsolated, around: around{}, isolated: true, state: Fault, why: Isolated},
		{name: "release/its answers are lost", policy: ReleaseIsolated, around: around{mute: true}, isolated: true, state: Fault, why: Isolated},
		{name: "release/the witness", policy: ReleaseIsolated, around: around{witness: VerdictYes}, holds: true, state: Active, why: PeerSilent},
		{name: "release/the peer's kernel", policy: ReleaseIsolated, around: around{witness: VerdictNo, kernel: Asked{Host: true}}, holds: true, state: Active, why: PeerSilent},
		{name: "release/the peer's link", policy: ReleaseIsolated, around: alone, says: true, holds: true, state: Active, why: PeerSilent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := witnessedActive(t, tt.policy)
			began := r.o.contact()
			var released time.Duration
			for end := r.now.Add(8 * time.Second); r.now.Before(end); {
				if tt.says {
					r.says(PeerState{State: Backup, Bids: true, Hears: true, HearsHeartbeat: SenseHeard, HearsLink: SenseHeard})
				}
				r.lives(20*time.Millisecond, tt.around)
				if !r.o.lease.held && released == 0 {
					released = r.now.Sub(began)
				}
			}
			s := r.o.Status(r.now)
			if s.Isolation.Isolated != tt.isolated || s.Holds != tt.holds {
				t.Errorf("isolated %t, holds %t; %s (%s)", s.Isolation.Isolated, s.Holds, s.State, s.Why.Reason)
			}
			r.wantState(tt.state, tt.why)
			if bound := r.o.isolationBound(); released != 0 && (released < bound || released > bound+700*time.Millisecond) {
				t.Errorf("released after %s, the bound is %s", released, bound)
			}
		})
	}
}

// TestIsolationEnds: what was cut off is a standby again when somebody answers.
func TestIsolationEnds(t *testing.T) {
	r := witnessedActive(t, ReleaseIsolated)
	r.lives(5*time.Second, around{witness: VerdictNo})
	r.wantState(Fault, Isolated)
	if r.o.peerState().Bids {
		t.Error("it would take the role")
	}
	for range 10 {
		r.says(PeerState{State: Active, Holds: true, ActiveEpoch: 9, Epoch: 9, HearsLink: SenseHeard})
		r.hears(253)
		r.lives(50*time.Millisecond, around{witness: VerdictNo})
	}
	r.wantState(Backup, PeerActive)
	if r.o.Status(r.now).Isolation.Isolated {
		t.Error("still isolated")
	}
}

// TestForcedWhileIsolated: an operator knows better than on_isolation, until somebody is
// heard again. Of a host that died together with the gateway this is the only way out.
func TestForcedWhileIsolated(t *testing.T) {
	alone := around{witness: VerdictNo}
	r := newRig(t, func(c *Config) {
		witnessed(ReleaseIsolated)(c)
		c.Promote = c.Promote[2:]
	})
	r.boots()
	r.lives(8*time.Second, alone)
	r.wantState(Fault, Isolated)
	r.step(SwitchoverWanted{Command: 1, Request: Request{To: "primary", Timeout: 10 * time.Second}})
	if a := need[Answer](r); a.Outcome != RefusedTo {
		t.Errorf("without force: %+v", a)
	}
	r.step(SwitchoverWanted{Command: 2, Request: Request{To: "primary", Force: true, Reason: "the rack is dead", Timeout: 10 * time.Second}})
	r.lives(time.Minute, alone)
	r.wantState(Active, Forced)
	overridden := r.o.Status(r.now).Isolation
	if !overridden.Isolated || !overridden.Overridden {
		t.Errorf("status says %+v", overridden)
	}
	// So it is after a reload, which is another core by the same clock.
	next := newRig(t, func(c *Config) {
		witnessed(ReleaseIsolated)(c)
		c.Promote = c.Promote[2:]
	})
	next.step(Started{
		Boot: 8, Leftover: true, Left: time.Second, Overridden: overridden.Overridden,
		Memory: hooks.Memory{Epoch: 1, ActiveEpoch: 1, Role: hooks.Active, Finished: true},
	})
	next.well()
	next.lives(time.Minute, alone)
	next.wantState(Active, Adopted)
	r.lives(20*time.Second, around{witness: VerdictYes})
	if s := r.o.Status(r.now); s.Isolation.Isolated || s.Isolation.Overridden {
		t.Errorf("status says %+v", s.Isolation)
	}
	r.lives(5*time.Second, alone)
	r.wantState(Fault, Isolated)
}

// TestIsolationUnderMaintenance: the address stays for as long as the peer is known to
// wait for it, and no longer than that.
func TestIsolationUnderMaintenance(t *testing.T) {
	for _, tt := range []struct {
		name          string
		policy        IsolationPolicy
		shared, force bool
		trouble       Event // beside the silence
		until         time.Duration
	}{
		{name: "the peer knows", policy: ReleaseIsolated, shared: true, until: MaintenanceLease},
		{name: "the peer does not know", policy: ReleaseIsolated, until: 2 * time.Second},
		{name: "the peer does not know, and the lease is forced", policy: ReleaseIsolated, force: true, until: 2 * time.Second},
		{name: "the peer does not know, and the link is down", policy: ReleaseIsolated, trouble: LinkChanged{Detail: "no carrier"}, until: 2 * time.Second},
		{name: "hold", policy: HoldIsolated, shared: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := witnessedActive(t, tt.policy)
			if tt.shared {
				r.maintains(HoldRequest{})
			} else {
				r.wants(HoldRequest{Kind: MaintenanceHold, On: true, Force: tt.force})
				r.kept(nil)
			}
			if tt.trouble != nil {
				r.step(tt.trouble)
			}
			began, released := r.now, time.Duration(0)
			for released == 0 && r.now.Sub(began) < 2*MaintenanceLease {
				r.lives(100*time.Millisecond, around{witness: VerdictNo})
				if !r.o.lease.held {
					released = r.now.Sub(began)
				}
			}
			switch {
			case tt.until == 0 && released != 0, tt.until != 0 && (released < tt.until-500*time.Millisecond || released > tt.until+2*time.Second):
				t.Errorf("released after %s, want %s", released, tt.until)
			}
			if tt.until == 0 {
				return
			}
			// Somebody is heard again, and nobody else took the role: it goes on.
			if tt.trouble != nil {
				r.step(LinkChanged{Up: true})
			}
			r.lives(10*time.Second, around{witness: VerdictYes})
			if !r.o.lease.held {
				t.Errorf("%s (%s: %s)", r.o.state, r.o.why.Reason, r.o.why.Detail)
			}
		})
	}
}

// TestIsolationAfterAPause: time that went by while the loop was away proves nothing.
func TestIsolationAfterAPause(t *testing.T) {
	r := newRig(t, witnessed(ReleaseIsolated))
	r.boots()
	r.hears(253)
	r.now = r.now.Add(time.Hour)
	r.step(Tick{})
	if r.o.Status(r.now).Isolation.Isolated {
		t.Error("isolated without a question")
	}
	r.hears(253)
	r.lives(time.Second, around{witness: VerdictYes})
	if r.o.Status(r.now).Isolation.Isolated {
		t.Error("isolated though an Active is heard")
	}
}

// TestWitnessShown: it is asked now and then, so that status can say how it is.
func TestWitnessShown(t *testing.T) {
	r := newRig(t, witnessed(HoldIsolated))
	if w := r.o.Status(r.now).Witness; w == nil || w.Known {
		t.Fatalf("%+v", w)
	}
	r.boots()
	asks := 0
	for range 600 {
		r.hears(253)
		r.says(PeerState{State: Active, Holds: true, ActiveEpoch: 9, Epoch: 9, HearsLink: SenseHeard})
		asks += count[AskWitness](r.lives(100*time.Millisecond, around{witness: VerdictYes}))
	}
	if asks < 5 || asks > 10 {
		t.Errorf("asked %d times in a minute", asks)
	}
	got := *r.o.Status(r.now).Witness
	if got.Age > witnessEvery+time.Second {
		t.Errorf("%s old", got.Age)
	}
	got.Age = 0
	if diff := cmp.Diff(Witnessing{Kind: "gateway", Known: true, Verdict: VerdictYes, Detail: "yes"}, got); diff != "" {
		t.Error(diff)
	}
}
