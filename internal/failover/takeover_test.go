package failover

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/replication"
)

const strangerMAC = "02:00:00:00:00:99"

// answers lets time pass for d; whatever is asked is answered with a.
func (r *rig) answers(d time.Duration, a Asked) {
	r.t.Helper()
	for end := r.now.Add(d); !r.now.After(end); {
		if ask, ok := find[AskKernel](r); ok {
			a.ID = ask.ID
			r.after(ask.Within, a)
			continue
		}
		at, _ := r.o.Deadline()
		if at.After(end) {
			return
		}
		r.now = max(r.now, at)
		r.step(Tick{})
	}
}

func TestStranger(t *testing.T) {
	t.Run("it delays a takeover, raises the alarm once, and does not stop it", func(t *testing.T) {
		r := newRig(t, nil)
		r.boots()
		r.hears(253)
		heard, alarms := r.now, 0
		for r.o.bid == nil || r.o.bid.stage < bidJournaling {
			r.answers(50*time.Millisecond, Asked{Stranger: strangerMAC})
			for _, e := range r.out {
				if n, ok := e.(Note); ok && n.Urgent && n.Why.Reason == StrangerAnswers {
					alarms++
				}
			}
			if r.o.bid == nil || r.o.bid.stage < bidJournaling {
				r.run(10 * time.Millisecond)
			}
			if r.now.Sub(heard) > 10*time.Second {
				t.Fatal("never takes over")
			}
		}
		if waited := r.now.Sub(heard); waited < 2*time.Second+leaseGrace {
			t.Errorf("took over after %s", waited)
		}
		if r.o.strange != strangerMAC || alarms > 1 {
			t.Errorf("%d alarms about %q", alarms, r.o.strange)
		}
	})
	t.Run("the peer's own answer is a conflict all the same", func(t *testing.T) {
		r := newRig(t, nil)
		r.boots()
		r.answers(8*time.Second, Asked{Address: true, Host: true, OnLink: true, Stranger: strangerMAC})
		r.wantState(Conflict, AddressAnswers)
	})
	t.Run("at the vip step it is waited for as well", func(t *testing.T) {
		r := newRig(t, nil)
		r.boots()
		r.hears(253)
		heard := r.now
		r.asksSilence()
		r.journaled(nil)
		step := need[StartStep](r)
		r.run(700 * time.Millisecond) // what was found before the plan is too old now
		r.step(StepEnded{ID: step.Order.ID, Outcome: hooks.Changed})
		r.ends("open", hooks.Changed)
		r.answers(time.Second, Asked{Stranger: strangerMAC})
		none[Hold](r)
		for r.o.lease.acquire == 0 {
			r.answers(100*time.Millisecond, Asked{Stranger: strangerMAC})
			if r.now.Sub(heard) > 10*time.Second {
				t.Fatal("never takes over")
			}
		}
		if waited := r.now.Sub(heard); waited < 2*time.Second+leaseGrace {
			t.Errorf("took over after %s", waited)
		}
	})
}

func TestFence(t *testing.T) {
	fenced := func(t *testing.T, required bool) *rig {
		t.Helper()
		r := newRig(t, func(c *Config) {
			c.Fence = hooks.Plan{
				{Name: "power off", Timeout: 5 * time.Second, Action: hooks.Exec{Command: []string{"/bin/off"}}},
				{Name: "unplug", Timeout: 5 * time.Second, Action: hooks.Unit{Verb: hooks.StopUnit, Name: "uplink.service"}},
			}
			c.FenceRequired = required
		})
		r.boots()
		return r
	}
	t.Run("before anything is opened, and after the gate", func(t *testing.T) {
		r := fenced(t, true)
		r.asksSilence()
		none[StartStep](r)
		r.journaled(nil)
		r.ends("power off", hooks.Changed)
		r.ends("unplug", hooks.Changed)
		r.ends("replication", hooks.Changed)
		r.ends("open", hooks.Changed)
		r.acquires(nil)
		r.ends("unit", hooks.Changed)
		r.wantState(Active, PeerSilent)
		if n := len(r.o.last.Steps); n != 6 {
			t.Errorf("%d steps in the transition", n)
		}
	})
	t.Run("required and failed: nothing is opened, and the promotion is taken back", func(t *testing.T) {
		r := fenced(t, true)
		r.asksSilence()
		r.journaled(nil)
		r.ends("power off", hooks.Changed)
		r.ends("unplug", hooks.Failed)
		none[Hold](r)
		none[StartStep](r)
		r.wantState(Refused, FenceFailed)
		if !strings.Contains(r.o.why.Detail, "unplug") {
			t.Errorf("it says %q", r.o.why.Detail)
		}
		r.run(5 * time.Second)
		r.wantState(Refused, FenceFailed) // not at once again
		r.asksSilence()
		r.journaled(nil)
		r.ends("power off", hooks.Changed)
	})
	t.Run("wanted and failed: it goes on, and says so", func(t *testing.T) {
		r := fenced(t, false)
		r.asksSilence()
		r.journaled(nil)
		r.ends("power off", hooks.Failed)
		r.ends("unplug", hooks.TimedOut)
		r.ends("replication", hooks.Changed)
		r.ends("open", hooks.Changed)
		r.acquires(nil)
		r.ends("unit", hooks.Changed)
		if r.o.state != Active || r.o.last.Ending == hooks.Completed || !strings.Contains(r.o.why.Detail, "power off") {
			t.Errorf("%s: %q, %s", r.o.state, r.o.why.Detail, r.o.last.Ending)
		}
	})
	t.Run("a step that fails later undoes no fence", func(t *testing.T) {
		r := fenced(t, true)
		r.asksSilence()
		r.journaled(nil)
		r.ends("power off", hooks.Changed)
		r.ends("unplug", hooks.Changed)
		r.ends("replication", hooks.Changed)
		r.ends("open", hooks.Failed)
		r.ends("undo open", hooks.Changed)
		r.ends("undo replication", hooks.Changed)
		r.wantState(Refused, StepFailed)
		none[StartStep](r)
	})
	t.Run("the repair of an incomplete promotion begins after the address", func(t *testing.T) {
		r := fenced(t, true)
		r.asksSilence()
		r.journaled(nil)
		for _, name := range []string{"power off", "unplug", "replication", "open"} {
			r.ends(name, hooks.Changed)
		}
		r.acquires(nil)
		r.ends("unit", hooks.Failed)
		for end := r.now.Add(15 * time.Second); r.now.Before(end); {
			if s, ok := find[StartStep](r); ok {
				if s.Order.Step.Name != "unit" {
					t.Errorf("repairs %s", s.Order.Step.Name)
				}
				return
			}
			if ask, ok := find[AskKernel](r); ok {
				r.after(ask.Within, Asked{ID: ask.ID})
				continue
			}
			r.now, _ = r.o.Deadline()
			r.step(Tick{})
		}
		t.Error("not repaired")
	})
	t.Run("not against a peer that says it is not Active", func(t *testing.T) {
		r := fenced(t, true)
		r.run(time.Second)
		r.says(PeerState{State: Refused})
		r.journaled(nil)
		if s := need[StartStep](r); s.Order.Step.Name != "replication" {
			t.Errorf("begins with %s", s.Order.Step.Name)
		}
	})
}

// TestPreemptRival takes the role from a weaker router that is no Tanist.
func TestPreemptRival(t *testing.T) {
	standby := func(t *testing.T, preempt bool) *rig {
		r := newRig(t, func(c *Config) {
			c.Promote, c.Preempt, c.PreemptDelay = c.Promote[2:], preempt, time.Second
		})
		r.boots()
		return r
	}
	// rivals lets the other advertise for d or until a durable record is wanted.
	rivals := func(r *rig, priority uint8, d time.Duration) bool {
		for end := r.now.Add(d); r.now.Before(end); {
			for next := r.now.Add(200 * time.Millisecond); ; r.step(Tick{}) {
				if a, ok := find[Append](r); ok && a.Record.Kind == hooks.Began {
					return true
				}
				at, _ := r.o.Deadline()
				if at.After(next) {
					r.now = next
					break
				}
				r.now = max(r.now, at)
			}
			r.hears(priority)
		}
		return false
	}
	t.Run("claims, waits until it let go, and acquires", func(t *testing.T) {
		r := standby(t, true)
		began := r.now
		if !rivals(r, 100, 5*time.Second) {
			t.Fatal("no bid")
		}
		if waited := r.now.Sub(began); waited < time.Second {
			t.Errorf("after %s", waited)
		}
		r.journaled(nil)
		if s := need[Send](r); s.Advertisement.Priority != 254 {
			t.Errorf("%+v", s)
		}
		ask := need[AskKernel](r)
		r.after(ask.Within, Asked{ID: ask.ID, Host: true, Address: true, OnLink: true})
		none[Hold](r)
		let := r.now
		for range asksWithoutAddress {
			none[Hold](r)
			ask, again := r.asked(200 * time.Millisecond)
			if !again {
				t.Fatal("not asked again")
			}
			r.after(ask.Within, Asked{ID: ask.ID, Host: true, OnLink: true})
		}
		r.acquires(nil)
		if gap := r.now.Sub(let); gap > 150*time.Millisecond {
			t.Errorf("nobody had the address for %s", gap)
		}
		r.wantState(Active, Preempting) // its unit waits for nobody who could answer
	})
	for _, tt := range []struct {
		name     string
		preempt  bool
		priority uint8
		before   func(*rig)
	}{
		{"not without preempt", false, 100, nil},
		{"not against a stronger one", true, 255, nil},
		{"not against a Tanist, which is asked", true, 253, func(r *rig) { r.says(PeerState{State: Backup, Epoch: 1}) }},
		{"not when a health check forbids it", true, 100, func(r *rig) { r.step(Probed{Check: "gateway"}) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := standby(t, tt.preempt)
			if tt.before != nil {
				tt.before(r)
			}
			if rivals(r, tt.priority, 5*time.Second) {
				t.Error("bids")
			}
		})
	}
	t.Run("a proved advertisement is a Tanist's", func(t *testing.T) {
		r := standby(t, true)
		for range 20 {
			r.run(200 * time.Millisecond)
			r.proves(100, 3)
		}
		if r.o.bid != nil {
			t.Error("bids")
		}
	})
}

// TestYieldOnce lets two live hosts without a link find the address gone at once.
func TestYieldOnce(t *testing.T) {
	// claims brings a node to its claim, after a live host answered without the
	// address.
	claims := func(t *testing.T, peer uint8) *rig {
		r := newRig(t, func(c *Config) { c.Promote, c.PeerPriority, c.Router.Interval = c.Promote[2:], peer, 10 })
		r.boots()
		r.hears(peer)
		for range 100 {
			if a, ok := find[Append](r); ok && a.Record.Kind == hooks.Began {
				break
			}
			if ask, ok := find[AskKernel](r); ok {
				r.after(ask.Within, Asked{ID: ask.ID, Host: true, OnLink: true})
				continue
			}
			r.now, _ = r.o.Deadline()
			r.step(Tick{})
		}
		r.journaled(nil)
		if s := need[Send](r); s.Advertisement.Priority != 254 {
			t.Errorf("%+v", s.Advertisement)
		}
		return r
	}
	t.Run("the stronger one acquires", func(t *testing.T) {
		claims(t, 253).acquires(nil)
	})
	t.Run("the weaker one asks once more", func(t *testing.T) {
		r := claims(t, 255)
		none[Hold](r)
		ask := need[AskKernel](r)
		if ask.Within != askLongest {
			t.Errorf("for %s", ask.Within)
		}
		r.after(ask.Within, Asked{ID: ask.ID, Host: true, OnLink: true})
		r.acquires(nil)
	})
	t.Run("and gives way to the claim of the stronger", func(t *testing.T) {
		r := claims(t, 255)
		ask := need[AskKernel](r)
		r.hears(255)
		r.wantState(Backup, StrongerPeer)
		r.after(ask.Within, Asked{ID: ask.ID, Host: true, OnLink: true})
		none[Hold](r)
	})
	t.Run("and to the address of the stronger", func(t *testing.T) {
		r := claims(t, 255)
		ask := need[AskKernel](r)
		r.after(ask.Within, Asked{ID: ask.ID, Host: true, Address: true, OnLink: true})
		none[Hold](r)
	})
}

// TestGoodbyeOfNoUse: a goodbye says that the peer does not have the address, and
// nothing of what it does afterwards.
func TestGoodbyeOfNoUse(t *testing.T) {
	t.Run("it waited for a loop that was away", func(t *testing.T) {
		r := newRig(t, nil)
		r.boots()
		r.run(2 * queueTime)
		r.proves(253, 3)
		r.now = r.now.Add(awayTime + time.Millisecond)
		r.proves(0, 3)
		if r.o.left {
			t.Error("believed")
		}
		r.run(2 * queueTime)
		r.proves(0, 3)
		if !r.o.left {
			t.Error("nor is the next one")
		}
	})
	t.Run("the peer may have come back since", func(t *testing.T) {
		r := newRig(t, nil)
		r.boots()
		r.run(2 * queueTime) // it may not bid yet
		r.proves(0, 3)
		if !r.o.left {
			t.Fatal("not heard")
		}
		for range 100 {
			if _, asks := find[AskKernel](r); asks {
				return
			}
			if a, ok := find[Append](r); ok && a.Record.Kind == hooks.Began && a.Record.Role == hooks.Active {
				t.Fatal("it does not ask")
			}
			r.now, _ = r.o.Deadline()
			r.step(Tick{})
		}
		t.Error("it does not bid")
	})
	t.Run("this node had the address since", func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.Promote = c.Promote[2:] })
		r.boots()
		for begun := r.now; r.now.Sub(begun) < r.o.router.ActiveDownInterval(); r.run(queueTime) {
			r.hears(253)
		}
		r.proves(0, 3)
		if !r.o.left {
			t.Fatal("not heard")
		}
		for range 100 {
			if a, ok := find[Append](r); ok && a.Record.Kind == hooks.Began {
				break
			}
			none[AskKernel](r)
			r.now, _ = r.o.Deadline()
			r.step(Tick{})
		}
		r.journaled(nil)
		r.acquires(nil)
		if r.o.left {
			t.Error("it is remembered")
		}
		r.proves(0, 3)
		if r.o.left {
			t.Error("believed of a peer that hears what this node will say")
		}
	})
}

// TestLaterHandoverLeavesTheRunningPlan: a node that lost the role it had just taken
// refuses the next handover while its plan still ends, and undoes nothing for that.
func TestLaterHandoverLeavesTheRunningPlan(t *testing.T) {
	r := newRig(t, nil)
	r.boots()
	first, next := HandoverID{Boot: 99, Seq: 1}, HandoverID{Boot: 99, Seq: 2}
	gives := func(id HandoverID, stage GiveStage) PeerState {
		return PeerState{
			State: Active, Holds: true, Epoch: 1, ActiveEpoch: 1, Bids: true, Give: &Give{ID: id, Stage: stage, Epoch: 2},
		}
	}
	r.says(gives(first, GivePreparing))
	r.after(time.Millisecond, Checked{ID: need[CheckSteps](r).ID})
	r.says(gives(first, GiveFrozen))
	r.journaled(nil)
	r.ends("replication", hooks.Changed)
	r.says(gives(first, GiveFrozen))
	r.ends("open", hooks.Changed)
	r.says(gives(first, GiveFrozen))
	r.acquires(nil)
	released := gives(first, GiveReleased)
	released.State, released.Holds, released.Stopped = Demoting, false, []string{unit}
	r.says(released)
	deaf := need[StartStep](r)
	r.after(10*time.Second, Tick{})
	r.wantState(Demoting, Late)
	r.says(gives(next, GivePreparing))
	if r.o.take.view.ID != next || r.o.take.view.Stage != TakeRefused {
		t.Fatalf("%+v", r.o.take.view)
	}
	r.after(time.Millisecond, StepEnded{ID: deaf.Order.ID, Outcome: hooks.Cancelled})
	var started []string
	for _, e := range r.out {
		if s, ok := e.(StartStep); ok {
			started = append(started, s.Order.Step.Name)
		}
	}
	if diff := cmp.Diff([]string{"close"}, started); diff != "" {
		t.Errorf("started (-want +got):\n%s", diff)
	}
	r.wantState(Demoting, Late)
}

// TestWordDuringAClaim: what the source said while a takeover was on its way counts
// against the next one.
func TestWordDuringAClaim(t *testing.T) {
	for name, said := range map[string]PeerState{
		"a holder of a later epoch": {State: Promoting, Holds: true, Epoch: 2, ActiveEpoch: 2},
		"an Active that lets go":    {State: Demoting, Holds: true, Epoch: 2, ActiveEpoch: 2},
		"an Active of this epoch":   {State: Active, Holds: true, Epoch: 1, ActiveEpoch: 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(c *Config) { c.Databases = []string{"pivot"} })
			r.step(Started{Boot: 7, Memory: hooks.Memory{Epoch: 1, ActiveEpoch: 1, Role: hooks.Standby, Finished: true}})
			r.ends("close", hooks.Unchanged)
			r.ends("unit", hooks.Unchanged)
			r.says(PeerState{State: Active, Holds: true, Epoch: 2, ActiveEpoch: 2, Positions: []Position{{Database: "pivot", Executed: at(t, "0-1-100")}}})
			for i := 0; r.o.bid == nil || r.o.bid.stage != bidRunning; i++ {
				if i > 1000 {
					t.Fatalf("no takeover: %s (%s)", r.o.state, r.o.why.Reason)
				}
				if m, ok := find[Measure](r); ok {
					r.after(time.Millisecond, Measured{ID: m.ID, Facts: []replication.Facts{r.replica("pivot", "0-1-100", replication.ThreadConnecting)}})
				} else if ask, ok := find[AskKernel](r); ok {
					r.after(time.Millisecond, Asked{ID: ask.ID})
				} else if c, ok := find[CatchUp](r); ok {
					r.after(time.Millisecond, CaughtUp{ID: c.ID})
				} else if a, ok := find[Append](r); ok && a.ID != 0 {
					r.after(time.Millisecond, Durable{ID: a.ID})
				} else {
					r.now, _ = r.o.Deadline()
					r.step(Tick{})
				}
			}
			said.Positions = []Position{{Database: "pivot", Executed: at(t, "0-1-116")}}
			r.says(said)
			if last, _ := r.o.databases[0].Heard.Last(); !last.Equal(at(t, "0-1-116")) {
				t.Errorf("the source was last heard at %v", last)
			}
			if r.o.gate(replication.SourceLost, nil).Open {
				t.Error("the gate lets the next takeover through without what the source had")
			}
		})
	}
}

// TestTakeAnnouncesFirst: in a switchover the neighbours are told before the
// advertisement that makes the old node let go.
func TestTakeAnnouncesFirst(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Promote = c.Promote[2:] })
	r.boots()
	r.hears(253)
	give := Give{ID: HandoverID{Boot: 99, Seq: 1}, Stage: GivePreparing, Epoch: 2}
	says := func() {
		r.says(PeerState{State: Active, Holds: true, ActiveEpoch: 1, Epoch: 1, Sources: NoDatabases, Bids: true, Give: &give})
	}
	says()
	check := need[CheckSteps](r)
	if settling, is := find[StartStep](r); is {
		r.after(time.Millisecond, StepEnded{ID: settling.Order.ID, Outcome: hooks.Unchanged})
	}
	r.after(time.Millisecond, Checked{ID: check.ID})
	give.Stage = GiveFrozen
	says()
	r.journaled(nil)
	for range 3 {
		if _, ok := find[Hold](r); ok {
			break
		}
		says()
	}
	r.acquires(nil)
	var order []string
	for _, e := range r.out {
		name := strings.TrimPrefix(fmt.Sprintf("%T", e), "failover.")
		if slices.Contains([]string{"Announce", "Send", "Tell"}, name) {
			order = append(order, name)
		}
	}
	if diff := cmp.Diff([]string{"Announce", "Send", "Tell"}, order); diff != "" {
		t.Error(diff)
	}
}

// A standby's database that does not answer is waited for, a while.
func TestTakeWaitsForAnAnswer(t *testing.T) {
	begin := func(t *testing.T) *rig {
		r := newRig(t, func(c *Config) { c.Databases = []string{"pivot"} })
		r.boots()
		r.hears(253)
		r.says(PeerState{
			State: Active, Holds: true, ActiveEpoch: 1, Epoch: 1, Sources: AllSources, Bids: true,
			Positions: []Position{{Database: "pivot", Executed: at(t, "0-1-9")}},
			Give:      &Give{ID: HandoverID{Boot: 99, Seq: 1}, Stage: GivePreparing, Epoch: 2},
		})
		m := r.o.take.measure
		r.after(time.Millisecond, Measured{ID: m, Facts: []replication.Facts{r.down("pivot", replication.ReachTimedOut)}})
		return r
	}
	again := func(r *rig) {
		g := PeerState{
			State: Active, Holds: true, ActiveEpoch: 1, Epoch: 1, Sources: AllSources, Bids: true,
			Positions: []Position{{Database: "pivot", Executed: at(t, "0-1-9")}}, Give: &r.o.take.give,
		}
		r.says(g)
	}
	t.Run("and taken over when it does", func(t *testing.T) {
		r := begin(t)
		if r.o.take.view.Stage != TakePreparing {
			t.Fatalf("stage %d at once", r.o.take.view.Stage)
		}
		again(r)
		r.after(time.Millisecond, Measured{ID: 1 << 40, Facts: []replication.Facts{r.replica("pivot", "0-1-9", replication.ThreadRunning)}})
		if c, ok := find[CatchUp](r); !ok || len(c.Targets) != 1 {
			t.Errorf("effects %s", shown(r.out))
		}
	})
	t.Run("and refused when it does not", func(t *testing.T) {
		r := begin(t)
		for end := r.now.Add(2 * gatePatience); r.now.Before(end) && r.o.take.view.Stage == TakePreparing; {
			r.now = r.now.Add(200 * time.Millisecond)
			again(r)
			r.after(time.Millisecond, Measured{ID: 1 << 40, Facts: []replication.Facts{r.down("pivot", replication.ReachTimedOut)}})
		}
		if v := r.o.take.view; v.Stage != TakeRefused || v.Why.Reason != GateClosed {
			t.Errorf("%+v", v)
		}
	})
}

// The lease of a host that fell silent and answers again counts from there: it may
// have been paused.
func TestPausedHostAnswersAgain(t *testing.T) {
	for silent, counts := range map[int]bool{asksWithoutAnswer - 1: false, asksWithoutAnswer: true} {
		r := newRig(t, nil)
		r.boots()
		r.hears(253)
		answer := func(host bool) {
			ask, asked := r.asked(5 * time.Second)
			if !asked {
				t.Fatal("no question")
			}
			r.after(time.Millisecond, Asked{ID: ask.ID, Host: host})
		}
		answer(true) // before its silence counts
		answer(true)
		first := r.o.alive
		for range silent {
			answer(false)
		}
		answer(true)
		if again := r.o.alive != first; again != counts {
			t.Errorf("after %d questions without an answer its lease counts anew: %t", silent, again)
		}
	}
}

// So does the lease of a host that nobody asked for a while, unless it was over by
// then: the host may have been paused and nobody saw it.
func TestHostThatNobodyAsked(t *testing.T) {
	for _, tt := range []struct {
		after  time.Duration
		counts bool
	}{
		{200 * time.Millisecond, false},
		{time.Second, true},
	} {
		r := newRig(t, nil)
		r.boots()
		r.hears(253)
		var last ID
		for range 2 {
			ask, asked := r.asked(5 * time.Second)
			if !asked {
				t.Fatal("no question")
			}
			last = ask.ID
			r.after(time.Millisecond, Asked{ID: last, Host: true})
		}
		first := r.o.alive
		r.o.now = r.o.now.Add(tt.after)
		r.o.noteKernel(Asked{Host: true})
		if again := r.o.alive != first; again != tt.counts {
			t.Errorf("asked again after %s: its lease counts anew: %t", tt.after, again)
		}
		over := first.Add(r.o.cfg.Lease + 2*leaseGrace)
		r.o.alive, r.o.aliveLast = first, r.o.now
		for ; r.o.now.Before(over); r.o.now = r.o.now.Add(askAgain) {
			r.o.noteKernel(Asked{Host: true})
		}
		r.o.now = r.o.now.Add(tt.after)
		if r.o.noteKernel(Asked{Host: true}); r.o.alive != first {
			t.Errorf("asked again %s after its lease was over: it counts anew", tt.after)
		}
		r.o.now = r.o.now.Add(3 * retryDelay)
		if r.o.noteKernel(Asked{Host: true}); r.o.alive == first {
			t.Error("asked again long after its lease was over, when it can be another: it does not count anew")
		}
	}
}

// What the peer's kernel answered before this node had the address tells nothing of a
// lease that the peer can have had since.
func TestAnswerFromBeforeTheOwnTenure(t *testing.T) {
	r := activeRig(t, nil)
	r.o.now = r.now
	r.o.noteKernel(Asked{Host: true})
	r.o.dropAddress()
	r.o.now = r.now.Add(askAgain)
	if r.o.noteKernel(Asked{Host: true}); r.o.alive != r.o.now {
		t.Errorf("the peer's lease counts from %s before this node let go", r.now.Sub(r.o.alive))
	}
}
