package failover

import (
	"testing"
	"time"

	"github.com/tanist-ha/tanist/health"
	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/replication"
)

func announcements(r *rig) int {
	n := 0
	for _, e := range r.out {
		if _, ok := e.(Announce); ok {
			n++
		}
	}
	return n
}

func TestLinkDown(t *testing.T) {
	down := LinkChanged{Detail: "eth0 has no carrier"}
	t.Run("an Active lets go before the peer finds out", func(t *testing.T) {
		r := activeRig(t, nil)
		r.run(50 * time.Millisecond)
		lost := r.now
		r.step(down)
		none[Drop](r)
		for r.o.state == Active {
			at, _ := r.o.Deadline()
			r.now = at
			r.step(Tick{})
		}
		need[Drop](r)
		r.wantState(Demoting, LinkDown)
		if away := r.now.Sub(lost); away >= r.o.patience() {
			t.Errorf("after %s, and the peer's patience is %s", away, r.o.patience())
		}
		r.ends("close", hooks.Changed)
		r.ends("unit", hooks.Changed)
		r.wantState(Fault, LinkDown)
		r.run(10 * time.Second)
		r.wantState(Fault, LinkDown)
		if r.o.bids() || r.o.plannedGate().Open {
			t.Error("it would take the role")
		}
		if reasons := r.o.plannedGate().Reasons; len(reasons) != 1 || reasons[0].Code != replication.Unhealthy || reasons[0].Detail != "eth0 has no carrier" {
			t.Errorf("%+v", reasons)
		}
		r.step(LinkChanged{Up: true})
		if r.o.state != Backup {
			t.Errorf("%s with its link back", r.o.state)
		}
	})
	t.Run("a short one only announces", func(t *testing.T) {
		r := activeRig(t, nil)
		r.step(down)
		r.run(100 * time.Millisecond)
		r.step(LinkChanged{Up: true})
		if announcements(r) == 0 {
			t.Error("not announced")
		}
		r.run(time.Second)
		r.wantState(Active, PeerSilent)
	})
	t.Run("a node whose link goes during its takeover does not take the address", func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.Promote = c.Promote[1:] })
		r.boots()
		r.asksSilence()
		r.journaled(nil)
		open := need[StartStep](r)
		r.step(down)
		r.after(10*time.Millisecond, StepEnded{ID: open.Order.ID, Outcome: hooks.Changed})
		none[Hold](r)
		ask := need[AskKernel](r) // what was found before means nothing
		r.after(ask.Within, Asked{ID: ask.ID, Err: errTest})
		r.run(400 * time.Millisecond)
		r.wantState(Demoting, LinkDown)
	})
	t.Run("a node that starts without its interface waits", func(t *testing.T) {
		r := newRig(t, nil)
		r.boots()
		r.step(LinkChanged{Detail: "eth0 is missing"})
		r.run(10 * time.Second)
		r.wantState(Fault, LinkDown)
		none[Append](r)
		r.step(LinkChanged{Up: true})
		r.asksSilence()
	})
	t.Run("a link that flaps is down from the first time on", func(t *testing.T) {
		r := activeRig(t, nil)
		since := r.now
		for range 5 {
			r.after(40*time.Millisecond, down)
		}
		r.run(since.Add(400 * time.Millisecond).Sub(r.now))
		if r.o.state == Active {
			t.Error("still Active")
		}
	})
}

func TestAddressLost(t *testing.T) {
	lost := AddressLost{Address: "10.77.0.100/24"}
	t.Run("it is put back and announced, and nothing moves", func(t *testing.T) {
		r := activeRig(t, nil)
		r.run(time.Second)
		r.step(lost)
		if h := need[Hold](r); h.ID != 0 || h.Lease != 2*time.Second {
			t.Errorf("%+v", h)
		}
		need[Announce](r)
		if n := need[Note](r); n.Why.Reason != AddressTaken || !n.Urgent {
			t.Errorf("%+v", n)
		}
		r.wantState(Active, PeerSilent)
		for range 20 {
			r.after(10*time.Millisecond, lost)
			need[Hold](r)
			none[Note](r) // once is enough for the moment
		}
		if s := r.o.Status(r.now); s.Restored.Count != 21 || s.Restored.Address != lost.Address {
			t.Errorf("%+v", s.Restored)
		}
	})
	t.Run("not on a node that does not hold it", func(t *testing.T) {
		r := newRig(t, nil)
		r.boots()
		r.step(lost)
		none[Hold](r)
		if s := r.o.Status(r.now); s.Restored.Count != 0 {
			t.Errorf("%+v", s.Restored)
		}
	})
}

func TestAddressFound(t *testing.T) {
	found := AddressFound{Address: "10.77.0.100/24"}
	t.Run("a node that may not have it takes it off", func(t *testing.T) {
		r := newRig(t, nil)
		r.boots()
		r.step(found)
		need[Drop](r)
		if n := need[Note](r); n.Why.Reason != AddressForeign || !n.Urgent {
			t.Errorf("%+v", n)
		}
		r.after(time.Second, found)
		need[Drop](r)
		none[Note](r)
	})
	t.Run("the holder's own is left", func(t *testing.T) {
		r := activeRig(t, nil)
		r.step(found)
		none[Drop](r)
	})
	t.Run("so is one that is being acquired", func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.Promote = c.Promote[2:] })
		r.boots()
		r.asksSilence()
		r.journaled(nil)
		need[Hold](r)
		r.step(found)
		none[Drop](r)
	})
}

func TestGuard(t *testing.T) {
	look := func(t *testing.T, r *rig, limit time.Duration) AskKernel {
		t.Helper()
		ask, ok := r.asked(limit)
		if !ok {
			t.Fatal("not looked")
		}
		return ask
	}
	for _, tt := range []struct {
		name     string
		answer   Asked
		claimant string
		why      Reason
	}{
		{"nobody else", Asked{Host: true, OnLink: true}, "", 0},
		{"the peer's host", Asked{Host: true, OnLink: true, Address: true}, "reserve", AddressAnswers},
		{"a stranger", Asked{Stranger: strangerMAC}, strangerMAC, StrangerAnswers},
		{"a question that could not be put", Asked{Err: errTest}, "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := activeRig(t, nil)
			r.run(500 * time.Millisecond)
			tt.answer.ID = look(t, r, time.Second).ID
			r.after(100*time.Millisecond, tt.answer)
			if got := r.o.Status(r.now).Claimant; got != tt.claimant {
				t.Errorf("claimant %q", got)
			}
			note, said := find[Note](r)
			if said != (tt.claimant != "") || said && (note.Why.Reason != tt.why || !note.Urgent) {
				t.Errorf("said %v, %+v", said, note)
			}
			if announced := announcements(r) > 0; announced != said {
				t.Errorf("announced %v", announced)
			}
			r.wantState(Active, PeerSilent)
			again := guardEvery
			if said {
				again = guardAgain
			}
			r.step(Tick{})
			ask := look(t, r, again)
			r.after(100*time.Millisecond, Asked{ID: ask.ID})
			if got := r.o.Status(r.now).Claimant; got != "" {
				t.Errorf("claimant %q afterwards", got)
			}
		})
	}
	t.Run("a standby does not look", func(t *testing.T) {
		r := newRig(t, nil)
		r.boots()
		for range 100 {
			r.hears(253)
			r.run(300 * time.Millisecond)
			none[AskKernel](r)
		}
	})
}

func TestAnnouncedAnew(t *testing.T) {
	for _, tt := range []struct {
		name  string
		quiet time.Duration
		state PeerState
		now   bool
	}{
		{"a peer that is heard after a silence", 3 * time.Second, PeerState{State: Backup}, true},
		{"one that was heard a moment ago", 100 * time.Millisecond, PeerState{State: Backup}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := activeRig(t, nil)
			r.says(PeerState{State: Backup})
			r.run(tt.quiet)
			r.says(tt.state)
			if got := announcements(r) > 0; got != tt.now {
				t.Errorf("announced: %t", got)
			}
		})
	}
	t.Run("the last word after a contest", func(t *testing.T) {
		r := activeRig(t, nil)
		r.run(time.Second)
		for range 5 {
			r.hears(100)
			r.run(200 * time.Millisecond)
		}
		quiet, last := r.now, r.now
		for r.now.Sub(quiet) < 2*time.Second {
			r.now, _ = r.o.Deadline()
			if r.step(Tick{}); announcements(r) > 0 {
				last = r.now
			}
		}
		if after := last.Sub(quiet); after < 100*time.Millisecond || after > time.Second {
			t.Errorf("announced %s after the other fell silent", after)
		}
	})
	t.Run("a peer that says goodbye", func(t *testing.T) {
		r := activeRig(t, nil)
		r.says(PeerState{State: Backup})
		r.run(100 * time.Millisecond)
		r.hears(0)
		if announcements(r) == 0 {
			t.Error("not announced")
		}
	})
	t.Run("a peer that lets go of the address as well", func(t *testing.T) {
		r := activeRig(t, nil)
		r.says(PeerState{State: Active, Holds: true})
		r.says(PeerState{State: Demoting})
		if announcements(r) == 0 {
			t.Error("not announced")
		}
	})
}

// TestRenewalsAlign lets two instances that came to the address at different
// times renew it at the same instants.
func TestRenewalsAlign(t *testing.T) {
	a, b := activeRig(t, nil), activeRig(t, nil)
	b.run(137 * time.Millisecond)
	a.run(b.now.Sub(a.now))
	for range 20 {
		if a.o.lease.renewAt != b.o.lease.renewAt {
			t.Fatalf("renewed at %d and %d", a.o.lease.renewAt, b.o.lease.renewAt)
		}
		if in := a.o.lease.renewAt.Sub(a.now); in > a.o.cfg.Lease/4 {
			t.Fatalf("renewed in %s", in)
		}
		a.run(100 * time.Millisecond)
		b.run(100 * time.Millisecond)
	}
}

func TestPreemptWaitsForHealth(t *testing.T) {
	r := newRig(t, func(c *Config) {
		c.Preempt, c.PreemptDelay = true, 2*time.Second
		c.Checks = append(c.Checks, health.Check{Name: "nginx", Rise: 1, Fall: 1, Effect: health.Yield})
	})
	r.boots()
	active := PeerState{State: Active, Holds: true, Epoch: 3, ActiveEpoch: 3}
	r.says(active)
	r.ends("close", hooks.Unchanged)
	r.ends("unit", hooks.Unchanged)
	r.step(Probed{Check: "nginx", Detail: "inactive"})
	for range 50 {
		r.says(active)
		r.run(100 * time.Millisecond)
	}
	if r.o.wish != nil {
		t.Fatal("it asks for a role that it would hand back")
	}
	r.step(Probed{Check: "nginx", OK: true})
	well := r.now
	for r.o.wish == nil && r.now.Sub(well) < 10*time.Second {
		r.says(active)
		r.run(100 * time.Millisecond)
	}
	if waited := r.now.Sub(well); waited < 2*time.Second || waited > 3*time.Second {
		t.Errorf("asked %s after it was well", waited)
	}
}
