package failover

import (
	"testing"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/replication"
)

// TestElectHalfUndone: of two nodes with the same transactions the one whose
// databases all follow nobody goes first, when the other's are half of a promotion
// that was cut off. Where the transactions differ or are not known, epochs decide.
func TestElectHalfUndone(t *testing.T) {
	const behind, ahead = "0-1-100", "0-1-101"
	for _, tt := range []struct {
		name         string
		mixed        bool // this node's databases are the half ones
		unknown      bool // where they are
		mine, theirs Epoch
		pivot, team  string // where the peer's are, empty: not known
		want         election
	}{
		{name: "alike, the peer's half undone, its epoch later", mine: 1, theirs: 3, pivot: behind, team: behind, want: electSelf},
		{name: "alike, the peer's half undone, the same epoch", mine: 1, theirs: 1, pivot: behind, team: behind, want: electSelf},
		{name: "alike, this one's half undone, its epoch later", mixed: true, mine: 3, theirs: 1, pivot: behind, team: behind, want: electPeer},
		{name: "alike, this one's half undone, the same epoch", mixed: true, mine: 1, theirs: 1, pivot: behind, team: behind, want: electPeer},
		{name: "the peer has more", mine: 1, theirs: 3, pivot: behind, team: ahead, want: electPeer},
		{name: "this one has more", mixed: true, mine: 3, theirs: 1, pivot: "0-1-99", team: behind, want: electSelf},
		{name: "they differ in the same epoch", mine: 1, theirs: 1, pivot: ahead, team: behind, want: electNeither},
		{name: "one of the peer's is not known", mine: 1, theirs: 3, pivot: behind, want: electPeer},
		{name: "none of either's is known", unknown: true, mine: 1, theirs: 3, want: electPeer},
		{name: "none of the peer's is known, the same epoch", mine: 1, theirs: 1, want: electNeither},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, func(c *Config) { c.Databases = []string{"pivot", "team"} })
			r.step(Started{Boot: 7, Memory: hooks.Memory{Epoch: uint64(tt.mine), ActiveEpoch: uint64(tt.mine), Role: hooks.Standby, Finished: true}})
			facts := []replication.Facts{r.source("pivot", behind), r.source("team", behind)}
			p := PeerState{State: Refused, Sources: MixedSources, ActiveEpoch: tt.theirs, Epoch: tt.theirs}
			if tt.mixed {
				facts[0], p.Sources = r.replica("pivot", behind, replication.ThreadRunning), AllSources
			}
			if tt.unknown {
				facts[0].Executed, facts[1].Executed = replication.Optional[replication.Position]{}, replication.Optional[replication.Position]{}
			}
			r.measures(facts...)
			if tt.pivot != "" {
				p.Positions = append(p.Positions, Position{Database: "pivot", Executed: at(t, tt.pivot)})
			}
			if tt.team != "" {
				p.Positions = append(p.Positions, Position{Database: "team", Executed: at(t, tt.team)})
			}
			r.says(p)
			if got := r.o.elect(); got != tt.want {
				t.Errorf("elects %d, want %d", got, tt.want)
			}
		})
	}
}

// TestTakesOverFromAHalfUndoneOne is the whole way: nobody has to choose at night.
func TestTakesOverFromAHalfUndoneOne(t *testing.T) {
	for name, tt := range map[string]struct {
		team string
		want bool
	}{
		"the databases are alike": {team: "0-1-100", want: true},
		"the peer has more":       {team: "0-1-101"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(c *Config) { c.Databases = []string{"pivot", "team"} })
			r.step(Started{Boot: 7, Memory: hooks.Memory{Epoch: 1, ActiveEpoch: 1, Role: hooks.Standby, Finished: true}})
			r.ends("close", hooks.Unchanged)
			r.ends("unit", hooks.Unchanged)
			r.well()
			began := false
			for end := r.now.Add(5 * time.Second); r.now.Before(end) && !began; {
				r.says(PeerState{
					State: Refused, Why: Why{Reason: GateClosed}, Sources: MixedSources, Epoch: 3, ActiveEpoch: 3, Stopped: []string{unit},
					Positions: []Position{{Database: "pivot", Executed: at(t, "0-1-100")}, {Database: "team", Executed: at(t, tt.team)}},
				})
				if m, ok := find[Measure](r); ok {
					r.after(time.Millisecond, Measured{ID: m.ID, Facts: []replication.Facts{r.source("pivot", "0-1-100"), r.source("team", "0-1-100")}})
				}
				if c, ok := find[CatchUp](r); ok {
					r.after(time.Millisecond, CaughtUp{ID: c.ID})
				}
				for _, e := range r.out {
					a, ok := e.(Append)
					began = began || ok && a.Record.Kind == hooks.Began && a.Record.Role == hooks.Active
				}
				r.now = r.now.Add(20 * time.Millisecond)
			}
			if began != tt.want {
				t.Errorf("begins a promotion: %t; %s (%s)", began, r.o.state, r.o.why.Reason)
			}
			if !tt.want {
				r.wantState(Refused, GateClosed)
			}
		})
	}
}

// TestToldSources: what a standby says of its databases must not be from before its
// latest plan. A promotion stopped its replicas, and what was measured while its
// writes were open is not how far they came.
func TestToldSources(t *testing.T) {
	replica := func(r *rig, name string) replication.Facts {
		return r.replica(name, "0-1-100", replication.ThreadRunning)
	}
	source := func(r *rig, name string) replication.Facts {
		f := r.source(name, "0-1-100")
		f.ReadOnly = replication.Known(true)
		return f
	}
	for name, tt := range map[string]struct {
		pivot, team   func(*rig, string) replication.Facts
		closing, want Sources // told while the demotion runs, and after it
	}{
		"sources":  {source, source, AllSources, AllSources},
		"replicas": {replica, replica, AllReplicas, AllReplicas},
		"half":     {source, replica, SourcesUnknown, MixedSources},
	} {
		t.Run(name, func(t *testing.T) {
			r := sourceRig(t, "pivot", "team")
			told := func(when string, want Sources) {
				t.Helper()
				if got := r.o.peerState().Sources; got != want {
					t.Errorf("%s: %d told, want %d", when, got, want)
				}
			}
			measured := func() {
				r.after(time.Millisecond, Tick{})
				r.after(time.Millisecond, Measured{ID: 1 << 40, Facts: []replication.Facts{tt.pivot(r, "pivot"), tt.team(r, "team")}})
			}
			r.measures(r.all(nil)...)
			r.after(10*time.Second, Tick{})
			r.wantState(Demoting, Late)
			closing := need[StartStep](r)
			measured()
			told("measured while the demotion runs", tt.closing)
			r.after(time.Millisecond, StepEnded{ID: closing.Order.ID, Outcome: hooks.Changed})
			r.ends("unit", hooks.Changed)
			if r.o.run != nil {
				t.Fatal("the demotion still runs")
			}
			told("as measured before its end", SourcesUnknown)
			measured()
			told("measured since", tt.want)
		})
	}
	t.Run("an Active", func(t *testing.T) {
		r := sourceRig(t, "pivot", "team")
		r.measures(source(r, "pivot"), replica(r, "team"))
		if got := r.o.peerState().Sources; got != MixedSources {
			t.Errorf("%d told", got)
		}
	})
}
