package failover

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/replication"
	"github.com/tanist-ha/tanist/vrrp"
)

func TestBoot(t *testing.T) {
	memory := hooks.Memory{Epoch: 4, ActiveEpoch: 4, Role: hooks.Active, Finished: true}
	t.Run("own address with time left is adopted", func(t *testing.T) {
		r := newRig(t, nil)
		r.step(Started{Boot: 7, Memory: memory, Leftover: true})
		r.wantState(Active, Adopted)
		none[Drop](r)
		none[StartStep](r)
		need[Hold](r)
		need[Send](r)
	})
	t.Run("an unfinished promotion that has its address is adopted and finished", func(t *testing.T) {
		r := newRig(t, nil)
		m := memory
		m.Finished = false
		r.step(Started{Boot: 7, Memory: m, Leftover: true})
		r.wantState(Active, Adopted)
		// The unit waits for the peer's word that its own is stopped.
		none[StartStep](r)
		r.says(PeerState{State: Backup, Stopped: []string{unit}})
		if s := need[StartStep](r); s.Order.Step.Name != "unit" {
			t.Errorf("started %s", s.Order.Step.Name)
		}
	})
	t.Run("the address of a switchover that was cut off is adopted", func(t *testing.T) {
		m := hooks.Memory{Epoch: 4, ActiveEpoch: 4, Role: hooks.Standby, Finished: true}
		m = m.Fold(hooks.Record{Kind: hooks.Began, Epoch: 5, Role: hooks.Active, Planned: true})
		r := newRig(t, nil)
		r.step(Started{Boot: 7, Memory: m, Leftover: true})
		r.wantState(Active, Adopted)
		none[Drop](r)
		need[Hold](r)
		if a := need[Append](r); a.Record.Kind != hooks.Acquired || a.Record.Epoch != 5 {
			t.Errorf("journals %+v", a.Record)
		}
		if s := need[Send](r); s.Epoch != 5 {
			t.Errorf("proves epoch %d", s.Epoch)
		}
	})
	t.Run("a renewal that fails after an adoption ends it", func(t *testing.T) {
		r := newRig(t, nil)
		r.step(Started{Boot: 7, Memory: memory, Leftover: true})
		r.after(time.Millisecond, Held{Err: errTest})
		r.after(time.Millisecond, Tick{})
		need[Drop](r)
		r.wantState(Demoting, LeaseLost)
	})
	t.Run("a renewal that fails is tried again while the lease is known to last", func(t *testing.T) {
		r := newRig(t, nil)
		r.step(Started{Boot: 7, Memory: memory, Leftover: true, Left: time.Second})
		r.after(time.Millisecond, Held{Err: errTest})
		r.after(renewRetry, Tick{})
		none[Drop](r)
		need[Hold](r)
		for r.o.state == Active && r.now.Before(mono.Instant(2*time.Hour)) {
			r.after(renewRetry, Held{Err: errTest})
		}
		r.wantState(Demoting, LeaseLost)
	})
	for name, m := range map[string]hooks.Memory{
		"no past":                {},
		"standby last":           {Epoch: 4, ActiveEpoch: 4, Role: hooks.Standby, Finished: true},
		"a later epoch is known": {Epoch: 5, ActiveEpoch: 4, Role: hooks.Active, Finished: true},
	} {
		t.Run("closed: "+name, func(t *testing.T) {
			r := newRig(t, nil)
			r.step(Started{Boot: 7, Memory: m, Leftover: true})
			need[Drop](r)
			none[Hold](r)
			r.ends("close", hooks.Failed)
			r.ends("unit", hooks.Changed) // not kept back by the step before it
			r.wantState(Backup, Starting)
		})
	}
}

func TestLate(t *testing.T) {
	for _, tt := range []struct {
		name string
		away time.Duration
		late bool
	}{
		{"within the peer's patience", 600 * time.Millisecond, false},
		{"beyond it", 1100 * time.Millisecond, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := activeRig(t, nil)
			r.run(100 * time.Millisecond)
			r.after(tt.away, Tick{})
			if _, dropped := find[Drop](r); dropped != tt.late {
				t.Fatalf("dropped: %t; %s", dropped, shown(r.out))
			}
			if !tt.late {
				return
			}
			r.wantState(Demoting, Late)
			if _, first := r.out[0].(Drop); !first {
				t.Errorf("first %T", r.out[0])
			}
			if s := need[Send](r); s.Advertisement.Priority != 0 {
				t.Errorf("says priority %d", s.Advertisement.Priority)
			}
		})
	}
	t.Run("a claim without the address too", func(t *testing.T) {
		r := newRig(t, nil)
		r.boots()
		r.asksSilence()
		r.journaled(nil)
		r.wantState(Promoting, PeerSilent)
		r.after(5*time.Second, StepEnded{ID: need[StartStep](r).Order.ID, Outcome: hooks.Changed})
		r.wantState(Demoting, Late)
		none[Hold](r)
	})
}

func TestContest(t *testing.T) {
	t.Run("the newer epoch stays", func(t *testing.T) {
		r := activeRig(t, nil)
		r.says(PeerState{State: Active, Holds: true, ActiveEpoch: 0, Epoch: 0})
		r.hears(255)
		r.wantState(Active, PeerSilent)
	})
	t.Run("the older epoch goes, whatever its priority", func(t *testing.T) {
		r := activeRig(t, nil)
		r.says(PeerState{State: Active, Holds: true, ActiveEpoch: 9, Epoch: 9})
		need[Drop](r)
		r.wantState(Demoting, NewerEpoch)
	})
	for _, tt := range []struct {
		name     string
		epoch    Epoch
		priority uint8
		state    State
		why      Reason
	}{
		{"a proved newer epoch ends it at once, whatever the priorities", 2, 1, Demoting, NewerEpoch},
		{"a proved older epoch is answered, whatever the priorities", 0, 255, Active, PeerSilent},
		{"the same epoch: priority decides", 1, 255, Demoting, StrongerPeer},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := activeRig(t, nil)
			r.run(time.Second)
			r.proves(tt.priority, tt.epoch)
			r.wantState(tt.state, tt.why)
			if _, answered := find[Announce](r); answered != (tt.state == Active) {
				t.Errorf("announced: %t", answered)
			}
		})
	}
	for _, epoch := range []Epoch{0, 3} {
		t.Run(fmt.Sprintf("a claim that hears the proved epoch %d", epoch), func(t *testing.T) {
			r := newRig(t, nil)
			r.boots()
			r.asksSilence()
			r.journaled(nil)
			step := need[StartStep](r)
			r.proves(100, epoch)
			if epoch == 0 {
				r.wantState(Promoting, PeerSilent)
				return
			}
			if c := need[CancelStep](r); c.ID != step.Order.ID {
				t.Errorf("cancelled %d", c.ID)
			}
			r.wantState(Demoting, PeerActive)
			if s := need[Send](r); s.Advertisement.Priority != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
	t.Run("a standby journals a proved epoch and says its own in turn", func(t *testing.T) {
		r := newRig(t, nil)
		r.boots()
		r.proves(254, 6)
		if a := need[Append](r); a.Record.Kind != hooks.Learned || a.Record.Epoch != 6 {
			t.Errorf("%+v", a.Record)
		}
		r.asksSilence()
		if a := need[Append](r); a.Record.Epoch != 7 {
			t.Errorf("it is to be Active in epoch %d", a.Record.Epoch)
		}
		r.journaled(nil)
		if s := need[Send](r); s.Epoch != 0 {
			t.Errorf("a claim says epoch %d", s.Epoch)
		}
	})
	t.Run("a peer that never spoke over the link is no Tanist: priority decides", func(t *testing.T) {
		r := activeRig(t, nil)
		r.run(time.Second)
		r.hears(255)
		r.wantState(Demoting, StrongerPeer)
	})
	t.Run("without the link priority decides after a second", func(t *testing.T) {
		r := activeRig(t, nil)
		r.says(PeerState{State: Backup})
		r.run(time.Second)
		r.hears(255)
		r.wantState(Active, PeerSilent)
		for range 9 {
			r.run(200 * time.Millisecond)
			r.hears(255)
		}
		if r.o.why.Reason != StrongerPeer {
			t.Errorf("%s (%s)", r.o.state, r.o.why.Reason)
		}
	})
	t.Run("an answer is not answered again and again", func(t *testing.T) {
		r := activeRig(t, nil)
		sent := 0
		for range 100 {
			r.hears(200)
			for _, e := range r.out {
				if _, ok := e.(Send); ok {
					sent++
				}
			}
		}
		if sent > 3 {
			t.Errorf("%d advertisements in 100 ms", sent)
		}
	})
}

// TestBidWithdrawn takes the ground away at every stage of a takeover.
func TestBidWithdrawn(t *testing.T) {
	stages := []struct {
		name string
		to   func(*rig)
	}{
		{"asking", func(r *rig) {
			for range 100 {
				if r.o.bid != nil {
					return
				}
				if ask, ok := find[AskKernel](r); ok { // before the silence counts
					r.after(time.Millisecond, Asked{ID: ask.ID, Host: true})
					continue
				}
				at, _ := r.o.Deadline()
				r.now = at
				r.step(Tick{})
			}
		}},
		{"journaling", func(r *rig) { r.asksSilence() }},
		{"running", func(r *rig) { r.asksSilence(); r.journaled(nil) }},
	}
	for _, s := range stages {
		t.Run(s.name, func(t *testing.T) {
			r := newRig(t, nil)
			r.boots()
			s.to(r)
			begun := r.o.bid.stage >= bidJournaling
			running, _ := find[StartStep](r)
			r.says(PeerState{State: Active, Holds: true, Epoch: 9, ActiveEpoch: 9})
			if running.Order.ID != 0 {
				if c := need[CancelStep](r); c.ID != running.Order.ID {
					t.Errorf("cancelled %d", c.ID)
				}
				none[StartStep](r) // not before the last step answered
				r.after(time.Millisecond, StepEnded{ID: running.Order.ID, Outcome: hooks.Changed})
				r.ends("undo replication", hooks.Changed)
			}
			if r.o.bid != nil || r.o.role != hooks.Standby {
				t.Fatalf("bid %+v, role %s", r.o.bid, r.o.role)
			}
			reverted := false
			for _, e := range r.out {
				if a, ok := e.(Append); ok && a.Record.Kind == hooks.Reverted {
					reverted = true
				}
			}
			if reverted != begun {
				t.Errorf("reverted: %t, begun: %t", reverted, begun)
			}
			if r.o.activeEpoch != 0 {
				t.Errorf("active epoch %d", r.o.activeEpoch)
			}
		})
	}
}

func TestEarlyQuestions(t *testing.T) {
	standby := func(t *testing.T, link bool) *rig {
		r := newRig(t, nil)
		r.boots()
		if link {
			r.says(PeerState{State: Active, Holds: true, ActiveEpoch: 3, Epoch: 3})
			r.ends("close", hooks.Unchanged)
			r.ends("unit", hooks.Unchanged)
		}
		r.hears(253)
		return r
	}
	for _, link := range []bool{false, true} {
		t.Run(fmt.Sprintf("a dead host costs no time beyond the silence, link %t", link), func(t *testing.T) {
			r := standby(t, link)
			heard := r.now
			for range asksWithoutAnswer {
				ask, ok := r.asked(time.Second)
				if !ok {
					t.Fatal("not asked")
				}
				if link { // its latest word is from before the questions
					r.o.peer.at = max(r.o.peer.at, r.now.Add(-50*time.Millisecond))
				}
				r.after(ask.Within, Asked{ID: ask.ID})
			}
			if r.o.bid != nil {
				t.Fatal("a bid before the silence counts")
			}
			down, _ := r.o.router.Deadline()
			r.now = down
			r.step(Tick{})
			if a := need[Append](r); a.Record.Kind != hooks.Began {
				t.Errorf("%+v", a.Record)
			}
			if waited := r.now.Sub(heard); waited > 760*time.Millisecond {
				t.Errorf("decided after %s", waited)
			}
		})
	}
	t.Run("a word makes the answers worthless", func(t *testing.T) {
		r := standby(t, false)
		first, _ := r.asked(time.Second)
		r.after(first.Within, Asked{ID: first.ID})
		second := need[AskKernel](r)
		r.hears(253)
		r.after(second.Within, Asked{ID: second.ID})
		if r.o.hostSilent() {
			t.Error("the host counts as silent")
		}
		third, ok := r.asked(time.Second)
		if !ok {
			t.Fatal("not asked after the next silence")
		}
		r.after(third.Within, Asked{ID: third.ID})
		need[AskKernel](r)
	})
	t.Run("a live host is asked once, and then by the bid", func(t *testing.T) {
		r := standby(t, false)
		ask, _ := r.asked(time.Second)
		r.after(ask.Within, Asked{ID: ask.ID, Host: true, Address: true, OnLink: true})
		down, _ := r.o.router.Deadline()
		if _, again := r.asked(down.Sub(r.now) - time.Millisecond); again {
			t.Error("asked again before the silence counts")
		}
		if _, ok := r.asked(5 * time.Millisecond); !ok || r.o.bid == nil {
			t.Error("the bid does not ask")
		}
	})
	t.Run("a question whose answer is lost holds nothing up", func(t *testing.T) {
		r := standby(t, false)
		if _, ok := r.asked(time.Second); !ok {
			t.Fatal("not asked")
		}
		r.run(time.Second)
		if r.o.bid == nil {
			t.Error("no bid")
		}
	})
	// leaves lets an Active that was heard for a while say goodbye.
	leaves := func(t *testing.T, say func(r *rig, priority uint8)) *rig {
		r := standby(t, false)
		for range 5 {
			r.run(200 * time.Millisecond)
			say(r, 253)
		}
		say(r, 0)
		down, _ := r.o.router.Deadline()
		r.now = down
		r.step(Tick{})
		none[AskKernel](r)
		for {
			if a, ok := find[Append](r); ok && a.Record.Kind == hooks.Began {
				return r
			}
			if r.o.bid == nil {
				t.Fatal("no bid")
			}
			r.now, _ = r.o.Deadline()
			r.step(Tick{})
		}
	}
	t.Run("a Tanist that leaves is not asked for: its address went first", func(t *testing.T) {
		r := leaves(t, func(r *rig, p uint8) { r.proves(p, 0) })
		r.journaled(nil)
		r.ends("replication", hooks.Changed)
		r.ends("open", hooks.Changed)
		need[Hold](r)
	})
	t.Run("of a foreign router the goodbye proves nothing", func(t *testing.T) {
		r := leaves(t, func(r *rig, p uint8) { r.hears(p) })
		r.journaled(nil)
		r.ends("replication", hooks.Changed)
		r.ends("open", hooks.Changed)
		none[Hold](r)
		need[AskKernel](r)
	})
	t.Run("a goodbye that a newer epoch overtook is not heard", func(t *testing.T) {
		for _, newer := range []func(*rig){
			func(r *rig) { r.proves(253, 4) },
			func(r *rig) { r.says(PeerState{State: Active, Holds: true, ActiveEpoch: 4, Epoch: 4}) },
		} {
			r := standby(t, false)
			r.run(2 * queueTime)
			r.proves(253, 3)
			newer(r)
			word, down := r.o.lastWord, r.o.router.ActiveDownInterval()
			r.proves(0, 3)
			if at, _ := r.o.router.Deadline(); r.o.left || r.o.lastWord != word || at.Sub(r.now) < down/2 {
				t.Errorf("left %t, the silence counts in %s", r.o.left, at.Sub(r.now))
			}
			r.proves(0, 4)
			if !r.o.left {
				t.Error("nor is a new one")
			}
		}
	})
	t.Run("the peer's word that it has the address stands against an unproved goodbye", func(t *testing.T) {
		r := standby(t, true)
		r.says(PeerState{State: Active, Holds: true, ActiveEpoch: 3, Epoch: 3})
		r.hears(0)
		r.answers(time.Second, Asked{Host: true, Address: true, OnLink: true})
		if b := r.o.bid; b == nil || b.stage > bidWaiting {
			t.Fatalf("bid %+v", b)
		}
		r.says(PeerState{State: Backup, ActiveEpoch: 3, Epoch: 3})
		r.hears(0)
		if !r.o.left {
			t.Error("it is not believed after the peer let go")
		}
	})
	t.Run("a question on the way to the address claims it anew", func(t *testing.T) {
		r := leaves(t, func(r *rig, p uint8) { r.hears(p) })
		r.journaled(nil)
		r.ends("replication", hooks.Changed)
		r.ends("open", hooks.Changed)
		for range 3 { // more than the interval has advertisements
			ask := need[AskKernel](r)
			if s := need[Send](r); s.Advertisement.Priority != 254 {
				t.Errorf("%+v", s.Advertisement)
			}
			r.after(ask.Within, Asked{ID: ask.ID, Host: true, Address: true, OnLink: true})
			if _, again := find[AskKernel](r); !again {
				r.asked(time.Second)
			}
		}
	})
	t.Run("an Active only looks after its address", func(t *testing.T) {
		r := activeRig(t, nil)
		if ask, asked := r.asked(5 * time.Second); !asked || ask.ID != r.o.guard.id {
			t.Error("asked for something else")
		}
	})
	t.Run("questions fit into short intervals", func(t *testing.T) {
		for _, interval := range []vrrp.Centiseconds{1, 10, 25, 100} {
			r := newRig(t, func(c *Config) { c.Router.Interval = interval })
			r.boots()
			within, down := r.o.askWithin(), r.o.router.ActiveDownInterval()
			if within < askShortest || within > askLongest || earlyTime(within) > down*5/8 {
				t.Errorf("interval %d: %s", interval, within)
			}
			// Advertisements that come in time are enough, and so are the words of a link.
			if heard := interval.Duration(); earlyTime(within) > down-heard || interval >= 25 && r.o.earlyPause() <= TellInterval {
				t.Errorf("interval %d: asks though the peer is heard", interval)
			}
		}
	})
}

func TestDeaf(t *testing.T) {
	r := newRig(t, nil)
	r.boots()
	r.step(Hearing{Open: false})
	r.run(10 * time.Second)
	r.wantState(Refused, Deaf)
	none[AskKernel](r)
	r.step(Hearing{Open: true})
	opened := r.now
	r.asksSilence()
	if waited := r.now.Sub(opened); waited < r.o.router.ActiveDownInterval() {
		t.Errorf("takes over %s after it began to hear", waited)
	}
}

func TestBidRefused(t *testing.T) {
	t.Run("the journal fails", func(t *testing.T) {
		r := newRig(t, nil)
		r.boots()
		r.asksSilence()
		r.journaled(errTest)
		r.wantState(Refused, JournalFailed)
		none[StartStep](r)
	})
	t.Run("the address cannot be added", func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.Promote = c.Promote[2:3] })
		r.boots()
		r.asksSilence()
		r.journaled(nil)
		r.acquires(errTest)
		r.wantState(Refused, StepFailed)
	})
	t.Run("the address answers on a live host", func(t *testing.T) {
		r := newRig(t, nil)
		r.boots()
		for range 60 {
			r.run(100 * time.Millisecond)
			if ask, ok := find[AskKernel](r); ok {
				r.step(Asked{ID: ask.ID, Address: true, Host: true, OnLink: true})
			} else if r.o.bid != nil && r.o.bid.stage == bidAsking {
				r.step(Asked{ID: r.o.bid.wait, Address: true, Host: true, OnLink: true})
			}
		}
		r.wantState(Conflict, AddressAnswers)
		asked := 0
		for end := r.now.Add(10 * time.Second); r.now.Before(end); {
			ask, ok := r.asked(end.Sub(r.now))
			if !ok {
				break
			}
			asked++
			r.after(ask.Within, Asked{ID: ask.ID, Address: true, Host: true, OnLink: true})
		}
		if asked < 5 || asked > 11 {
			t.Errorf("asked %d times in 10 s", asked)
		}
	})
	t.Run("a live host off the link is waited for until its lease is over", func(t *testing.T) {
		r := newRig(t, nil)
		r.boots()
		r.hears(253)
		heard := r.now
		for r.o.bid == nil || r.o.bid.stage < bidJournaling {
			r.run(50 * time.Millisecond)
			if r.o.bid != nil && r.o.bid.stage == bidAsking {
				r.step(Asked{ID: r.o.bid.wait, Host: true})
			}
			if r.now.Sub(heard) > 10*time.Second {
				t.Fatal("never takes over")
			}
		}
		if waited := r.now.Sub(heard); waited < 2*time.Second+leaseGrace {
			t.Errorf("took over after %s", waited)
		}
	})
}

func TestSharedUnit(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Promote = c.Promote[2:] })
	r.boots()
	r.run(time.Second)
	r.says(PeerState{State: Refused, Bids: false}) // alive, and gives the role up
	r.journaled(nil)
	r.says(PeerState{State: Refused})
	if _, ok := find[Hold](r); !ok {
		r.says(PeerState{State: Refused})
	}
	r.acquires(nil)
	none[StartStep](r)
	r.says(PeerState{State: Refused})
	none[StartStep](r)
	r.says(PeerState{State: Refused, Stopped: []string{unit}})
	r.ends("unit", hooks.Changed)
	r.wantState(Active, PeerLeft)
}

// TestSharedUnitAfterRestart is a new node whose daemon is killed right after it had
// the address: the old one is still stopping the unit, and the link not up yet.
func TestSharedUnitAfterRestart(t *testing.T) {
	r := newRig(t, nil)
	r.step(Started{Boot: 8, Leftover: true, Memory: hooks.Memory{Epoch: 2, ActiveEpoch: 2, Role: hooks.Active}})
	r.wantState(Active, Adopted)
	r.run(HandoverLease / 2)
	r.says(PeerState{Boot: 99, State: Demoting, Epoch: 2})
	none[StartStep](r)
	r.says(PeerState{Boot: 99, State: Backup, Epoch: 2, Stopped: []string{unit}})
	need[StartStep](r)
	r.ends("unit", hooks.Changed)
	r.wantState(Active, Adopted)
}

// switchover brings an Active to the stage at which the peer is prepared.
func switchover(t *testing.T, req Request) (*rig, HandoverID) {
	t.Helper()
	r := activeRig(t, nil)
	r.says(PeerState{State: Backup, Bids: true, Stopped: []string{unit}})
	req.To = "reserve"
	r.after(time.Millisecond, SwitchoverWanted{Command: 1, Request: req})
	check := need[CheckSteps](r)
	r.after(time.Millisecond, Checked{ID: check.ID})
	return r, r.o.give.id
}

func (r *rig) takes(id HandoverID, stage TakeStage) {
	s := PeerState{State: Backup, Bids: true, Take: &Take{ID: id, Stage: stage, OK: true}, Stopped: []string{unit}}
	s.Holds = stage == TakeAcquired || stage == TakeDone
	if s.Holds {
		s.State, s.Epoch, s.ActiveEpoch, s.Stopped = Active, r.o.give.epoch, r.o.give.epoch, nil
	}
	r.says(s)
}

func TestGive(t *testing.T) {
	const minute = time.Minute
	t.Run("the address is held until the new node has it", func(t *testing.T) {
		r, id := switchover(t, Request{Timeout: minute})
		r.takes(id, TakePrepared)
		learned := need[Append](r)
		r.ends("close", hooks.Changed)
		if r.o.give.stage != GiveClosing {
			t.Errorf("stage %d before the journal answered", r.o.give.stage)
		}
		r.after(time.Millisecond, Durable{ID: learned.ID})
		if r.o.give.stage != GiveFrozen || !r.o.lease.held {
			t.Errorf("stage %d, holds %t", r.o.give.stage, r.o.lease.held)
		}
		r.takes(id, TakeAcquired)
		need[Drop](r)
		r.ends("unit", hooks.Changed)
		r.takes(id, TakeDone)
		if a := need[Answer](r); a.Outcome != Done || a.Command != 1 {
			t.Errorf("%+v", a)
		}
	})
	t.Run("the new node's daemon is restarted after it had the address", func(t *testing.T) {
		r, id := switchover(t, Request{Timeout: minute})
		r.takes(id, TakePrepared)
		learned := need[Append](r)
		r.ends("close", hooks.Changed)
		r.after(time.Millisecond, Durable{ID: learned.ID})
		r.takes(id, TakeAcquired)
		again := PeerState{Boot: 100, State: Active, Holds: true, Epoch: r.o.give.epoch, ActiveEpoch: r.o.give.epoch}
		r.ends("unit", hooks.Changed)
		for begun := r.now; r.now.Sub(begun) < 2*HandoverLease; {
			again.Steps = []hooks.Result{{Outcome: hooks.Pending}, {Outcome: hooks.Running}}
			r.says(again)
			none[Answer](r)
			r.run(100 * time.Millisecond)
		}
		again.Steps = []hooks.Result{{Outcome: hooks.Pending}, {Outcome: hooks.Changed}}
		r.says(again)
		if a := need[Answer](r); a.Outcome != Done {
			t.Errorf("%+v", a)
		}
	})
	t.Run("dry run changes nothing", func(t *testing.T) {
		r, id := switchover(t, Request{Timeout: minute, DryRun: true})
		r.takes(id, TakePrepared)
		if a := need[Answer](r); a.Outcome != Done {
			t.Errorf("%+v", a)
		}
		none[StartStep](r)
		none[Append](r)
	})
	t.Run("the peer refuses", func(t *testing.T) {
		r, id := switchover(t, Request{Timeout: minute})
		r.takes(id, TakeRefused)
		if a := need[Answer](r); a.Outcome != RefusedTo {
			t.Errorf("%+v", a)
		}
		none[StartStep](r)
	})
	t.Run("force is journaled with its words", func(t *testing.T) {
		r, id := switchover(t, Request{Timeout: minute, Force: true, Reason: "we know", UID: 1000})
		r.takes(id, TakePrepared)
		a := need[Append](r)
		if a.Record.Kind != hooks.Override || a.Record.Reason != "we know" || a.Record.UID != 1000 || a.ID == 0 {
			t.Errorf("%+v", a)
		}
	})
	t.Run("its time runs out while both check", func(t *testing.T) {
		r, _ := switchover(t, Request{Timeout: 300 * time.Millisecond})
		r.after(310*time.Millisecond, Tick{})
		if a := need[Answer](r); a.Outcome != TimedOutBack {
			t.Errorf("%+v", a)
		}
	})
	t.Run("its time runs out while it closes", func(t *testing.T) {
		r, id := switchover(t, Request{Timeout: 300 * time.Millisecond})
		r.takes(id, TakePrepared)
		s := need[StartStep](r)
		r.after(310*time.Millisecond, Tick{})
		if c := need[CancelStep](r); c.ID != s.Order.ID {
			t.Errorf("cancelled %d", c.ID)
		}
		none[StartStep](r)
		epoch := r.o.activeEpoch
		r.after(time.Millisecond, StepEnded{ID: s.Order.ID, Outcome: hooks.TimedOut})
		r.ends("undo close", hooks.Changed)
		if a := need[Answer](r); a.Outcome != TimedOutBack {
			t.Errorf("%+v", a)
		}
		r.wantState(Active, Withdrawn)
		if r.o.activeEpoch <= epoch+1 {
			t.Errorf("epoch %d is not newer than what the new node journaled", r.o.activeEpoch)
		}
		none[Drop](r)
	})
	t.Run("a frozen node takes nothing back before its word is over", func(t *testing.T) {
		r, id := switchover(t, Request{Timeout: 300 * time.Millisecond})
		r.takes(id, TakePrepared)
		learned := need[Append](r)
		r.ends("close", hooks.Changed)
		r.after(time.Millisecond, Durable{ID: learned.ID})
		r.run(400 * time.Millisecond)
		if r.o.give.stage != GiveUndoing {
			t.Fatalf("stage %d", r.o.give.stage)
		}
		affirmed := r.o.give.affirmed
		r.run(affirmed.Add(HandoverLease).Sub(r.now))
		if r.o.give.stage != GiveUndoing {
			t.Fatalf("stage %d within its word", r.o.give.stage)
		}
		r.run(handoverMargin)
		r.looks(asksWithoutAddress, Asked{Host: true, OnLink: true})
		if r.o.give.stage != GiveRollingBack {
			t.Fatalf("stage %d after it", r.o.give.stage)
		}
	})
	t.Run("a new node that is silent and has the address keeps it", func(t *testing.T) {
		r, id := switchover(t, Request{Timeout: 300 * time.Millisecond})
		r.takes(id, TakePrepared)
		learned := need[Append](r)
		r.ends("close", hooks.Changed)
		r.after(time.Millisecond, Durable{ID: learned.ID})
		r.run(400 * time.Millisecond)
		r.run(r.o.give.deadline().Sub(r.now))
		r.after(askLongest, Asked{ID: r.o.give.look.id, Host: true, Address: true})
		need[Drop](r)
		if r.o.give.stage != GiveReleased {
			t.Fatalf("stage %d", r.o.give.stage)
		}
	})
	t.Run("the new node let go, so it goes at once", func(t *testing.T) {
		r, id := switchover(t, Request{Timeout: minute})
		r.takes(id, TakePrepared)
		learned := need[Append](r)
		r.ends("close", hooks.Changed)
		r.after(time.Millisecond, Durable{ID: learned.ID})
		r.takes(id, TakeUndone)
		r.ends("undo close", hooks.Changed)
		if a := need[Answer](r); a.Outcome != RolledBack {
			t.Errorf("%+v", a)
		}
	})
	t.Run("its journal fails", func(t *testing.T) {
		r, id := switchover(t, Request{Timeout: minute})
		r.takes(id, TakePrepared)
		learned := need[Append](r)
		r.ends("close", hooks.Changed)
		r.after(time.Millisecond, Durable{ID: learned.ID, Err: errTest})
		r.ends("undo close", hooks.Changed)
		r.wantState(Active, Withdrawn)
	})
}

func TestWishFromTheStandby(t *testing.T) {
	r := newRig(t, nil)
	r.boots()
	r.says(PeerState{State: Active, Holds: true, Epoch: 1, ActiveEpoch: 1})
	r.after(time.Millisecond, SwitchoverWanted{Command: 5, Request: Request{To: "primary", Timeout: time.Minute}})
	told := need[Tell](r).State.Wish
	if told == nil || told.Request.To != "primary" {
		t.Fatalf("wish %+v", told)
	}
	r.says(PeerState{
		State: Active, Holds: true, Epoch: 1, ActiveEpoch: 1,
		Granted: &Grant{ID: told.ID, Outcome: RefusedTo, Why: Why{Reason: PeerRefused}},
	})
	if a := need[Answer](r); a.Command != 5 || a.Outcome != RefusedTo || a.Why.Reason != PeerRefused {
		t.Errorf("%+v", a)
	}

	t.Run("and overtaken by the end of the peer", func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.Promote = c.Promote[2:3] })
		r.boots()
		r.says(PeerState{State: Active, Holds: true, Epoch: 1, ActiveEpoch: 1})
		r.ends("close", hooks.Unchanged)
		r.ends("unit", hooks.Unchanged)
		r.after(time.Millisecond, SwitchoverWanted{Command: 5, Request: Request{To: "primary", Timeout: time.Minute}})
		r.asksSilence()
		r.journaled(nil)
		r.acquires(nil)
		r.run(HandoverLease)
		if len(r.ended) != 1 || r.ended[0].Command != 5 || r.ended[0].Outcome != Incomplete || r.ended[0].Why.Reason != PeerSilent {
			t.Errorf("%+v", r.ended)
		}
	})
	t.Run("and carried out by the Active", func(t *testing.T) {
		r := activeRig(t, nil)
		id := HandoverID{Boot: 99, Seq: 3}
		r.says(PeerState{State: Backup, Bids: true, Wish: &Wish{ID: id, Request: Request{To: "reserve", Timeout: time.Minute}}})
		check := need[CheckSteps](r)
		r.after(time.Millisecond, Checked{ID: check.ID, Cannot: []string{"unit: not found"}})
		granted := need[Tell](r).State.Granted
		if granted == nil || granted.ID != id || granted.Outcome != RefusedTo {
			t.Errorf("%+v", granted)
		}
	})
	t.Run("nobody answers", func(t *testing.T) {
		r := newRig(t, nil)
		r.boots()
		r.says(PeerState{State: Active, Holds: true, Epoch: 1, ActiveEpoch: 1})
		r.after(time.Millisecond, SwitchoverWanted{Command: 5, Request: Request{To: "primary", Timeout: time.Second}})
		for range 400 {
			r.hears(253)
			r.after(100*time.Millisecond, Tick{})
			if a, ok := find[Answer](r); ok {
				if a.Outcome != TimedOutBack {
					t.Errorf("%+v", a)
				}
				return
			}
		}
		t.Error("no answer at all")
	})
}

// TestForcedTakeover goes against a closed gate, with the operator's words.
func TestForcedTakeover(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Databases = []string{"pivot"} })
	r.step(Started{Boot: 7})
	r.ends("close", hooks.Unchanged)
	r.ends("unit", hooks.Unchanged)
	facts := []replication.Facts{{Name: "pivot", Reach: replication.ReachRefused}}
	answer := func() bool {
		switch {
		case r.o.bid == nil:
			return false
		case r.o.bid.stage == bidAsking:
			r.after(time.Millisecond, Asked{ID: r.o.bid.wait})
		case r.o.bid.stage == bidMeasuring || r.o.bid.stage == bidChecking:
			facts[0].MeasuredAt = r.now
			r.after(time.Millisecond, Measured{ID: r.o.bid.wait, Facts: facts})
		case r.o.bid.stage == bidDraining:
			r.after(time.Millisecond, CaughtUp{ID: r.o.bid.wait, Err: errTest})
		default:
			return false
		}
		return true
	}
	for range 40 {
		r.run(50 * time.Millisecond)
		for answer() {
		}
	}
	if r.o.state != Refused || r.o.why.Reason != GateClosed {
		t.Fatalf("%s (%s)", r.o.state, r.o.why.Reason)
	}
	r.after(time.Millisecond, SwitchoverWanted{Command: 3, Request: Request{
		To: "primary", Force: true, Reason: "the other host burns", UID: 1000, Timeout: time.Minute,
	}})
	var kinds []hooks.RecordKind
	var said string
	for answer() {
		for _, e := range r.out {
			if n, ok := e.(Note); ok && n.Why.Reason == DataLost {
				said = n.Why.Detail
			}
			if a, ok := e.(Append); ok {
				kinds = append(kinds, a.Record.Kind)
				if a.Record.Kind == hooks.Override && a.Record.Reason != "the other host burns" {
					t.Errorf("%+v", a.Record)
				}
			}
		}
	}
	if want := "pivot: nothing is known, its source was never heard"; said != want {
		t.Errorf("said %q, want %q", said, want)
	}
	if diff := cmp.Diff([]hooks.RecordKind{hooks.Override, hooks.Began, hooks.Missed}, kinds); diff != "" {
		t.Error(diff)
	}
}

// TestResumesBesideAPeer: what a node was decides, and a peer that lets go has not
// looked yet at what it is.
func TestResumesBesideAPeer(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Databases = []string{"pivot"} })
	r.step(Started{Boot: 7, Memory: hooks.Memory{Epoch: 1, ActiveEpoch: 1, Role: hooks.Active, Finished: true}})
	r.o.databases[0].Facts = replication.Facts{
		Name: "pivot", Reach: replication.Reachable, Channels: replication.Known([]replication.Channel{}),
	}
	for _, tt := range []struct {
		peer PeerState
		want bool
	}{
		{PeerState{State: Backup, Sources: AllReplicas, ActiveEpoch: 2, Epoch: 2}, true},
		{PeerState{State: Demoting, Sources: AllReplicas, ActiveEpoch: 2, Epoch: 2}, false},
		{PeerState{State: Backup, Sources: AllSources, ActiveEpoch: 2, Epoch: 2}, false},
	} {
		r.says(tt.peer)
		if got := r.o.resumes(); got != tt.want {
			t.Errorf("%s with sources %d: resumes %t", tt.peer.State, tt.peer.Sources, got)
		}
	}
}

// TestPlanWaitsForTheLastStep: a newer plan cancels the running one and begins
// when that one's step has answered, or is lost.
func TestPlanWaitsForTheLastStep(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Promote = c.Promote[2:] })
	r.step(Started{Boot: 7})
	closing := need[StartStep](r)
	r.asksSilence()
	r.journaled(nil)
	if c := need[CancelStep](r); c.ID != closing.Order.ID {
		t.Errorf("cancelled %d, want %d", c.ID, closing.Order.ID)
	}
	none[Hold](r)
	r.after(time.Millisecond, StepEnded{ID: closing.Order.ID, Outcome: hooks.Failed})
	r.acquires(nil)

	t.Run("or is lost", func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.Promote = c.Promote[2:] })
		r.step(Started{Boot: 7})
		r.asksSilence()
		r.journaled(nil)
		began := r.now
		for r.o.run.purpose != bidding {
			at, _ := r.o.Deadline()
			r.now = at
			r.step(Tick{})
			if r.now.Sub(began) > time.Minute {
				t.Fatal("waits for ever")
			}
		}
		if waited := r.now.Sub(began); waited < hooks.CancelGrace {
			t.Errorf("waited %s", waited)
		}
	})
}

func TestUnhealthyDropsAtOnce(t *testing.T) {
	r := activeRig(t, nil)
	r.after(time.Millisecond, Probed{Check: "gateway", OK: false, Detail: "no answer"})
	need[Drop](r)
	r.wantState(Demoting, Unhealthy)
	r.ends("close", hooks.Changed)
	r.ends("unit", hooks.Changed)
	r.wantState(Fault, Unhealthy)
	r.after(time.Millisecond, Probed{Check: "gateway", OK: true})
	if r.o.state != Backup {
		t.Errorf("%s", r.o.state)
	}
}

func TestStop(t *testing.T) {
	t.Run("alone it drops and ends", func(t *testing.T) {
		r := activeRig(t, nil)
		r.after(time.Millisecond, StopWanted{})
		need[Drop](r)
		r.ends("close", hooks.Changed)
		r.ends("unit", hooks.Changed)
		need[Stopped](r)
	})
	t.Run("after an earlier switchover the role is still handed over", func(t *testing.T) {
		r := activeRig(t, nil)
		r.o.give = &giving{stage: GiveFailed, answered: true}
		r.says(PeerState{State: Backup, Bids: true})
		r.after(time.Millisecond, StopWanted{})
		none[Drop](r)
		if !r.o.giving() || r.o.give.cause != Stopping {
			t.Error("it is not handed over")
		}
	})
	t.Run("a closed gate of the peer gets a moment to open", func(t *testing.T) {
		closed := PeerState{State: Backup, Bids: true, Gate: []replication.Reason{{Code: replication.Lagging}}}
		r := activeRig(t, nil)
		r.says(closed)
		r.after(time.Millisecond, StopWanted{})
		none[Drop](r)
		closed.Gate = nil
		r.says(closed)
		if !r.o.giving() {
			t.Error("it is not handed over")
		}
	})
	t.Run("a gate that stays closed does not keep the daemon", func(t *testing.T) {
		closed := PeerState{State: Backup, Bids: true, Gate: []replication.Reason{{Code: replication.Lagging}}}
		r := activeRig(t, nil)
		r.says(closed)
		r.after(time.Millisecond, StopWanted{})
		for i := 0; r.o.lease.held; i++ {
			if i > 100 {
				t.Fatal("it never leaves")
			}
			r.now = r.now.Add(50 * time.Millisecond)
			r.says(closed)
		}
		r.wantState(Demoting, Stopping)
	})
	t.Run("a standby ends at once", func(t *testing.T) {
		r := newRig(t, nil)
		r.boots()
		r.after(time.Millisecond, StopWanted{})
		need[Stopped](r)
	})
}

// TestDeadlineNeverStands: a Tick at the deadline always moves it on.
func TestDeadlineNeverStands(t *testing.T) {
	r := activeRig(t, func(c *Config) {
		c.Announce = Announcement{Repeat: 3, Interval: 20 * time.Millisecond, Delay: time.Second, Refresh: 2 * time.Second}
	})
	for range 2000 {
		at, ok := r.o.Deadline()
		if !ok || at == mono.Never {
			t.Fatal("no deadline")
		}
		r.now = max(r.now, at)
		r.step(Tick{})
		if next, _ := r.o.Deadline(); !next.After(r.now) {
			t.Fatalf("the deadline stays at %d", next)
		}
	}
}

// TestSharedUnitOfASilentPeer: the promotion does not wait for a daemon that
// nobody can ask, and comes back to the unit when it says so, or its host is gone.
func TestSharedUnitOfASilentPeer(t *testing.T) {
	begin := func(t *testing.T) *rig {
		r := newRig(t, func(c *Config) { c.Promote = c.Promote[2:] })
		r.boots()
		r.hears(253)
		for r.o.bid == nil || r.o.bid.stage != bidJournaling {
			r.run(50 * time.Millisecond)
			if b := r.o.bid; b != nil && b.stage == bidAsking {
				r.step(Asked{ID: b.wait, Host: true, OnLink: true})
			}
			if r.o.begun.Add(10 * time.Second).Before(r.now) {
				t.Fatal("never takes over")
			}
		}
		r.step(Durable{ID: r.o.bid.wait})
		r.acquires(nil)
		none[StartStep](r)
		r.wantState(Active, PeerSilent)
		if r.o.fixAt == 0 {
			t.Fatal("the promotion counts as complete")
		}
		return r
	}
	t.Run("it says that it stopped it", func(t *testing.T) {
		r := begin(t)
		r.run(failureDelay)
		none[StartStep](r)
		r.says(PeerState{State: Backup, Stopped: []string{unit}})
		r.ends("unit", hooks.Changed)
		if r.o.fixAt != 0 {
			t.Error("the promotion counts as incomplete")
		}
	})
	t.Run("its host is gone", func(t *testing.T) {
		r := begin(t)
		for range 1000 {
			if r.o.goneAsk != 0 {
				r.after(time.Millisecond, Asked{ID: r.o.goneAsk})
				break
			}
			r.run(20 * time.Millisecond)
		}
		r.ends("unit", hooks.Changed)
	})
}
