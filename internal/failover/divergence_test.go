package failover

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/replication"
)

func state(t *testing.T, s string) replication.BinlogState {
	t.Helper()
	b, err := replication.ParseBinlogState(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// history gives facts the binlog state of a MariaDB.
func (r *rig) history(f replication.Facts, binlog string) replication.Facts {
	r.t.Helper()
	f.BinlogState = replication.Known(state(r.t, binlog))
	f.ReadOnly = replication.Known(true)
	return f
}

// activeWith is the word of an Active whose database has those transactions.
func activeWith(t *testing.T, epoch Epoch, executed, applied, binlog string) PeerState {
	t.Helper()
	return PeerState{
		State: Active, Holds: true, ActiveEpoch: epoch, Epoch: epoch, Bids: true, Sources: AllSources, HearsLink: SenseHeard,
		Positions: []Position{{Database: "pivot", Executed: at(t, executed), Applied: at(t, applied), Binlog: state(t, binlog)}},
	}
}

// standbyLives lets d pass for a node beside an Active that says p, its databases as
// facts says.
func (r *rig) standbyLives(d time.Duration, p PeerState, facts func() replication.Facts) (all []Effect) {
	for end := r.now.Add(d); r.now.Before(end); {
		r.says(p)
		all = append(all, r.lives(50*time.Millisecond, around{facts: facts})...)
	}
	return all
}

func kinds(all []Effect, ks ...hooks.RecordKind) []string {
	var out []string
	for _, e := range all {
		if a, ok := e.(Append); ok && slices.Contains(ks, a.Record.Kind) {
			out = append(out, a.Record.Kind.String()+" "+a.Record.Loss.Transactions)
		}
	}
	return out
}

// TestDivergence: a standby is in conflict when its databases have what it wrote itself
// and the Active lacks.
func TestDivergence(t *testing.T) {
	const before = "0-1-100"
	for _, tt := range []struct {
		name                      string
		mine, mineBinlog          string
		executed, applied, binlog string
		want                      []Divergence
	}{
		{name: "the same", mine: before, mineBinlog: before, executed: "0-2-105", applied: before, binlog: "0-1-100,0-2-105"},
		{
			name: "writes that did not leave it", mine: "0-1-103", mineBinlog: "0-1-103", executed: "0-2-105", applied: before, binlog: "0-1-100,0-2-105",
			want: []Divergence{{Database: "pivot", Transactions: "0-1-101..103", Count: 3, Exact: true}},
		},
		{
			name: "and the Active wrote nothing", mine: "0-1-103", mineBinlog: "0-1-103", executed: before, applied: before, binlog: before,
			want: []Divergence{{Database: "pivot", Transactions: "0-1-101..103", Count: 3, Exact: true}},
		},
		{
			name: "another server's, of a source made from a copy", mine: before, mineBinlog: "0-1-100,0-7-50", executed: "0-2-105", applied: before, binlog: "0-1-100,0-2-105",
		},
		{name: "behind", mine: "0-1-90", mineBinlog: "0-1-90", executed: "0-2-105", applied: before, binlog: "0-1-100,0-2-105"},
		{name: "the Active does not say", mine: "0-1-103", mineBinlog: "0-1-103", executed: "0-2-105", applied: before, binlog: ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, func(c *Config) { c.Databases = []string{"pivot"} })
			r.step(Started{Boot: 7, Memory: hooks.Memory{Epoch: 4, ActiveEpoch: 4, Role: hooks.Active, Finished: true}})
			p := activeWith(t, 5, tt.executed, tt.applied, tt.binlog)
			facts := func() replication.Facts { return r.history(r.source("pivot", tt.mine), tt.mineBinlog) }
			r.lives(10*time.Millisecond, around{facts: facts})
			r.well()
			all := r.standbyLives(2*time.Second, p, facts)
			if got := r.o.Status(r.now).Divergence; got != nil {
				t.Errorf("at once: %v", got)
			}
			all = append(all, r.standbyLives(15*time.Second, p, facts)...)
			if diff := cmp.Diff(tt.want, r.o.Status(r.now).Divergence); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			var journaled []string
			for _, d := range tt.want {
				journaled = append(journaled, "diverged "+d.Transactions)
			}
			if diff := cmp.Diff(journaled, kinds(all, hooks.Diverged, hooks.Reconciled)); diff != "" {
				t.Errorf("journaled (-want +got):\n%s", diff)
			}
			if tt.want == nil {
				r.wantState(Backup, PeerActive)
				return
			}
			r.wantState(Conflict, Diverged)
			gate := r.o.Status(r.now).Gate
			if gate.Open || !slices.ContainsFunc(gate.Reasons, func(r replication.Reason) bool { return r.Code == replication.Errant }) {
				t.Errorf("gate %+v", gate)
			}
			urgent := slices.ContainsFunc(all, func(e Effect) bool {
				n, ok := e.(Note)
				return ok && n.Urgent && n.Why.Reason == Diverged && strings.Contains(n.Why.Detail, tt.want[0].Transactions)
			})
			if !urgent {
				t.Error("no alarm")
			}
			// What rejoin --discard leaves behind.
			alike := func() replication.Facts {
				return r.history(r.replica("pivot", before, replication.ThreadRunning), before)
			}
			over := r.standbyLives(2*time.Second, p, func() replication.Facts {
				f := alike()
				f.ServerID = replication.Known[uint32](1)
				return f
			})
			r.wantState(Backup, PeerActive)
			if diff := cmp.Diff([]string{"reconciled "}, kinds(over, hooks.Diverged, hooks.Reconciled)); diff != "" {
				t.Errorf("journaled (-want +got):\n%s", diff)
			}
		})
	}
}

// TestYieldsAndIsInConflict is the whole way: an Active that was cut off meets one of a
// newer epoch, yields at once, and says what only it has.
func TestYieldsAndIsInConflict(t *testing.T) {
	r := promotedRig(t, "pivot")
	mine := func() replication.Facts { return r.history(r.source("pivot", "0-1-103"), "0-1-103,0-2-100") }
	r.measures(mine())
	r.proves(253, 5)
	r.wantState(Demoting, NewerEpoch)
	need[CloseWrites](r)
	p := activeWith(t, 5, "0-2-110", "0-1-101", "0-1-101,0-2-110")
	r.standbyLives(10*time.Second, p, mine)
	r.wantState(Conflict, Diverged)
	want := []Divergence{{Database: "pivot", Transactions: "0-1-102..103", Count: 2, Exact: true}}
	if diff := cmp.Diff(want, r.o.Status(r.now).Divergence); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	t.Run("it does not take over when the Active dies", func(t *testing.T) {
		r.lives(10*time.Second, around{facts: mine})
		if r.o.lease.held || r.o.role == hooks.Active {
			t.Fatal("it did")
		}
		if len(r.o.Status(r.now).Divergence) == 0 {
			t.Error("what it knew is forgotten")
		}
	})
}

// TestDivergenceOutlivesTheDaemon: a daemon that comes back while nobody is there to
// compare with knows from the journal that its databases have what the Active's lack.
func TestDivergenceOutlivesTheDaemon(t *testing.T) {
	config := func(c *Config) { c.Databases = []string{"pivot"} }
	r := newRig(t, config)
	mine := func() replication.Facts {
		return r.history(r.replica("pivot", "0-2-106", replication.ThreadRunning), "0-1-105,0-2-106")
	}
	memory := hooks.Memory{Epoch: 5, ActiveEpoch: 4, Role: hooks.Standby, Finished: true}
	var positions []Remembered
	keep := func(all []Effect) {
		for _, e := range all {
			if a, ok := e.(Append); ok {
				memory = memory.Fold(a.Record)
			}
			if m, ok := e.(Remember); ok {
				positions = m.Positions
			}
		}
	}
	r.step(Started{Boot: 7, Memory: memory})
	keep(r.lives(10*time.Millisecond, around{facts: mine}))
	r.well()
	keep(r.standbyLives(10*time.Second, activeWith(t, 5, "0-1-105", "0-1-105", "0-1-105"), mine))
	r.wantState(Conflict, Diverged)
	want := r.o.Status(r.now).Divergence

	next := newRig(t, config)
	next.step(Started{Boot: 8, Memory: memory, Positions: positions})
	keep(next.lives(10*time.Millisecond, around{facts: mine}))
	next.well()
	all := next.lives(30*time.Second, around{facts: mine})
	if next.o.lease.held || next.o.role == hooks.Active {
		t.Fatalf("it takes over: %s (%s)", next.o.state, next.o.why.Reason)
	}
	if diff := cmp.Diff(want, next.o.Status(next.now).Divergence); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := kinds(all, hooks.Diverged, hooks.Reconciled); got != nil {
		t.Errorf("journaled again: %s", got)
	}
	alike := func() replication.Facts {
		return next.history(next.replica("pivot", "0-1-105", replication.ThreadRunning), "0-1-105")
	}
	keep(next.standbyLives(2*time.Second, activeWith(t, 5, "0-1-105", "0-1-105", "0-1-105"), alike))
	next.wantState(Backup, PeerActive)
	last := newRig(t, config)
	last.step(Started{Boot: 9, Memory: memory, Positions: positions})
	if got := last.o.Status(last.now).Divergence; got != nil {
		t.Errorf("after it was reconciled: %v", got)
	}
}

// TestDivergenceEndsWithTheRole: a daemon that finds the address of a switchover which a
// restart cut off is the Active, whatever its databases were found to have before.
func TestDivergenceEndsWithTheRole(t *testing.T) {
	var m hooks.Memory
	for _, rec := range []hooks.Record{
		{Kind: hooks.Diverged, Epoch: 5, Role: hooks.Standby, Loss: hooks.Loss{Database: "pivot", Proved: 3, ProvedKnown: true}},
		{Kind: hooks.Began, Epoch: 6, Role: hooks.Active, Planned: true},
	} {
		m = m.Fold(rec)
	}
	r := newRig(t, func(c *Config) { c.Databases = []string{"pivot"} })
	r.step(Started{Boot: 8, Memory: m, Leftover: true, Left: time.Second})
	r.wantState(Active, Adopted)
	if got := r.o.Status(r.now).Divergence; got != nil {
		t.Errorf("%v", got)
	}
}
