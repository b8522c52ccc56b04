package failover

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/health"
	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/replication"
)

// wants gives an operator's command about a hold.
func (r *rig) wants(q HoldRequest) {
	r.t.Helper()
	if q.Reason == "" {
		q.Reason = "kernel upgrade"
	}
	q.UID = 1000
	r.after(time.Millisecond, HoldWanted{Command: 5, Request: q})
}

// told is the register that the peer was told last.
func (r *rig) told() Maintenance {
	r.t.Helper()
	if m := need[Tell](r).State.Maintenance; m != nil {
		return *m
	}
	return Maintenance{}
}

// standby is what a well standby says that has a register.
func standby(m *Maintenance) PeerState {
	return PeerState{State: Backup, Bids: true, Maintenance: m}
}

// maintains switches the maintenance on and lets the peer note it.
func (r *rig) maintains(q HoldRequest) {
	r.t.Helper()
	q.Kind, q.On = MaintenanceHold, true
	r.says(standby(nil))
	r.wants(q)
	r.journaled(nil)
	none[Answer](r)
	m := r.told()
	m.Until, m.Settled = 0, false
	r.says(standby(&m))
	if a := need[Answer](r); a.Outcome != Done || a.Why.Reason != InMaintenance {
		r.t.Fatalf("%+v", a)
	}
}

// kept answers the record of a register.
func (r *rig) kept(err error) {
	r.t.Helper()
	for _, e := range r.out {
		if a, ok := e.(Append); ok && a.Record.Kind == hooks.Maintaining && a.ID != 0 {
			r.after(time.Millisecond, Durable{ID: a.ID, Err: err})
			return
		}
	}
	r.t.Fatalf("no record of a maintenance among %s", shown(r.out))
}

func gateCodes(w Why) (codes []replication.Code) {
	for _, g := range w.Gate {
		codes = append(codes, g.Code)
	}
	return codes
}

// The lease is the long one only once the peer is known to wait for it.
func TestLeaseOfMaintenance(t *testing.T) {
	r := activeRig(t, nil)
	r.says(standby(nil))
	r.wants(HoldRequest{Kind: MaintenanceHold, On: true})
	if rec := need[Append](r).Record; rec.Kind != hooks.Maintaining || !rec.Hold.On || rec.UID != 1000 || rec.Reason != "kernel upgrade" {
		t.Fatalf("%+v", rec)
	}
	if r.o.maintained() {
		t.Fatal("it holds before it is durable")
	}
	r.journaled(nil)
	m := r.told()
	if !m.On || m.Version != 1 || m.By != "primary" || m.Settled {
		t.Fatalf("told %+v", m)
	}
	r.after(600*time.Millisecond, Tick{})
	if h := need[Hold](r); h.Lease != 2*time.Second {
		t.Fatalf("a lease of %s before the peer knows", h.Lease)
	}
	r.says(standby(&Maintenance{Version: 1, By: "primary", On: true}))
	if h := need[Hold](r); h.Lease != MaintenanceLease {
		t.Fatalf("a lease of %s though the peer knows", h.Lease)
	}
	r.wants(HoldRequest{Kind: MaintenanceHold})
	r.journaled(nil)
	if m := r.told(); m.On || m.Settled || m.Version != 2 {
		t.Fatalf("told %+v", m)
	}
	if h := need[Hold](r); h.Lease != 2*time.Second {
		t.Fatalf("a lease of %s after it was switched off", h.Lease)
	}
	// It counts as short only when that renewal is known not to have failed.
	r.after(time.Millisecond, Held{Err: errTest})
	if r.o.toldMaintenance().Settled {
		t.Fatal("settled after a renewal that failed")
	}
	r.run(60 * time.Millisecond)
	if r.o.toldMaintenance().Settled {
		t.Fatal("settled after one renewal")
	}
	r.run(time.Second)
	if !r.o.toldMaintenance().Settled {
		t.Fatal("never settled")
	}
}

// A peer of another release, or whose journal is gone, does not wait for a long lease
// that an earlier one waited for.
func TestLeaseBesideAPeerThatForgot(t *testing.T) {
	r := activeRig(t, nil)
	r.maintains(HoldRequest{})
	if got := r.o.leaseNow(); got != MaintenanceLease {
		t.Fatalf("%s", got)
	}
	r.says(PeerState{Boot: 100, State: Backup, Bids: true})
	if h := need[Hold](r); h.Lease != 2*time.Second {
		t.Errorf("a lease of %s though the peer knows of no maintenance", h.Lease)
	}
	if s := r.o.Status(r.now).Maintenance; s == nil || s.Shared || s.Lease != 2*time.Second {
		t.Errorf("status says %+v", s)
	}
	r.says(PeerState{Boot: 100, State: Backup, Bids: true, Maintenance: &Maintenance{Version: 1, By: "primary", On: true}})
	if h := need[Hold](r); h.Lease != MaintenanceLease {
		t.Errorf("a lease of %s though the peer has learned it", h.Lease)
	}
}

// A standby waits for the long lease from when it noted the maintenance until the
// peer says that it is over, whatever was switched, over or restarted in between.
func TestPatienceWithALongLease(t *testing.T) {
	holder := func(m Maintenance) PeerState {
		return PeerState{State: Active, Holds: true, Bids: true, Epoch: 4, ActiveEpoch: 4, Maintenance: &m}
	}
	on := Maintenance{Version: 1, By: "reserve", On: true, Lease: MaintenanceLease, Reason: "upgrade"}
	r := newRig(t, nil)
	r.boots()
	r.says(holder(on))
	if !r.o.maintained() || r.o.peerLeaseMost() != MaintenanceLease {
		t.Fatal("not learned")
	}
	if need[Tell](r).State.Maintenance != nil {
		t.Fatal("told before it is durable")
	}
	r.kept(errTest)
	r.after(2*retryDelay, Tick{})
	r.kept(nil) // again, until it is
	if m := r.told(); !m.same(on) || !m.On {
		t.Fatalf("told %+v", m)
	}
	r.wants(HoldRequest{Kind: MaintenanceHold})
	r.journaled(nil)
	r.says(holder(on)) // it has not heard of it yet
	if r.o.peerLeaseMost() != MaintenanceLease {
		t.Fatal("short while the holder does not know")
	}
	off := Maintenance{Version: 2, By: "primary"}
	r.says(holder(off))
	if r.o.peerLeaseMost() != MaintenanceLease {
		t.Fatal("short while the holder's lease may be long")
	}
	var m hooks.Memory
	m = m.Fold(r.o.maintenanceRecord(on, false)).Fold(r.o.maintenanceRecord(off, false))
	again := newRig(t, nil)
	again.step(Started{Boot: 8, Memory: m})
	if again.o.peerLeaseMost() != MaintenanceLease {
		t.Fatal("short after a restart")
	}
	off.Settled = true
	r.says(holder(off))
	if r.o.peerLeaseMost() != 2*time.Second {
		t.Fatal("long though the holder says that it is not")
	}
	if rec := need[Append](r).Record; rec.Kind != hooks.Leasing || !rec.Hold.Settled {
		t.Fatalf("%+v", rec)
	}
}

// Versions decide, then an operator over a time that was over, then the labels.
func TestWhichMaintenanceHolds(t *testing.T) {
	on := Maintenance{Version: 3, By: "primary", On: true}
	for name, tt := range map[string]struct {
		a, b  Maintenance
		newer bool
	}{
		"higher version":           {Maintenance{Version: 4, By: "a"}, on, true},
		"lower version":            {Maintenance{Version: 2, By: "z", On: true}, on, false},
		"the other label":          {Maintenance{Version: 3, By: "reserve"}, on, true},
		"the same":                 {on, on, false},
		"expired under an order":   {Maintenance{Version: 3, By: "reserve", Expired: true}, on, false},
		"an order above an expiry": {on, Maintenance{Version: 3, By: "reserve", Expired: true}, true},
	} {
		if got := tt.a.newer(tt.b); got != tt.newer {
			t.Errorf("%s: %t", name, got)
		}
		if tt.newer && tt.b.newer(tt.a) {
			t.Errorf("%s: both are newer", name)
		}
	}
}

func TestWithoutThePeerTheLeaseStays(t *testing.T) {
	for _, force := range []bool{false, true} {
		r := activeRig(t, nil)
		r.wants(HoldRequest{Kind: MaintenanceHold, On: true, Force: force})
		r.journaled(nil)
		a := need[Answer](r)
		if a.Outcome != Done {
			t.Fatalf("%+v", a)
		}
		want := 2 * time.Second
		if force {
			want = MaintenanceLease
		}
		if got := r.o.leaseNow(); got != want {
			t.Errorf("force %t: %s; %s", force, got, a.Why.Detail)
		}
	}
}

// No trouble of the Active moves the role, and every one is told of.
func TestMaintenanceKeepsTheRole(t *testing.T) {
	checks := func(c *Config) {
		c.Checks = []health.Check{
			{Name: "gateway", Rise: 1, Fall: 1, Effect: health.Fault}, {Name: "disk", Rise: 1, Fall: 1, Effect: health.Yield},
		}
	}
	for name, trouble := range map[string]Event{
		"a check of effect fault": Probed{Check: "gateway"},
		"a check of effect yield": Probed{Check: "disk"},
		"a link that is down":     LinkChanged{Detail: "no carrier"},
	} {
		r := activeRig(t, checks)
		r.maintains(HoldRequest{})
		r.step(trouble)
		told := false
		look := func() {
			none[Drop](r)
			none[CheckSteps](r)
			for _, e := range r.out {
				n, ok := e.(Note)
				told = told || ok && n.Urgent
			}
		}
		for range 50 {
			look()
			r.after(100*time.Millisecond, Tick{})
			look()
			r.says(standby(&Maintenance{Version: 1, By: "primary", On: true}))
		}
		if !told || r.o.state != Active || !r.o.lease.held {
			t.Errorf("%s: told %t, %s, address %t", name, told, r.o.state, r.o.lease.held)
		}
		if w := r.o.Status(r.now).Stays; w == nil {
			t.Errorf("%s: status does not say why it stays", name)
		}
		r.wants(HoldRequest{Kind: MaintenanceHold})
		r.journaled(nil)
		if name != "a check of effect yield" && r.o.state == Active {
			t.Errorf("%s: the role stays after the maintenance", name)
		}
	}
}

func TestSwitchoverUnderMaintenance(t *testing.T) {
	r := activeRig(t, nil)
	r.maintains(HoldRequest{})
	m := &Maintenance{Version: 1, By: "primary", On: true}
	r.step(SwitchoverWanted{Command: 9, Request: Request{Timeout: time.Minute}})
	a := need[Answer](r)
	if diff := cmp.Diff([]replication.Code{replication.Maintenance}, gateCodes(a.Why)); a.Outcome != RefusedTo || diff != "" {
		t.Fatalf("%+v\n%s", a, diff)
	}
	r.says(standby(m))
	r.step(SwitchoverWanted{Command: 10, Request: Request{Timeout: time.Minute, Force: true, Reason: "now"}})
	none[Answer](r)
	need[CheckSteps](r)
}

// While the new node may take the address, a daemon that hangs must not keep it for the
// long lease: the two would have it for as long.
func TestLeaseOfAHandoverUnderMaintenance(t *testing.T) {
	m := &Maintenance{Version: 1, By: "primary", On: true, Lease: MaintenanceLease}
	frozen := func(t *testing.T) *rig {
		r := activeRig(t, nil)
		r.maintains(HoldRequest{})
		says := func(stage TakeStage) {
			s := standby(m)
			s.Stopped = []string{unit}
			if r.o.give != nil {
				s.Take = &Take{ID: r.o.give.id, Stage: stage}
			}
			r.says(s)
		}
		says(0)
		r.step(SwitchoverWanted{Command: 9, Request: Request{To: "reserve", Timeout: time.Minute, Force: true, Reason: "now"}})
		r.after(time.Millisecond, Checked{ID: need[CheckSteps](r).ID})
		if r.o.lease.length != MaintenanceLease {
			t.Fatalf("a lease of %s while both check", r.o.lease.length)
		}
		says(TakePrepared)
		journal, first := r.o.give.journal, r.out
		r.run(50 * time.Millisecond)
		if r.o.lease.length != 2*time.Second {
			t.Errorf("a lease of %s while this node closes", r.o.lease.length)
		}
		r.out = first
		r.ends("close", hooks.Changed)
		r.after(time.Millisecond, Durable{ID: journal})
		if r.o.give.stage != GiveFrozen {
			t.Fatalf("stage %d", r.o.give.stage)
		}
		return r
	}
	t.Run("it is taken back", func(t *testing.T) {
		r := frozen(t)
		s := standby(m)
		s.Take = &Take{ID: r.o.give.id, Stage: TakeUndone}
		r.says(s)
		r.run(50 * time.Millisecond)
		if r.o.lease.length != MaintenanceLease {
			t.Errorf("a lease of %s afterwards", r.o.lease.length)
		}
	})
	t.Run("the new node does not speak", func(t *testing.T) {
		r := frozen(t)
		r.run(5 * time.Second)
		if r.o.give.stage != GiveUndoing || r.o.lease.length != 2*time.Second {
			t.Errorf("stage %d, a lease of %s", r.o.give.stage, r.o.lease.length)
		}
	})
}

// The peer of a host that died under maintenance does not bid, and says who wants it.
func TestNobodyIsReplacedUnderMaintenance(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Promote = c.Promote[2:] })
	r.boots()
	r.says(PeerState{
		State: Active, Holds: true, Bids: true, Epoch: 4, ActiveEpoch: 4,
		Maintenance: &Maintenance{Version: 1, By: "reserve", On: true, Lease: MaintenanceLease, Reason: "upgrade", UID: 7, Until: r.now.Add(time.Hour)},
	})
	r.kept(nil)
	asked := 0
	for r.o.state != Refused {
		if asked++; asked > 200 {
			t.Fatalf("%s (%+v)", r.o.state, r.o.why)
		}
		at, _ := r.o.Deadline()
		r.now = max(r.now, at)
		r.step(Tick{})
		if ask, ok := find[AskKernel](r); ok {
			r.after(time.Millisecond, Asked{ID: ask.ID})
		}
	}
	if diff := cmp.Diff([]replication.Code{replication.Maintenance}, gateCodes(r.o.why)); diff != "" || r.o.bid != nil {
		t.Fatalf("bids %t: %s", r.o.bid != nil, diff)
	}
	if d := r.o.why.Gate[0].Detail; d != "in maintenance: upgrade (uid 7 on reserve)" {
		t.Errorf("it says %q", d)
	}
	urgent := 0
	for end := r.now.Add(5 * time.Minute); r.now.Before(end); {
		at, _ := r.o.Deadline()
		r.now = max(r.now, at)
		r.step(Tick{})
		if n, ok := find[Note](r); ok && n.Urgent {
			urgent++
		}
	}
	if urgent < 3 || urgent > 6 {
		t.Errorf("the log was told %d times in five minutes", urgent)
	}
	r.step(SwitchoverWanted{Command: 10, Request: Request{Timeout: time.Minute}})
	if a := need[Answer](r); a.Outcome != RefusedTo || len(a.Why.Gate) != 1 {
		t.Errorf("%+v", a)
	}
	r.wants(HoldRequest{Kind: MaintenanceHold})
	r.journaled(nil)
	if r.run(time.Second); r.o.bid == nil {
		t.Errorf("no bid after the maintenance: %s (%+v)", r.o.state, r.o.why)
	}
}

// A time that is over on one node ends the maintenance on both.
func TestMaintenanceEndsByItself(t *testing.T) {
	r := activeRig(t, nil)
	r.maintains(HoldRequest{For: time.Minute})
	r.run(59 * time.Second)
	if !r.o.maintained() {
		t.Fatal("over too early")
	}
	r.run(2 * time.Second)
	if m := r.o.toldMaintenance(); r.o.maintained() || m != nil {
		t.Fatalf("%+v", m) // not before it is durable
	}
	other := newRig(t, nil)
	other.boots()
	other.says(PeerState{State: Active, Holds: true, Bids: true, Epoch: 4, ActiveEpoch: 4, Maintenance: &Maintenance{Version: 1, By: "reserve", On: true}})
	other.says(PeerState{State: Active, Holds: true, Bids: true, Epoch: 4, ActiveEpoch: 4, Maintenance: &Maintenance{Version: 2, By: "reserve", Expired: true}})
	if other.o.maintained() {
		t.Error("on at the peer")
	}
}

func TestBlock(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Promote = c.Promote[2:] })
	r.boots()
	r.wants(HoldRequest{On: true, For: time.Minute})
	r.journaled(nil)
	if a := need[Answer](r); a.Outcome != Done || a.Why.Reason != Blocked {
		t.Fatalf("%+v", a)
	}
	if diff := cmp.Diff([]replication.Code{replication.Blocked}, gateCodes(Why{Gate: r.o.toldGate()})); diff != "" {
		t.Error(diff)
	}
	r.run(30 * time.Second)
	if r.wantState(Refused, GateClosed); r.o.bid != nil {
		t.Error("it bids")
	}
	r.run(31 * time.Second)
	if r.o.hold.block.on || r.o.bid == nil {
		t.Errorf("still blocked %t, bids %t", r.o.hold.block.on, r.o.bid != nil)
	}
}

func TestBlockOfAnActive(t *testing.T) {
	r := activeRig(t, nil)
	r.wants(HoldRequest{On: true})
	rec := need[Append](r).Record
	r.journaled(nil)
	if a := need[Answer](r); a.Outcome != Done || a.Why.Detail == "" {
		t.Fatalf("%+v", a)
	}
	r.run(10 * time.Second)
	r.wantState(Active, PeerSilent)
	// Not even to go on with what it had last: but its own address it adopts.
	m := hooks.Memory{Epoch: 1, ActiveEpoch: 1, Role: hooks.Active, Finished: true}.Fold(rec)
	again := newRig(t, func(c *Config) { c.Promote = c.Promote[2:] })
	again.step(Started{Boot: 8, Memory: m, Leftover: true, Left: time.Second})
	again.wantState(Active, Adopted)
	cold := newRig(t, func(c *Config) { c.Promote = c.Promote[2:] })
	cold.step(Started{Boot: 8, Memory: m})
	cold.ends("close", hooks.Unchanged)
	cold.ends("unit", hooks.Unchanged)
	cold.well()
	cold.run(10 * time.Second)
	cold.wantState(Refused, GateClosed)
}

// A command whose record could not be written changes nothing, also after a restart.
func TestHoldThatIsNotJournaled(t *testing.T) {
	for _, k := range []HoldKind{BlockHold, MaintenanceHold} {
		r := activeRig(t, nil)
		var m hooks.Memory
		fold := func() {
			for _, e := range r.out {
				if a, ok := e.(Append); ok {
					m = m.Fold(a.Record)
				}
			}
		}
		r.wants(HoldRequest{Kind: k, On: true})
		fold()
		r.journaled(errTest)
		if a := need[Answer](r); a.Outcome != RefusedTo || a.Why.Reason != JournalFailed {
			t.Fatalf("%s: %+v", k, a)
		}
		fold()
		if r.o.maintained() || r.o.hold.block.on || m.Block.On || m.Maintenance.On {
			t.Errorf("%s: here %t %t, in the journal %t %t", k, r.o.maintained(), r.o.hold.block.on, m.Maintenance.On, m.Block.On)
		}
	}
}

// A daemon that leaves under maintenance changes nothing, and the next one goes on.
func TestLeaveUnderMaintenance(t *testing.T) {
	r := activeRig(t, nil)
	r.maintains(HoldRequest{For: time.Hour})
	r.after(time.Millisecond, StopWanted{})
	need[Stopped](r)
	if h := need[Hold](r); h.Lease != MaintenanceLease {
		t.Errorf("left for %s", h.Lease)
	}
	none[Drop](r)
	none[StartStep](r)
	none[CloseWrites](r)
	none[Send](r)
	if rec := need[Append](r).Record; rec.Kind != hooks.Parted {
		t.Errorf("%+v", rec)
	}
	m := hooks.Memory{Epoch: 1, ActiveEpoch: 1, Role: hooks.Active, Finished: true, Promised: true}
	m.Maintenance = hooks.Holding{Hold: hooks.Hold{On: true, Version: 1, By: "primary", Lease: MaintenanceLease, For: time.Hour}}
	next := newRig(t, nil)
	next.step(Started{Boot: 8, Memory: m, Leftover: true, Left: 100 * time.Second, MaintenanceLeft: time.Minute})
	next.wantState(Active, Adopted)
	if h := need[Hold](next); h.Lease != MaintenanceLease {
		t.Errorf("adopted for %s", h.Lease)
	}
	if rec := need[Append](next).Record; rec.Kind != hooks.Adopted {
		t.Errorf("%+v", rec)
	}
	// A renewal that fails leaves what there was.
	next.after(time.Millisecond, Held{Err: errTest})
	for next.now = next.now.Add(renewRetry); next.now < mono.Instant(time.Hour+3*time.Second); next.now += mono.Instant(200 * time.Millisecond) {
		next.step(Tick{})
		next.step(Held{Err: errTest})
	}
	next.wantState(Active, Adopted)
}

// A plan that is under way is ended in order first.
func TestLeaveWaitsForAPlan(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Promote = c.Promote[2:] })
	r.boots()
	r.asksSilence()
	r.journaled(nil)
	r.acquires(nil)
	start := need[StartStep](r)
	r.wants(HoldRequest{Kind: MaintenanceHold, On: true})
	r.kept(nil)
	r.step(StopWanted{})
	none[Stopped](r)
	none[Drop](r)
	r.after(time.Millisecond, StepEnded{ID: start.Order.ID, Outcome: hooks.Changed})
	need[Stopped](r)
	if !r.o.lease.held {
		t.Error("the address is gone")
	}
}
