package mysql

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/replication"
)

type starter = func(t *testing.T, id int) subject

func TestFactsOfAPair(t *testing.T) {
	onAll(t, func(t *testing.T, start starter) {
		source, replica := pair(t, start)
		src, rep := source.database(t, patient), replica.database(t, patient)
		source.insert(t, 3)
		at := source.position(t)
		if got, err := rep.CatchUp(timeout(t, patience), at); err != nil || !got.Equal(at) {
			t.Fatalf("caught up to %s, not %s: %v", got, at, err)
		}

		s := src.Measure(t.Context())
		wantReach(t, s, replication.Reachable)
		f := channelBecomes(t, rep, func(c replication.Channel) bool { return c.SecondsBehind.Equal(replication.Known(time.Duration(0))) })
		want := replication.Channel{
			SourceHost: "127.0.0.1", SourcePort: uint16(source.tcpPort()), IO: replication.ThreadRunning, SQL: replication.ThreadRunning,
			LastIOError: replication.Known(replication.ServerError{}), LastSQLError: replication.Known(replication.ServerError{}),
			SecondsBehind: replication.Known(time.Duration(0)), Received: replication.Known(at), UsingGTID: replication.Known(true),
			SQLDelay: replication.Known(time.Duration(0)), Filtered: replication.Known(false), SourceServerID: s.ServerID,
			SourceUUID: s.ServerUUID,
		}
		if diff := cmp.Diff(want, onlyChannel(t, f)); diff != "" {
			t.Error(diff)
		}
		position, ok := s.Position()
		if !ok || !position.Equal(at) || s.Role() != replication.RoleSource || !s.ReadOnly.Equal(replication.Known(false)) {
			t.Errorf("the source is a %s, %s, at %s", s.Role(), s.ReadOnly, position)
		}
		if f.Role() != replication.RoleReplica || !f.Applied.Equal(replication.Known(at)) || !f.ReadOnly.Equal(replication.Known(true)) {
			t.Errorf("the replica is a %s, %s, at %s", f.Role(), f.ReadOnly, f.Applied)
		}
		for _, f := range []replication.Facts{s, f} {
			super := replication.Unknown[bool]()
			if source.mysql() {
				super = f.ReadOnly
				if !f.GTIDMode.Equal(replication.Known(true)) || !f.ServerUUID.IsKnown() || !f.Purged.IsKnown() {
					t.Errorf("gtid_mode %s, UUID %s, purged %s", f.GTIDMode, f.ServerUUID, f.Purged)
				}
			}
			if !f.SuperReadOnly.Equal(super) || !f.LogReplicaUpdates.Equal(replication.Known(true)) || !f.EventScheduler.IsKnown() ||
				!f.LongestTransaction.IsKnown() {
				t.Errorf("%+v", f)
			}
		}
		for f, connected := range map[*replication.Facts]uint64{&s: 1, &f: 0} {
			if !f.ReplicasConnected.Equal(replication.Known(connected)) {
				t.Errorf("%s replicas stream from %s, want %d", f.ReplicasConnected, f.Name, connected)
			}
		}
		if v := verdict(f, replication.Planned, at, at); !v.Open {
			t.Errorf("gate is closed: %v", v.Reasons)
		}
	})
}

// The moves of a planned switchover, and that its end can be taken back.
func TestSwitchover(t *testing.T) {
	onAll(t, func(t *testing.T, start starter) {
		source, replica := pair(t, start)
		src, rep := source.database(t, patient), replica.database(t, patient)
		source.insert(t, 2)
		at, err := src.CloseWrites(timeout(t, patience), 0)
		if err != nil || !at.Equal(source.position(t)) || !source.readOnly(t) {
			t.Fatalf("closed %v at %s, %v", source.readOnly(t), at, err)
		}
		if again, err := src.CloseWrites(timeout(t, patience), 0); err != nil || !again.Equal(at) {
			t.Errorf("closed again at %s: %v", again, err)
		}
		if _, err := rep.CatchUp(timeout(t, patience), at); err != nil {
			t.Fatal(err)
		}
		if err := rep.StopReplication(timeout(t, patience)); err != nil {
			t.Fatal(err)
		}
		if stopped, err := rep.ReplicationStopped(timeout(t, patience)); err != nil || !stopped {
			t.Errorf("stopped %v, %v", stopped, err)
		}
		if err := rep.OpenWrites(timeout(t, patience), time.Now().Add(-time.Second)); !errors.Is(err, ErrExpired) || !replica.readOnly(t) {
			t.Errorf("opened too late: %v", err)
		}
		if err := rep.act(timeout(t, patience), "open writes", func(ctx context.Context, s *session) error {
			if _, err := s.writesOpen(ctx); err != nil {
				return err
			}
			return s.openWrites(ctx, "1.5")
		}); !errors.Is(err, ErrExpired) || !replica.readOnly(t) {
			t.Errorf("the server opened too late: %v", err)
		}
		if err := rep.OpenWrites(timeout(t, patience), time.Now().Add(patience)); err != nil || replica.readOnly(t) {
			t.Errorf("does not open: %v", err)
		}
		if open, err := rep.WritesOpen(timeout(t, patience)); err != nil || !open {
			t.Errorf("open %v, %v", open, err)
		}

		// Back: nothing was written meanwhile.
		if _, err := rep.CloseWrites(timeout(t, patience), 0); err != nil {
			t.Fatal(err)
		}
		if err := src.OpenWrites(timeout(t, patience), time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if err := rep.StartReplication(timeout(t, patience)); err != nil {
			t.Fatal(err)
		}
		source.insert(t, 1)
		if _, err := rep.CatchUp(timeout(t, patience), source.position(t)); err != nil {
			t.Error(err)
		}
	})
}

// unapplied makes a replica whose source is dead and which has five transactions
// received and not applied.
func unapplied(t *testing.T, start starter) (replica subject, d *Database, received replication.Position) {
	t.Helper()
	source, replica := pair(t, start)
	d = replica.database(t, patient)
	source.insert(t, 1)
	if _, err := d.CatchUp(timeout(t, patience), source.position(t)); err != nil {
		t.Fatal(err)
	}
	replica.thread(t, "STOP", "SQL_THREAD")
	source.insert(t, 5)
	received = source.position(t)
	channelBecomes(t, d, func(c replication.Channel) bool { p, _ := c.Received.Get(); return p.Covers(received) })
	source.kill(t)
	channelBecomes(t, d, func(c replication.Channel) bool {
		return c.IO == replication.ThreadConnecting && c.SecondsBehind.IsNull()
	})
	return replica, d, received
}

func TestStopAppliesWhatWasReceived(t *testing.T) {
	onAll(t, func(t *testing.T, start starter) {
		replica, d, received := unapplied(t, start)
		for range 2 {
			if err := d.StopReplication(timeout(t, patience)); err != nil {
				t.Fatal(err)
			}
		}
		if got := replica.position(t); !got.Equal(received) {
			t.Errorf("at %s, received %s", got, received)
		}
	})
}

// With both threads stopped MariaDB would drop what was received, and MySQL would
// not: it is refused there and applied here.
func TestStopWithBothThreadsStopped(t *testing.T) {
	onAll(t, func(t *testing.T, start starter) {
		replica, d, received := unapplied(t, start)
		replica.thread(t, "STOP", "")
		channelBecomes(t, d, bothStopped)
		err := d.StopReplication(timeout(t, patience))
		if !replica.mysql() {
			refused, ok := errors.AsType[*UnappliedError](err)
			if !ok || refused.Missing != 5 {
				t.Fatalf("%v", err)
			}
			if f := d.Measure(t.Context()); !onlyChannel(t, f).Received.Equal(replication.Known(received)) {
				t.Error("what was received is gone")
			}
			// The server does what it is refused for.
			replica.thread(t, "START", "SQL_THREAD")
			channelBecomes(t, d, func(c replication.Channel) bool { p, _ := c.Received.Get(); return !p.Covers(received) })
			return
		}
		if err != nil || !replica.position(t).Equal(received) {
			t.Errorf("at %s, received %s: %v", replica.position(t), received, err)
		}
	})
}

func TestCloseBehindALock(t *testing.T) {
	onAll(t, func(t *testing.T, start starter) {
		s := start(t, 1)
		s.lockTables(t)
		if _, err := s.database(t, patient).CloseWrites(timeout(t, patience), 0); err != nil || !s.readOnly(t) {
			t.Errorf("closed %v, %v", s.readOnly(t), err)
		}
	})
}

// What hangs is reported as that within the deadline, and what was sent to it
// does not open it when it wakes. Another database notices nothing.
func TestHang(t *testing.T) {
	onAll(t, func(t *testing.T, start starter) {
		s, other := start(t, 1), start(t, 2)
		d, well := s.database(t, patient), other.database(t, patient)
		if _, err := d.CloseWrites(timeout(t, patience), 0); err != nil {
			t.Fatal(err)
		}
		pinned := s.database(t)
		for _, d := range []*Database{pinned, well} {
			wantReach(t, d.Measure(t.Context()), replication.Reachable)
		}
		err := d.act(timeout(t, time.Second), "open writes", func(ctx context.Context, sess *session) error {
			if _, err := sess.writesOpen(ctx); err != nil {
				return err
			}
			deadline, err := sess.serverDeadline(ctx, time.Now().Add(500*time.Millisecond))
			if err != nil {
				return err
			}
			s.hang(t)
			return sess.openWrites(ctx, deadline)
		})
		if !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}

		// The fresh connection hangs in the handshake, the other in its statement.
		facts := make(chan replication.Facts, 2)
		for _, d := range []*Database{pinned, s.database(t)} {
			go func() { facts <- d.Measure(context.Background()) }()
		}
		for rounds := 0; len(facts) < cap(facts); rounds++ {
			wantReach(t, well.Measure(t.Context()), replication.Reachable)
			if rounds > 1_000_000 {
				t.Fatal("a hung server's measurement does not end")
			}
		}
		for range cap(facts) {
			wantReach(t, <-facts, replication.ReachTimedOut)
		}
		s.resume(t)
		eventually(t, "an answer", func() (bool, error) { return pinned.Measure(t.Context()).Reach == replication.Reachable, nil })
		if !s.readOnly(t) {
			t.Error("the server opened itself")
		}
	})
}
