package failover

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/replication"
)

var (
	labelStep = hooks.Step{Name: "label", Timeout: 5 * time.Second, Action: hooks.YAML{File: "/l", Key: "active", Value: "{{.Active}}"}}
	mount     = hooks.Step{Name: "mount", Timeout: 5 * time.Second, Action: hooks.Exec{Command: []string{"/m"}, Verify: []string{"/v"}}}
)

// repairs gives every step drift: repair.
func repairs(p hooks.Plan) hooks.Plan {
	q := append(hooks.Plan(nil), p...)
	for i := range q {
		q[i].Drift = hooks.RepairDrift
	}
	return q
}

// settledRig is a standby of an Active in epoch 3 whose plan ran.
func settledRig(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	r := newRig(t, func(c *Config) {
		c.Demote = append(append(hooks.Plan{}, testDemote...), labelStep, mount)
		if change != nil {
			change(c)
		}
	})
	r.boots()
	r.says(activePeer(3))
	r.ends("close", hooks.Unchanged)
	r.ends("unit", hooks.Unchanged)
	r.ends("label", hooks.Changed)
	r.ends("mount", hooks.Changed)
	if r.o.settled != 3 {
		t.Fatalf("settled for epoch %d", r.o.settled)
	}
	return r
}

func activePeer(e Epoch) PeerState {
	return PeerState{State: Active, Holds: true, ActiveEpoch: e, Epoch: e, Sources: NoDatabases, Stopped: []string{unit}}
}

// until lets time pass, the peer heard all the while, until an effect of a type
// comes, at most for limit.
func until[E Effect](r *rig, limit time.Duration, peer PeerState) (E, bool) {
	for end := r.now.Add(limit); ; {
		if e, ok := find[E](r); ok {
			return e, true
		}
		if !r.now.Before(end) {
			var none E
			return none, false
		}
		if m, ok := find[Measure](r); ok {
			r.after(time.Millisecond, Measured{ID: m.ID})
			continue
		}
		if ask, ok := find[AskKernel](r); ok {
			r.after(time.Millisecond, Asked{ID: ask.ID, Host: true, OnLink: true})
			continue
		}
		r.now = r.now.Add(50 * time.Millisecond)
		if peer.State == Active {
			r.hears(253)
			if _, ok := find[E](r); ok {
				continue
			}
		}
		r.says(peer)
	}
}

// round waits for and answers the next round of checks: what is not named is as it should be.
func (r *rig) round(limit time.Duration, peer PeerState, found map[string]hooks.Outcome) CheckSteps {
	r.t.Helper()
	c, ok := until[CheckSteps](r, limit, peer)
	if !ok {
		r.t.Fatal("no round of checks")
	}
	r.checks(c, found)
	return c
}

func (r *rig) checks(c CheckSteps, outcomes map[string]hooks.Outcome) {
	r.after(time.Millisecond, found(c, outcomes))
}

// found is the answer to a round.
func found(c CheckSteps, outcomes map[string]hooks.Outcome) Checked {
	ev := Checked{ID: c.ID}
	for _, s := range c.Plan {
		out, ok := outcomes[s.Name]
		if !ok {
			out = hooks.Unchanged
		}
		ev.Results = append(ev.Results, hooks.Result{Name: s.Name, Outcome: out})
	}
	return ev
}

// pump lets time pass, the peer heard all the while; answer is asked about each
// effect but measurements.
func (r *rig) pump(limit time.Duration, peer PeerState, facts func() []replication.Facts, answer func(Effect) Event) {
	r.live(limit, func() []Event {
		if peer.State != Active {
			return []Event{r.word(peer)}
		}
		return []Event{r.advert(253, 0, false), r.word(peer)}
	}, facts, answer)
}

// live lets time pass with what is heard every 50 ms.
func (r *rig) live(limit time.Duration, heard func() []Event, facts func() []replication.Facts, answer func(Effect) Event) {
	var answers []Event
	step := func(ev Event) {
		for _, e := range r.step(ev) {
			a := Event(nil)
			if m, ok := e.(Measure); ok {
				all := []replication.Facts(nil)
				if facts != nil {
					all = facts()
				}
				a = Measured{ID: m.ID, Facts: all}
			} else {
				a = answer(e)
			}
			if a != nil {
				answers = append(answers, a)
			}
		}
	}
	step(Tick{})
	for end := r.now.Add(limit); r.now.Before(end); {
		r.now = r.now.Add(50 * time.Millisecond)
		now := answers
		answers = nil
		for _, ev := range append(now, heard()...) {
			step(ev)
		}
		step(Tick{})
	}
}

// word is what the peer says over the link.
func (r *rig) word(s PeerState) Event {
	r.seq++
	s.Boot, s.Seq, s.Echo = 99, r.seq, r.now
	return PeerSaid{State: s}
}

func (r *rig) advert(priority uint8, e Epoch, proved bool) Event {
	a := r.o.router.Advertisement()
	a.Priority = priority
	return Advertised{Advertisement: a, Source: rivalAddr, Epoch: e, Proved: proved}
}

var rivalAddr = netip.MustParseAddr("10.77.0.12")

func (r *rig) drifted() (names []string) {
	for _, d := range r.o.Status(r.now).Drift {
		names = append(names, d.Step+" "+d.Repair.String())
	}
	return names
}

func (r *rig) wantDrift(names ...string) {
	r.t.Helper()
	if diff := cmp.Diff(names, r.drifted()); diff != "" {
		r.t.Fatalf("drift (-want +got):\n%s", diff)
	}
}

// driftTellings returns the records of drift among the effects.
func driftTellings(out []Effect) (kinds []hooks.RecordKind) {
	for _, e := range out {
		if a, ok := e.(Append); ok && (a.Record.Kind == hooks.Strayed || a.Record.Kind == hooks.Mended) {
			if a.ID != 0 {
				panic("drift is no reason to sync a disk")
			}
			kinds = append(kinds, a.Record.Kind)
		}
	}
	return kinds
}

var wrong = map[string]hooks.Outcome{"unit": hooks.Changed}

func TestDriftIsReported(t *testing.T) {
	r := settledRig(t, nil)
	peer := activePeer(3)
	first := r.round(2*checkEvery, peer, nil)
	var names []string
	for _, s := range first.Plan {
		names = append(names, s.Name)
	}
	if diff := cmp.Diff([]string{"unit", "label", "mount"}, names); diff != "" {
		t.Fatalf("checked (-want +got):\n%s", diff)
	}
	if first.Vars.Active != "reserve" || first.Vars.Epoch != 3 || first.Each <= 0 {
		t.Fatalf("%+v", first)
	}
	r.round(2*checkEvery, peer, wrong)
	r.wantDrift() // a unit that is restarted is none
	since := r.now
	if r.o.stopped[unit] {
		t.Error("the peer is still told that the unit is stopped")
	}
	r.round(2*checkAgain, peer, wrong)
	r.wantDrift("unit report")
	if diff := cmp.Diff([]hooks.RecordKind{hooks.Strayed}, driftTellings(r.out)); diff != "" {
		t.Errorf("journaled (-want +got):\n%s", diff)
	}
	n := need[Note](r)
	if !n.Urgent || n.Why.Reason != Drifted || !strings.Contains(n.Why.Detail, "lsyncd.service runs") {
		t.Errorf("%+v", n)
	}
	for range 3 {
		r.round(2*checkEvery, peer, wrong)
		none[Note](r)
		if k := driftTellings(r.out); len(k) > 0 {
			t.Errorf("told again: %v", k)
		}
	}
	if d := r.o.Status(r.now).Drift[0]; d.Since != since || d.Kind != "unit" || d.Title != "unit stop lsyncd.service" {
		t.Errorf("%+v since %v", d, since)
	}
	if told := r.o.peerState().Drift; len(told) != 1 || told[0].Since != since {
		t.Errorf("the peer is told %+v", told)
	}
	r.round(2*checkEvery, peer, nil)
	r.wantDrift("unit report")
	r.round(2*checkAgain, peer, nil)
	r.wantDrift()
	if diff := cmp.Diff([]hooks.RecordKind{hooks.Mended}, driftTellings(r.out)); diff != "" {
		t.Errorf("journaled (-want +got):\n%s", diff)
	}
	if !r.o.stopped[unit] {
		t.Error("the peer is not told that the unit is stopped again")
	}
	// What flaps is told once in a minute.
	told := 0
	for end := r.now.Add(strayEvery - 15*time.Second); r.now.Before(end); {
		for range 4 {
			r.round(2*checkEvery, peer, wrong)
			told += len(driftTellings(r.out))
		}
		for range 2 {
			r.round(2*checkEvery, peer, nil)
			told += len(driftTellings(r.out))
		}
	}
	if told > 2 {
		t.Errorf("told %d times", told)
	}
}

// A transition that begins ends a round of checks at once, and what it says then
// does not count.
func TestATransitionEndsTheChecks(t *testing.T) {
	r := settledRig(t, nil)
	c, ok := until[CheckSteps](r, 2*checkEvery, activePeer(3))
	if !ok {
		t.Fatal("no round of checks")
	}
	r.says(PeerState{State: Demoting, ActiveEpoch: 3, Epoch: 3})
	if cancel := need[CancelCheck](r); cancel.ID != c.ID {
		t.Errorf("cancelled %d, not %d", cancel.ID, c.ID)
	}
	if _, again := until[CheckSteps](r, 3*checkEvery, activePeer(3)); again {
		t.Fatal("a second round beside one that has not answered")
	}
	r.checks(c, wrong)
	r.round(2*checkEvery, activePeer(3), wrong)
	r.wantDrift()
}

func TestNoChecksInDoubt(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(r *rig)
		peer PeerState
	}{
		{"fault", func(r *rig) { r.step(Probed{Check: "gateway"}) }, activePeer(3)},
		{"leaving", func(r *rig) { r.o.stopping = true }, activePeer(3)},
		{"a newer epoch that is not settled yet", func(*rig) {}, activePeer(4)},
		{"nobody is Active", func(*rig) {}, PeerState{State: Refused, ActiveEpoch: 3, Epoch: 3, Sources: NoDatabases}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := settledRig(t, nil)
			tt.do(r)
			if _, ok := until[CheckSteps](r, 3*checkEvery, tt.peer); ok {
				t.Error("checked")
			}
		})
	}
}

func TestDriftIsRepaired(t *testing.T) {
	r := settledRig(t, func(c *Config) { c.Demote = repairs(c.Demote) })
	peer, last := activePeer(3), r.o.last
	both := map[string]hooks.Outcome{"unit": hooks.Changed, "label": hooks.Changed, "mount": hooks.Failed}
	r.round(2*checkEvery, peer, both)
	none[StartStep](r)
	r.round(2*checkAgain, peer, both)
	r.ends("unit", hooks.Changed)
	if s := need[StartStep](r); s.Vars.Active != "reserve" || s.Vars.Epoch != 3 {
		t.Errorf("%+v", s.Vars)
	}
	r.ends("label", hooks.Changed)
	none[StartStep](r) // what cannot be done is not tried
	r.wantDrift("unit repair", "label repair", "mount repair")
	if r.o.last != last {
		t.Errorf("status tells of %+v", r.o.last)
	}
	for range 2 {
		r.round(2*checkEvery, peer, map[string]hooks.Outcome{"mount": hooks.Failed})
	}
	r.wantDrift("mount repair")
}

// Against somebody else who keeps changing it the pauses grow, and it is said.
func TestContestedDrift(t *testing.T) {
	r := settledRig(t, func(c *Config) { c.Demote = repairs(c.Demote) })
	peer := activePeer(3)
	label := map[string]hooks.Outcome{"label": hooks.Changed}
	var at []time.Duration
	contests := 0
	r.pump(20*time.Minute, peer, nil, func(e Effect) Event {
		switch e := e.(type) {
		case CheckSteps:
			return found(e, label)
		case StartStep:
			at = append(at, time.Duration(r.now))
			return StepEnded{ID: e.Order.ID, Outcome: hooks.Changed}
		case Note:
			if e.Steps == nil && strings.Contains(e.Why.Detail, "somebody else") {
				contests++
			}
		default:
		}
		return nil
	})
	if len(at) < mendMost || len(at) > 10 {
		t.Fatalf("%d repairs in twenty minutes", len(at))
	}
	for i := 2; i < len(at); i++ {
		if wait, before := at[i]-at[i-1], at[i-1]-at[i-2]; wait < before*3/2 && wait < settleMost-checkEvery {
			t.Errorf("repair %d after %s, the one before after %s", i, wait, before)
		}
	}
	if contests != 1 {
		t.Errorf("a contest is told %d times", contests)
	}
	r.wantDrift("label contested")
	// It ends when nobody does so any more.
	r.pump(2*mendWindow, peer, nil, func(e Effect) Event {
		switch e := e.(type) {
		case CheckSteps:
			return found(e, nil)
		case StartStep:
			return StepEnded{ID: e.Order.ID, Outcome: hooks.Unchanged}
		default:
			return nil
		}
	})
	r.wantDrift()
}

// A unit that both lists name is started again on the Active only when the peer
// says that it stopped it, as in a promotion.
func TestRepairWaitsForThePeer(t *testing.T) {
	r := activeRig(t, func(c *Config) { c.Promote = repairs(c.Promote) })
	epoch := r.o.activeEpoch
	standby := PeerState{State: Backup, Bids: true, Hears: true, Sources: NoDatabases, Epoch: epoch, ActiveEpoch: epoch - 1}
	if epoch == 1 {
		standby.ActiveEpoch = 0
	}
	r.round(2*checkEvery, standby, wrong)
	r.round(2*checkAgain, standby, wrong)
	none[StartStep](r)
	r.wantDrift("unit waiting")
	if _, ok := until[StartStep](r, 2*checkEvery, standby); ok {
		t.Fatal("started while it may run on the peer")
	}
	if c, ok := find[CheckSteps](r); ok {
		r.checks(c, wrong)
	}
	standby.Stopped = []string{unit}
	if _, ok := until[StartStep](r, 2*checkEvery, standby); !ok {
		t.Fatal("not started though the peer stopped it")
	}
	r.ends("unit", hooks.Changed)
}

// A repair gives way: a takeover does not wait for it.
func TestRepairGivesWay(t *testing.T) {
	r := settledRig(t, func(c *Config) { c.Demote = repairs(c.Demote) })
	r.round(2*checkEvery, activePeer(3), wrong)
	r.round(2*checkAgain, activePeer(3), wrong)
	s := need[StartStep](r)
	for i := 0; ; i++ {
		if c, ok := find[CancelStep](r); ok {
			if c.ID != s.Order.ID {
				t.Errorf("cancelled %d", c.ID)
			}
			return
		}
		if i > 1000 {
			t.Fatal("the repair goes on though the peer is silent")
		}
		if ask, ok := find[AskKernel](r); ok {
			r.after(time.Millisecond, Asked{ID: ask.ID})
			continue
		}
		at, _ := r.o.Deadline()
		r.now = max(r.now, at)
		r.step(Tick{})
	}
}

// A round that does not come back is told of, and no second one is sent after it.
func TestChecksThatHang(t *testing.T) {
	r := settledRig(t, nil)
	if _, ok := until[CheckSteps](r, 2*checkEvery, activePeer(3)); !ok {
		t.Fatal("no round of checks")
	}
	r.step(Tick{})
	if _, ok := until[CheckSteps](r, 2*time.Minute, activePeer(3)); ok {
		t.Fatal("a second round")
	}
	r.wantDrift("unit report", "label report", "mount report")
}

// What writes and replication are not, as the role wants, is drift; with drift:
// report it is left.
func TestDriftOfDatabases(t *testing.T) {
	r := sourceRig(t, "pivot")
	r.o.cfg.Promote = append(hooks.Plan{}, testPromote...)
	r.o.cfg.Promote[1].Drift = hooks.ReportDrift
	closed := r.source("pivot", "0-1-1")
	closed.ReadOnly = replication.Known(true)
	r.pump(3*checkEvery, PeerState{State: Backup, Bids: true, Hears: true, Sources: AllReplicas, Stopped: []string{unit}},
		func() []replication.Facts {
			closed.MeasuredAt = r.now
			return []replication.Facts{closed}
		},
		func(e Effect) Event {
			switch e := e.(type) {
			case CheckSteps:
				return found(e, nil)
			case StartStep:
				t.Errorf("started %s", e.Order.Step.Name)
			default:
			}
			return nil
		})
	r.wantDrift("open report")
}
