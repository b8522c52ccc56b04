package failover

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/replication"
)

func at(t *testing.T, s string) replication.Position {
	t.Helper()
	p, err := replication.ParsePosition(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// source returns the facts of a database that follows nobody.
func (r *rig) source(name, position string) replication.Facts {
	p := at(r.t, position)
	return replication.Facts{
		Name: name, MeasuredAt: r.now, Reach: replication.Reachable, ServerID: replication.Known[uint32](1),
		ReadOnly: replication.Known(false), Executed: replication.Known(p), Applied: replication.Known(replication.Position{}),
		Channels: replication.Known([]replication.Channel(nil)), LongestTransaction: replication.Known(time.Duration(0)),
	}
}

// replica returns the facts of a database that follows and has applied all it received.
func (r *rig) replica(name, position string, io replication.ThreadState) replication.Facts {
	p := at(r.t, position)
	f := r.source(name, position)
	none := replication.Known(replication.ServerError{})
	f.ServerID, f.ReadOnly, f.Applied = replication.Known[uint32](2), replication.Known(true), replication.Known(p)
	f.Channels = replication.Known([]replication.Channel{{
		IO: io, SQL: replication.ThreadRunning, LastIOError: none, LastSQLError: none, Received: replication.Known(p),
		SecondsBehind: replication.Known(time.Duration(0)), UsingGTID: replication.Known(true),
		SQLDelay: replication.Known(time.Duration(0)), Filtered: replication.Known(false),
	}})
	return f
}

func (r *rig) down(name string, reach replication.Reach) replication.Facts {
	return replication.Facts{Name: name, MeasuredAt: r.now, Reach: reach}
}

// measures answers the latest measurement that the core wants of its own accord.
func (r *rig) measures(facts ...replication.Facts) {
	r.t.Helper()
	for i := 0; i < 100; i++ {
		if m, ok := find[Measure](r); ok {
			for j := range facts {
				facts[j].MeasuredAt = r.now
			}
			r.after(time.Millisecond, Measured{ID: m.ID, Facts: facts})
			return
		}
		deadline, _ := r.o.Deadline()
		r.now = max(r.now, deadline)
		r.step(Tick{})
	}
	r.t.Fatal("nothing is measured")
}

// sourceRig returns an Active whose databases are the source, and whose peer can
// be heard and would take over.
func sourceRig(t *testing.T, names ...string) *rig {
	t.Helper()
	r := newRig(t, func(c *Config) {
		c.Databases, c.Grace = names, 500*time.Millisecond
	})
	r.step(Started{Boot: 7, Leftover: true, Memory: hooks.Memory{Epoch: 4, ActiveEpoch: 4, Role: hooks.Active, Finished: true}})
	r.wantState(Active, Adopted)
	r.peerBids()
	return r
}

func (r *rig) peerBids() {
	r.says(PeerState{State: Backup, Bids: true, Hears: true, Sources: AllReplicas, Stopped: []string{unit}})
}

func (r *rig) all(reaches map[string]replication.Reach) []replication.Facts {
	var facts []replication.Facts
	for i := range r.o.databases {
		name := r.o.databases[i].Name
		if reach, bad := reaches[name]; bad {
			facts = append(facts, r.down(name, reach))
			continue
		}
		facts = append(facts, r.source(name, "0-1-100"))
	}
	return facts
}

func TestDatabaseOfTheActiveDies(t *testing.T) {
	refused := map[string]replication.Reach{"team": replication.ReachRefused}
	hangs := map[string]replication.Reach{"team": replication.ReachTimedOut}

	t.Run("one refusal is no death", func(t *testing.T) {
		r := sourceRig(t, "pivot", "team")
		r.measures(r.all(nil)...)
		r.measures(r.all(refused)...)
		if r.o.give != nil {
			t.Error("the role is given away after one refusal")
		}
		r.peerBids()
		r.measures(r.all(nil)...)
		r.measures(r.all(refused)...)
		if r.o.give != nil {
			t.Error("two refusals that are not in a row count together")
		}
	})
	t.Run("two in a row are, and the handover names the database", func(t *testing.T) {
		r := sourceRig(t, "pivot", "team")
		r.measures(r.all(nil)...)
		r.measures(r.all(refused)...)
		r.peerBids()
		r.measures(r.all(refused)...)
		g := r.o.give
		if g == nil || g.cause != DatabaseDown {
			t.Fatal("the role is not given away")
		}
		if diff := cmp.Diff([]string{"team"}, g.view().Lost); diff != "" {
			t.Error(diff)
		}
		none[CheckSteps](r)    // it would say that the database does not answer
		none[FenceDatabase](r) // there is no process to end
		r.says(PeerState{State: Backup, Bids: true, Take: &Take{ID: g.id, Stage: TakePrepared}})
		r.ends("close", hooks.Changed)
		r.journaledAll()
		r.answersMeasure(r.all(refused)...)
		if g.stage != GiveFrozen {
			t.Fatalf("stage %d, %s", g.stage, r.o.why.Detail)
		}
		want := []Position{{Database: "pivot", Executed: at(t, "0-1-100")}}
		if diff := cmp.Diff(want, g.view().Positions, cmp.Comparer(replication.Position.Equal)); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("a server that hangs is ended before anything is closed", func(t *testing.T) {
		r := sourceRig(t, "pivot", "team")
		r.measures(r.all(nil)...)
		for end := r.now.Add(hungPatience + time.Second); r.now.Before(end) && r.o.give == nil; {
			r.peerBids()
			r.measures(r.all(hangs)...)
		}
		g := r.o.give
		if g == nil {
			t.Fatal("the role is not given away")
		}
		r.says(PeerState{State: Backup, Bids: true, Take: &Take{ID: g.id, Stage: TakePrepared}})
		f := need[FenceDatabase](r)
		none[StartStep](r)
		if f.Database != "team" {
			t.Errorf("ended %s", f.Database)
		}
		r.after(time.Millisecond, DatabaseFenced{ID: f.ID, Database: "team"})
		if n := need[Note](r); !n.Urgent || n.Why.Reason != DatabaseDown || n.Why.Detail != "the server of team hung and was killed" {
			t.Errorf("said %+v", n)
		}
		if s := need[StartStep](r); s.Order.Step.Name != "close" {
			t.Errorf("started %s", s.Order.Step.Name)
		}
	})
	t.Run("one that cannot be ended keeps the role here", func(t *testing.T) {
		r := sourceRig(t, "team")
		r.measures(r.all(nil)...)
		for end := r.now.Add(hungPatience + time.Second); r.now.Before(end) && r.o.give == nil; {
			r.peerBids()
			r.measures(r.all(hangs)...)
		}
		g := r.o.give
		r.says(PeerState{State: Backup, Bids: true, Take: &Take{ID: g.id, Stage: TakePrepared}})
		f := need[FenceDatabase](r)
		r.after(time.Millisecond, DatabaseFenced{ID: f.ID, Database: "team", Err: errTest})
		if g.stage != GiveFailed || r.o.state != Active {
			t.Errorf("stage %d, state %s", g.stage, r.o.state)
		}
		if n := need[Note](r); n.Why.Reason != FenceFailed || !strings.Contains(n.Why.Detail, "team") {
			t.Errorf("said %+v", n.Why)
		}
	})
	t.Run("a peer that does not take it is complained of once", func(t *testing.T) {
		r := sourceRig(t, "team")
		r.measures(r.all(nil)...)
		said := 0
		for end := r.now.Add(4 * deadRetry); r.now.Before(end); {
			r.peerBids()
			r.measures(r.all(refused)...)
			if g := r.o.give; g != nil && g.stage == GivePreparing {
				r.says(PeerState{State: Backup, Bids: true, Take: &Take{ID: g.id, Stage: TakeRefused, Why: Why{
					Reason: GateClosed, Gate: []replication.Reason{{Code: replication.NotReplica, Database: "team"}},
				}}})
				if n, ok := find[Note](r); ok && n.Why.Reason == GateClosed {
					said++
				}
				if g.stage != GiveFailed {
					t.Fatalf("stage %d", g.stage)
				}
			}
		}
		if said != 1 {
			t.Errorf("said %d times", said)
		}
	})
	t.Run("one that is back before anything was closed stays", func(t *testing.T) {
		r := sourceRig(t, "team")
		r.measures(r.all(nil)...)
		r.measures(r.all(refused)...)
		r.peerBids()
		r.measures(r.all(refused)...)
		g := r.o.give
		r.measures(r.all(nil)...)
		r.says(PeerState{State: Backup, Bids: true, Take: &Take{ID: g.id, Stage: TakePrepared}})
		if g.stage != GiveFailed || r.o.state != Active {
			t.Errorf("stage %d, state %s", g.stage, r.o.state)
		}
	})
	t.Run("without a peer that would take it, nothing moves", func(t *testing.T) {
		r := sourceRig(t, "team")
		r.says(PeerState{State: Fault})
		for range 5 {
			r.measures(r.all(refused)...)
		}
		if r.o.give != nil || r.o.state != Active {
			t.Errorf("state %s", r.o.state)
		}
	})
}

// journaledAll answers every durable record of the latest steps as written.
func (r *rig) journaledAll() {
	for _, e := range r.out {
		if a, ok := e.(Append); ok && a.ID != 0 {
			r.o.Step(r.now, Durable{ID: a.ID}, nil)
		}
	}
	if r.o.give != nil && r.o.give.journal != 0 {
		r.step(Durable{ID: r.o.give.journal})
	}
}

// answersMeasure answers the measurement that a handover waits for.
func (r *rig) answersMeasure(facts ...replication.Facts) {
	for i := range facts {
		if facts[i].Reach == replication.Reachable {
			facts[i].ReadOnly = replication.Known(true)
		}
	}
	r.after(time.Millisecond, Measured{ID: r.o.give.measure, Facts: facts})
}

// A long transaction is waited for and then refused, but not if the operator
// wants it ended.
func TestSwitchoverWithALongTransaction(t *testing.T) {
	long := func(r *rig) replication.Facts {
		f := r.source("pivot", "0-1-100")
		f.LongestTransaction = replication.Known(12 * time.Second)
		return f
	}
	begin := func(t *testing.T, q Request) *rig {
		r := sourceRig(t, "pivot")
		r.measures(long(r))
		r.peerBids()
		q.Timeout = time.Minute
		r.after(time.Millisecond, SwitchoverWanted{Command: 5, Request: q})
		c := need[CheckSteps](r)
		r.after(time.Millisecond, Checked{ID: c.ID})
		return r
	}
	prepared := func(r *rig) {
		r.says(PeerState{State: Backup, Bids: true, Take: &Take{ID: r.o.give.id, Stage: TakePrepared}})
	}
	t.Run("refused with its age and database", func(t *testing.T) {
		r := begin(t, Request{To: "reserve"})
		for end := r.now.Add(prepareTime + time.Second); r.now.Before(end) && r.ended == nil; {
			if r.measures(long(r)); r.o.give.stage == GivePreparing {
				prepared(r)
			}
		}
		if r.ended == nil {
			t.Fatal("no answer")
		}
		a := r.ended[0]
		if a.Outcome != RefusedTo || a.Why.Reason != LongTransaction || !strings.Contains(a.Why.Detail, "pivot") || !strings.Contains(a.Why.Detail, "12s") {
			t.Errorf("answered %+v", a)
		}
	})
	t.Run("goes on when it ends", func(t *testing.T) {
		r := begin(t, Request{To: "reserve"})
		prepared(r)
		none[StartStep](r)
		r.measures(r.source("pivot", "0-1-101"))
		prepared(r)
		if r.o.give.stage != GiveClosing {
			t.Errorf("stage %d", r.o.give.stage)
		}
	})
	t.Run("is ended by force", func(t *testing.T) {
		r := begin(t, Request{To: "reserve", Force: true, Reason: "it may die"})
		prepared(r)
		if r.o.give.stage != GiveClosing {
			t.Errorf("stage %d", r.o.give.stage)
		}
	})
}

func TestDatabasesComeAndGo(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Discovers = true })
	r.step(Started{Boot: 7})
	if v := r.o.standingGate(); v.Open || v.Reasons[0].Code != replication.NotKnown {
		t.Errorf("the gate before any was looked for: %v", v.Reasons)
	}
	r.measures(r.replica("team-1", "0-1-5", replication.ThreadRunning), r.replica("team-2", "0-1-5", replication.ThreadRunning))
	if n := need[Note](r); n.Why.Reason != DatabasesChanged || n.Why.Detail != "found team-1, team-2" {
		t.Errorf("said %+v", n.Why)
	}
	r.says(PeerState{State: Active, Holds: true, ActiveEpoch: 1, Epoch: 1, Positions: []Position{
		{Database: "team-0", Executed: at(t, "0-1-1")}, {Database: "team-1", Executed: at(t, "0-1-9")}, {Database: "team-2", Executed: at(t, "0-1-5")},
	}})
	if last, _ := r.o.databases[0].Heard.Last(); !last.Equal(at(t, "0-1-9")) {
		t.Errorf("of team-1 was heard %s", last)
	}
	if diff := cmp.Diff([]string{"team-0"}, r.o.Status(r.now).Unprotected); diff != "" {
		t.Error(diff)
	}
	refusal := replication.Reason{Code: replication.NotReplica, Database: "team-0", Detail: "reserve has it and this node does not"}
	if v := r.o.plannedGate(); v.Open || v.Reasons[len(v.Reasons)-1] != refusal {
		t.Errorf("reasons %v", v.Reasons)
	}
	r.measures(r.replica("team-2", "0-1-5", replication.ThreadRunning), r.replica("team-0", "0-1-1", replication.ThreadRunning))
	if n := need[Note](r); n.Why.Detail != "found team-0; gone team-1" {
		t.Errorf("said %+v", n.Why)
	}
	if last, _ := r.o.databases[0].Heard.Last(); !last.Equal(at(t, "0-1-5")) {
		t.Errorf("what was heard of team-2 is now %s", last)
	}
	if diff := cmp.Diff([]string{"team-1"}, r.o.Status(r.now).Unprotected); diff != "" {
		t.Error(diff)
	}
}

// A daemon that has not found its databases yet keeps what the one before knew of
// them; one that goes and comes back has no old word to go by.
func TestPositionsOfFoundDatabasesAreRemembered(t *testing.T) {
	kept := []Remembered{
		{Database: "team-1", Heard: at(t, "0-1-9"), Received: at(t, "0-1-8")},
		{Database: "team-2", Heard: at(t, "0-1-7"), Received: at(t, "0-1-7")},
	}
	r := newRig(t, func(c *Config) { c.Databases, c.Discovers = []string{"pivot"}, true })
	r.step(Started{Boot: 8, Memory: hooks.Memory{Epoch: 1, Role: hooks.Standby, Finished: true}, Positions: kept})
	r.measures(r.replica("pivot", "0-1-4", replication.ThreadRunning))
	pivot := Remembered{Database: "pivot", Received: at(t, "0-1-4")}
	if diff := cmp.Diff(append([]Remembered{pivot}, kept...), need[Remember](r).Positions, cmp.Comparer(replication.Position.Equal)); diff != "" {
		t.Error(diff)
	}
	found := r.replica("team-1", "0-1-8", replication.ThreadRunning)
	r.measures(r.replica("pivot", "0-1-4", replication.ThreadRunning), found)
	if last, _ := r.o.databases[1].Heard.Last(); !last.Equal(at(t, "0-1-9")) {
		t.Errorf("of team-1 was heard %s", last)
	}
	r.measures(r.replica("pivot", "0-1-4", replication.ThreadRunning))
	r.measures(r.replica("pivot", "0-1-4", replication.ThreadRunning), found)
	if last, heard := r.o.databases[1].Heard.Last(); heard {
		t.Errorf("of team-1, which was gone, was heard %s", last)
	}
}

func TestPositionsAreRememberedOverARestart(t *testing.T) {
	databases := func(c *Config) { c.Databases = []string{"pivot"} }
	r := newRig(t, databases)
	r.step(Started{Boot: 7})
	r.measures(r.replica("pivot", "0-1-40", replication.ThreadRunning))
	r.says(PeerState{State: Active, Holds: true, ActiveEpoch: 1, Epoch: 1, Positions: []Position{{Database: "pivot", Executed: at(t, "0-1-50")}}})
	var kept []Remembered
	for end := r.now.Add(3 * rememberEvery); kept == nil || kept[0].Heard.Empty(); {
		r.measures(r.replica("pivot", "0-1-45", replication.ThreadRunning))
		if m, ok := find[Remember](r); ok {
			kept = m.Positions
		}
		if r.now.After(end) {
			t.Fatal("nothing is remembered")
		}
	}
	want := []Remembered{{Database: "pivot", Heard: at(t, "0-1-50"), Received: at(t, "0-1-45")}}
	if diff := cmp.Diff(want, kept, cmp.Comparer(replication.Position.Equal)); diff != "" {
		t.Fatal(diff)
	}

	again := newRig(t, databases)
	again.step(Started{Boot: 8, Memory: hooks.Memory{Epoch: 1, Role: hooks.Standby, Finished: true}, Positions: kept})
	again.measures(again.replica("pivot", "0-1-40", replication.ThreadConnecting))
	codes := map[replication.Code]bool{}
	for _, reason := range again.o.gate(replication.SourceLost, nil).Reasons {
		codes[reason.Code] = true
	}
	// The source had more, and five of what was received here are gone.
	if diff := cmp.Diff(map[replication.Code]bool{replication.BehindSource: true}, codes); diff != "" {
		t.Error(diff)
	}
	if ls := again.o.losses(nil); len(ls) != 1 || ls[0].Proved != 10 || ls[0].Transactions != "0-1-41..50" {
		t.Errorf("losses %+v", ls)
	}

	was := newRig(t, databases)
	was.step(Started{Boot: 9, Memory: hooks.Memory{Epoch: 2, ActiveEpoch: 2, Role: hooks.Active, Finished: true}, Positions: kept})
	if _, heard := was.o.databases[0].Heard.Last(); heard {
		t.Error("a node that was Active last goes by what it heard before")
	}
}

// What the source said of semi-sync bounds the loss, and only while it was said.
func TestSemiSyncBoundsTheLoss(t *testing.T) {
	waits := replication.SemiSync{
		SourceStatus: replication.Known(true), NoTx: replication.Known(uint64(4)), Clients: replication.Known(uint64(1)),
		Waiting: replication.Known(uint64(0)), Patience: replication.Known(10 * time.Second),
	}
	for name, said := range map[string]replication.SemiSync{"on": waits, "off": {}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(c *Config) { c.Databases = []string{"pivot"} })
			r.step(Started{Boot: 7})
			for _, executed := range []string{"0-1-20", "0-1-40"} { // a rate, and so an estimate
				r.says(PeerState{State: Active, Holds: true, ActiveEpoch: 1, Epoch: 1, Positions: []Position{
					{Database: "pivot", Executed: at(t, executed), SemiSync: said},
				}})
				f := r.replica("pivot", "0-1-40", replication.ThreadConnecting)
				f.SemiSync.ReplicaEnabled = replication.Known(true)
				r.measures(f)
			}
			ls := r.o.losses(nil)
			if said == waits {
				if len(ls) != 1 || !ls[0].SemiSync || ls[0].AtMost != 0 || !ls[0].AtMostKnown {
					t.Errorf("losses %+v", ls)
				}
				return
			}
			for _, l := range ls {
				if l.SemiSync {
					t.Errorf("loss %+v", l)
				}
			}
		})
	}
}

// A source tells the peer of semi-sync while its commits wait and its facts are fresh.
func TestSemiSyncIsToldWhileItIsSo(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Databases = []string{"pivot"} })
	r.step(Started{Boot: 7})
	f := r.source("pivot", "0-1-40")
	f.SemiSync = replication.SemiSync{
		SourceStatus: replication.Known(true), NoTx: replication.Known(uint64(4)), ReplicaEnabled: replication.Known(true),
	}
	r.measures(f)
	told := f.SemiSync
	told.ReplicaEnabled = replication.Unknown[bool]()
	if ps := r.o.positions(); len(ps) != 1 || ps[0].SemiSync != told {
		t.Errorf("told %+v", ps)
	}
	r.o.now = r.o.now.Add(replication.DefaultMaxAge + time.Second)
	if ps := r.o.positions(); len(ps) != 1 || ps[0].SemiSync != (replication.SemiSync{}) {
		t.Errorf("told of old facts %+v", ps)
	}
	f.SemiSync.SourceStatus = replication.Known(false)
	r.measures(f)
	if ps := r.o.positions(); len(ps) != 1 || ps[0].SemiSync != (replication.SemiSync{}) {
		t.Errorf("told though it is off %+v", ps)
	}
}
