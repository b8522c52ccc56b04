package mysql

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
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
		doubt                bool
	}{
		{"both empty", none, none, none, none, nil, 0, false},
		{"the same", "0-1-5", none, "0-1-5", none, nil, 0, false},
		{"behind", "0-1-5", none, "0-1-5,0-2-9", "0-1-5", nil, 0, false},
		{"three after the last common one", "0-4011-207", none, "0-4011-204,0-4012-206", none, []string{"0-4011-205..207"}, 3, false},
		{"one", "0-1-6", none, "0-1-5,0-2-9", none, []string{"0-1-6"}, 1, false},
		{"all, with nothing in common", "0-1-3", none, "0-2-9", none, []string{"0-1-1..3"}, 3, false},
		{"the source was made from a copy and has no log of it", "0-1-100", none, none, "0-1-100", nil, 0, false},
		{"as before, and goes on", "0-1-100", none, "0-2-103", "0-1-100", nil, 0, false},
		{"as before, and this one went on too", "0-1-102", none, "0-2-103", "0-1-100", []string{"0-1-101..102"}, 2, false},
		{"a server of long ago, before the copy", "0-1-100,0-7-50", none, "0-2-103", "0-1-100", nil, 0, true},
		{"a server of long ago, after the copy", "0-1-100,0-7-104", none, "0-2-103", "0-1-100", []string{"0-7-101..104"}, 4, false},
		{"applied and not logged", none, "0-1-7", "0-1-5", none, []string{"0-1-6..7"}, 2, false},
		{"two domains", "0-1-5,1-1-3", none, "0-1-4,1-1-3", none, []string{"0-1-5"}, 1, false},
		{"a domain of its own", "0-1-5,9-1-2", none, "0-1-5", none, []string{"9-1-1..2"}, 2, false},
		{"two servers after the common one", "0-1-207,0-3-206", none, "0-1-204,0-2-300", none, []string{"0-1-205..207", "0-3-205..206"}, 5, false},
		{"written beside the source's own", "0-1-110,0-2-101", none, "0-1-110", none, []string{"0-2-101"}, 1, false},
		{"a nearly endless sequence", "0-1-18446744073709551615", none, "0-1-1", none, []string{"0-1-2..18446744073709551615"}, 1<<64 - 2, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			facts := func(state, applied string) replication.Facts {
				b, err := replication.ParseBinlogState(state)
				if err != nil {
					t.Fatal(err)
				}
				return replication.Facts{Reach: replication.Reachable, BinlogState: replication.Known(b), Applied: replication.Known(mustPosition(t, applied))}
			}
			j := judge(facts(tt.mine, tt.applied), facts(tt.theirs, tt.theirApplied), "db:3306")
			e := j.errant
			if e == nil {
				e = &ErrantError{}
			}
			if (j.doubt != nil) != tt.doubt {
				t.Errorf("doubt: %v", j.doubt)
			}
			if diff := cmp.Diff(tt.want, e.Errant); diff != "" || e.Count != tt.count {
				t.Errorf("count %d, want %d; %s", e.Count, tt.count, diff)
			}
		})
	}
	unread := replication.Facts{Reach: replication.Reachable}
	if j := judge(unread, unread, ""); j.doubt == nil || j.rest == nil {
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
	t.Parallel()
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

func (s *server) mayDiscard(t *testing.T) {
	t.Helper()
	s.unlogged(t, "GRANT RELOAD, REPLICATION MASTER ADMIN, BINLOG MONITOR ON *.* TO tanist@localhost")
}

func TestDiscard(t *testing.T) {
	t.Parallel()
	old, active := diverge(t)
	old.mayDiscard(t)
	d := old.database(t, patient)
	lost := old.position(t)
	var kept Discarded
	gone, err := d.Discard(timeout(t, patience), active.source(t), func(_ context.Context, g Discarded) error {
		kept = g
		// Nothing is gone yet.
		if !old.position(t).Equal(lost) {
			t.Error("changed before it was put away")
		}
		for _, file := range g.Logs {
			if text, err := os.ReadFile(file); err != nil || !bytes.Contains(text, []byte("INSERT INTO app.t")) {
				t.Errorf("%s: %v", file, err)
			}
		}
		return nil
	})
	// A row that collides may be met before both threads were seen to run.
	if _, collided := errors.AsType[*SQLThreadError](err); err != nil && !collided {
		t.Fatal(err)
	}
	if diff := cmp.Diff(kept, gone, cmp.Comparer(replication.Position.Equal)); diff != "" {
		t.Error(diff)
	}
	want := Discarded{
		Errant: []string{"0-1-5..7"}, Count: 3, From: mustPosition(t, "0-1-4"), State: "0-1-4",
		Logs: []string{filepath.Join(old.dir, "data", "bin.000001")},
	}
	if diff := cmp.Diff(want, gone, cmp.Comparer(replication.Position.Equal)); diff != "" {
		t.Error(diff)
	}
	// The rows of the source come; two of them collide with rows that stayed.
	eventually(t, "replication to stand at the first row that differs", func() (bool, error) {
		return old.channelColumn(t, "Last_SQL_Errno") == "1062", nil
	})
	if n := old.value(t, "SELECT COUNT(*) FROM app.t"); n != "7" {
		t.Errorf("%s rows, want the 7 that were there", n)
	}
}

// Where what differs does not collide, replication runs, and the differing rows
// stay: the books are right, the tables are not.
func TestDiscardWithoutACollision(t *testing.T) {
	t.Parallel()
	old, active := diverge(t)
	active.exec(t, "CREATE TABLE app.u (id INT PRIMARY KEY)")
	old.exec(t, "DELETE FROM app.t WHERE id > 4")
	old.exec(t, "FLUSH BINARY LOGS")
	old.exec(t, "INSERT INTO app.t VALUES (1000, 1)")
	old.exec(t, "FLUSH BINARY LOGS")
	old.mayDiscard(t)
	d := old.database(t, patient)
	gone, err := d.Discard(timeout(t, patience), active.source(t), func(context.Context, Discarded) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"0-1-5..9"}, gone.Errant); diff != "" || len(gone.Logs) != 3 {
		t.Errorf("logs %v; %s", gone.Logs, diff)
	}
	active.insert(t, 2)
	if _, err := d.CatchUp(timeout(t, patience), active.position(t)); err != nil {
		t.Fatal(err)
	}
	if mine, theirs := old.rows(t), active.rows(t); mine != theirs+",1000:1" {
		t.Errorf("rows %s, the source has %s", mine, theirs)
	}
	// Nothing is errant any more, here or on the way back.
	if err := d.CheckRejoin(timeout(t, patience), active.source(t)); err != nil {
		t.Error(err)
	}
	back := active.database(t, patient)
	if err := d.StopReplication(timeout(t, patience)); err != nil {
		t.Fatal(err)
	}
	active.exec(t, "SET GLOBAL read_only = 1")
	old.exec(t, "SET GLOBAL read_only = 0")
	old.exec(t, "INSERT INTO app.u VALUES (1)")
	active.exec(t, "STOP ALL SLAVES")
	mustFollow(t, back, old.source(t))
	if _, err := back.CatchUp(timeout(t, patience), old.position(t)); err != nil {
		t.Error(err)
	}
}

// A replica that somebody wrote to stands at the source's next transaction, with
// what it received not applied. The source has all of it.
func TestDiscardWhereAnErrantTransactionStopsTheReplica(t *testing.T) {
	t.Parallel()
	for name, stop := range map[string]string{
		"SQL thread": "",
		"both":       "STOP ALL SLAVES",
	} {
		t.Run(name, func(t *testing.T) {
			active, replica := startPair(t)
			replica.mayDiscard(t)
			d := replica.database(t, patient)
			active.exec(t, "CREATE TABLE app.u (id INT PRIMARY KEY)")
			mustFollow(t, d, active.source(t))
			if _, err := d.CatchUp(timeout(t, patience), active.position(t)); err != nil {
				t.Fatal(err)
			}
			replica.exec(t, "INSERT INTO app.u VALUES (1)")
			active.insert(t, 2)
			eventually(t, "the SQL thread to stand", func() (bool, error) {
				return replica.channelColumn(t, "Last_SQL_Errno") == "1950" && replica.channelColumn(t, "Gtid_IO_Pos") == active.position(t).String(), nil
			})
			if stop != "" {
				replica.exec(t, stop)
			}
			var refused *UnappliedError
			if err := d.Follow(timeout(t, patience), active.source(t)); err == nil || errors.As(err, &refused) {
				t.Errorf("Follow: %v, want the errant transaction to be refused", err)
			}
			gone, err := d.Discard(timeout(t, patience), active.source(t), func(context.Context, Discarded) error { return nil })
			if err != nil {
				t.Fatal(err)
			}
			if gone.Count != 1 {
				t.Errorf("gave up %v", gone.Errant)
			}
			if _, err := d.CatchUp(timeout(t, patience), active.position(t)); err != nil {
				t.Fatal(err)
			}
			if mine, theirs := replica.rows(t), active.rows(t); mine != theirs {
				t.Errorf("rows %s, the source has %s", mine, theirs)
			}
		})
	}
}

// What the source lacks is nowhere but in the relay log.
func TestDiscardKeepsARelayLogThatTheSourceLacks(t *testing.T) {
	v := view{}
	v.theirs.facts.Applied = replication.Known(replication.Position{})
	state, err := replication.ParseBinlogState("0-1-4,0-2-9")
	if err != nil {
		t.Fatal(err)
	}
	v.theirs.facts.BinlogState = replication.Known(state)
	for received, want := range map[string]bool{"": true, "0-1-4": true, "0-2-9": true, "0-1-5": false, "0-3-1": false, "1-1-1": false} {
		v.channels = []replication.Channel{{Received: replication.Known(mustPosition(t, received))}}
		if got := v.sourceHasReceived(); got != want {
			t.Errorf("received %q: %v, want %v", received, got, want)
		}
	}
	v.channels = []replication.Channel{{}}
	if v.sourceHasReceived() {
		t.Error("a received position that is not known")
	}
}

func TestDiscardKeepsOnlyTheLogsItNeeds(t *testing.T) {
	t.Parallel()
	old, active := startPair(t)
	d := active.database(t, patient)
	old.insert(t, 2)
	old.exec(t, "FLUSH BINARY LOGS")
	old.insert(t, 2)
	if _, err := d.CatchUp(timeout(t, patience), old.position(t)); err != nil {
		t.Fatal(err)
	}
	if err := d.StopReplication(timeout(t, patience)); err != nil {
		t.Fatal(err)
	}
	old.insert(t, 1) // beside common ones, in the second log
	old.exec(t, "FLUSH BINARY LOGS")
	old.insert(t, 1)
	active.exec(t, "SET GLOBAL read_only = 0")
	old.exec(t, "SET GLOBAL read_only = 1")
	old.mayDiscard(t)
	full := errors.New("no space left")
	var logs []string
	_, err := old.database(t, patient).Discard(timeout(t, patience), active.source(t), func(_ context.Context, g Discarded) error {
		for _, l := range g.Logs {
			logs = append(logs, filepath.Base(l))
		}
		return full
	})
	if !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
	if diff := cmp.Diff([]string{"bin.000002", "bin.000003"}, logs); diff != "" {
		t.Error(diff)
	}
	unchanged(t, old)
	if p := old.position(t); p.String() != "0-1-6" {
		t.Errorf("position %s after a refusal", p)
	}
}

func TestDiscardRefuses(t *testing.T) {
	t.Parallel()
	old, active := diverge(t)
	d := old.database(t, patient)
	never := func(context.Context, Discarded) error { t.Error("asked to put something away"); return nil }
	_, err := d.Discard(timeout(t, patience), active.source(t), never)
	if err == nil || !strings.Contains(err.Error(), "RELOAD") {
		t.Errorf("without the privilege: %v", err)
	}
	if _, err := d.Discard(timeout(t, patience), old.source(t), never); wantText("this very server")(err) != "" {
		t.Errorf("itself: %v", err)
	}
	stranger := startServer(t, 9)
	stranger.insert(t, 1)
	old.mayDiscard(t)
	again := old.database(t, patient)
	if _, err := again.Discard(timeout(t, patience), stranger.source(t), never); err == nil || !strings.Contains(err.Error(), "nothing in common") {
		t.Errorf("a stranger: %v", err)
	}
	old.exec(t, "SET GLOBAL read_only = 0")
	if _, err := again.Discard(timeout(t, patience), active.source(t), never); !errors.Is(err, ErrWritesOpen) {
		t.Errorf("writes open: %v", err)
	}
	unchanged(t, old)
}
