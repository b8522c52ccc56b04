package mysql

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/replication"
)

func TestErrantOf(t *testing.T) {
	const none = ""
	for _, tt := range []struct {
		name                 string
		mine, applied        string
		theirs, theirApplied string
		want                 []string
		count                uint64
	}{
		{"both empty", none, none, none, none, nil, 0},
		{"the same", "0-1-5", none, "0-1-5", none, nil, 0},
		{"behind", "0-1-5", none, "0-1-5,0-2-9", "0-1-5", nil, 0},
		{"three after the last common one", "0-4011-207", none, "0-4011-204,0-4012-206", none, []string{"0-4011-205..207"}, 3},
		{"one", "0-1-6", none, "0-1-5,0-2-9", none, []string{"0-1-6"}, 1},
		{"all, with nothing in common", "0-1-3", none, "0-2-9", none, []string{"0-1-1..3"}, 3},
		{"the source was made from a copy and has no log of it", "0-1-100", none, none, "0-1-100", nil, 0},
		{"as before, and goes on", "0-1-100", none, "0-2-103", "0-1-100", nil, 0},
		{"as before, and this one went on too", "0-1-102", none, "0-2-103", "0-1-100", []string{"0-1-101..102"}, 2},
		{"a server of long ago, before the copy", "0-1-100,0-7-50", none, "0-2-103", "0-1-100", nil, 0},
		{"a server of long ago, after the copy", "0-1-100,0-7-104", none, "0-2-103", "0-1-100", []string{"0-7-101..104"}, 4},
		{"applied and not logged", none, "0-1-7", "0-1-5", none, []string{"0-1-6..7"}, 2},
		{"two domains", "0-1-5,1-1-3", none, "0-1-4,1-1-3", none, []string{"0-1-5"}, 1},
		{"a domain of its own", "0-1-5,9-1-2", none, "0-1-5", none, []string{"9-1-1..2"}, 2},
		{"two servers after the common one", "0-1-207,0-3-206", none, "0-1-204,0-2-300", none, []string{"0-1-205..207", "0-3-205..206"}, 3},
		{"a nearly endless sequence", "0-1-18446744073709551615", none, "0-1-1", none, []string{"0-1-2..18446744073709551615"}, 1<<64 - 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			facts := func(state, applied string) replication.Facts {
				b, err := replication.ParseBinlogState(state)
				if err != nil {
					t.Fatal(err)
				}
				return replication.Facts{BinlogState: replication.Known(b), Applied: replication.Known(mustPosition(t, applied))}
			}
			e, err := errantOf(facts(tt.mine, tt.applied), facts(tt.theirs, tt.theirApplied), "db:3306")
			if err != nil {
				t.Fatal(err)
			}
			if e == nil {
				e = &ErrantError{}
			}
			if diff := cmp.Diff(tt.want, e.Errant); diff != "" || e.Count != tt.count {
				t.Errorf("count %d, want %d; %s", e.Count, tt.count, diff)
			}
		})
	}
	if _, err := errantOf(replication.Facts{}, replication.Facts{}, ""); err == nil {
		t.Error("positions that are not known show nothing errant")
	}
}

// diverge makes a former source with three transactions that its replica, the
// source now, never received.
func diverge(t *testing.T) (old, active *server) {
	t.Helper()
	old, active = startPair(t)
	d := active.database(t, patient)
	old.insert(t, 4)
	if _, err := d.CatchUp(timeout(t, patience), old.position(t)); err != nil {
		t.Fatal(err)
	}
	if err := d.StopReplication(timeout(t, patience)); err != nil {
		t.Fatal(err)
	}
	old.insert(t, 3)
	active.exec(t, "SET GLOBAL read_only = 0")
	active.insert(t, 2)
	old.exec(t, "SET GLOBAL read_only = 1")
	return old, active
}

func TestFollowRefusesErrantTransactions(t *testing.T) {
	old, active := diverge(t)
	d := old.database(t, patient)
	for name, err := range map[string]error{
		"Follow":      d.Follow(timeout(t, patience), active.source(t)),
		"CheckRejoin": d.CheckRejoin(timeout(t, patience), active.source(t)),
		"Following":   errOf(d.Following(timeout(t, patience), active.source(t))),
	} {
		e, ok := errors.AsType[*ErrantError](err)
		if !ok {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff([]string{"0-1-5..7"}, e.Errant); diff != "" || e.Count != 3 {
			t.Errorf("%s: %d: %s", name, e.Count, diff)
		}
	}
	unchanged(t, old)
	if f := d.Measure(context.Background()); !f.BinlogState.IsKnown() {
		t.Error("not measured")
	}
}
