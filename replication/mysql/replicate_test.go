package mysql

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/replication"
)

// receivedNotApplied makes a replica whose source is dead and which has five
// transactions received and not applied. It returns what was received.
func receivedNotApplied(t *testing.T) (replica *server, d *Database, received replication.Position) {
	t.Helper()
	source, replica := startPair(t)
	d = replica.database(t, patient)
	source.insert(t, 1)
	if _, err := d.CatchUp(timeout(t, patience), source.position(t)); err != nil {
		t.Fatal(err)
	}
	replica.exec(t, "STOP SLAVE SQL_THREAD")
	source.insert(t, 5)
	received = source.position(t)
	channelBecomes(t, d, func(c replication.Channel) bool { return c.Received.Equal(replication.Known(received)) })
	source.kill(t)
	f := channelBecomes(t, d, func(c replication.Channel) bool { return c.IO == replication.ThreadConnecting })
	wantCodes(t, verdict(f, replication.SourceLost, received, received),
		replication.SQLStopped, replication.Undrained, replication.BehindSource)
	return replica, d, received
}

func TestStopReplicationAppliesWhatWasReceived(t *testing.T) {
	onEach(t, testStopReplicationAppliesWhatWasReceived)
}

func testStopReplicationAppliesWhatWasReceived(t *testing.T) {
	replica, d, received := receivedNotApplied(t)
	if stopped, err := d.ReplicationStopped(timeout(t, patience)); err != nil || stopped {
		t.Errorf("stopped %v before, %v", stopped, err)
	}
	for range 2 { // the second time there is nothing to do
		if err := d.StopReplication(timeout(t, patience)); err != nil {
			t.Fatal(err)
		}
	}
	if stopped, err := d.ReplicationStopped(timeout(t, patience)); err != nil || !stopped {
		t.Errorf("stopped %v, %v", stopped, err)
	}
	if got := replica.value(t, "SELECT COUNT(*) FROM app.t"); got != "6" {
		t.Errorf("%s rows, want all 6", got)
	}
	f := d.Measure(context.Background())
	if !f.Applied.Equal(replication.Known(received)) {
		t.Errorf("applied %s, received %s", f.Applied, received)
	}
	c := onlyChannel(t, f)
	if c.SourceHost != "127.0.0.1" {
		t.Errorf("settings are gone: %+v", c)
	}
	if v := verdict(f, replication.Resume, received, received); !v.Open {
		t.Errorf("cannot resume: %v", v.Reasons)
	}
}

// The wrong order, which is what STOP SLAVE and START SLAVE SQL_THREAD are, loses
// all five and then looks caught up. So StopReplication refuses to start such a
// channel, and only the received position remembered tells that they are gone.
func TestWrongOrderLosesWhatWasReceived(t *testing.T) { onEach(t, testWrongOrderLosesWhatWasReceived) }

func testWrongOrderLosesWhatWasReceived(t *testing.T) {
	replica, d, received := receivedNotApplied(t)
	replica.exec(t, "STOP SLAVE")
	err := d.StopReplication(timeout(t, patience))
	unapplied, ok := errors.AsType[*UnappliedError](err)
	if !ok || unapplied.Missing != 5 {
		t.Errorf("both threads stopped: %v", err)
	}
	_, err = d.CatchUp(timeout(t, patience), replication.Position{})
	if _, ok := errors.AsType[*SQLThreadError](err); !ok {
		t.Errorf("catching up with both threads stopped: %v", err)
	}

	replica.exec(t, "START SLAVE SQL_THREAD")
	f := channelBecomes(t, d, func(c replication.Channel) bool {
		p, _ := c.Received.Get()
		return c.SQL == replication.ThreadRunning && !p.Covers(received)
	})
	if got := replica.value(t, "SELECT COUNT(*) FROM app.t"); got != "1" {
		t.Errorf("%s rows: the wrong order lost nothing", got)
	}
	// With nothing remembered, and nothing heard, it looks drained.
	h := replication.Database{Name: "db2", Facts: f}
	drained := replication.Policy{AfterLoss: replication.Drained}
	question := replication.Question{Cause: replication.SourceLost, Health: replication.HealthGood, Databases: []replication.Database{h}}
	if v := replication.Gate(f.MeasuredAt, drained, question); !v.Open {
		t.Errorf("the server no longer pretends to be drained: %v", v.Reasons)
	}
	question.Databases[0].MaxReceived = received
	v := replication.Gate(f.MeasuredAt, drained, question)
	wantCodes(t, v, replication.BehindSource)
	const detail = "5 transactions up to 0-1-6 once received here are gone: the relay log was dropped before they were applied"
	if len(v.Reasons) == 1 {
		if diff := cmp.Diff(detail, v.Reasons[0].Detail); diff != "" {
			t.Error(diff)
		}
	}
}

func TestCatchUp(t *testing.T) { onEach(t, testCatchUp) }

func testCatchUp(t *testing.T) {
	source, replica := startPair(t)
	d := replica.database(t, patient)
	source.insert(t, 3)
	at := source.position(t)

	t.Run("exact", func(t *testing.T) {
		got, err := d.CatchUp(timeout(t, patience), at)
		if err != nil || !got.Equal(at) {
			t.Fatalf("%s, %v, want %s", got, err, at)
		}
	})
	t.Run("all that is received", func(t *testing.T) {
		got, err := d.CatchUp(timeout(t, patience), replication.Position{})
		if err != nil || !got.Equal(at) {
			t.Fatalf("%s, %v, want %s", got, err, at)
		}
	})
	t.Run("what is yet to be written", func(t *testing.T) {
		next := mustPosition(t, "0-1-4")
		done := make(chan error, 1)
		go func() {
			_, err := d.CatchUp(timeout(t, patience), next)
			done <- err
		}()
		select {
		case err := <-done:
			t.Fatalf("reached what nobody wrote: %v", err)
		case <-time.After(400 * time.Millisecond):
		}
		source.insert(t, 1)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Run("until its deadline", func(t *testing.T) {
		_, err := d.CatchUp(timeout(t, 600*time.Millisecond), mustPosition(t, "0-1-99"))
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("beyond what is received, IO thread stopped", func(t *testing.T) {
		replica.exec(t, "STOP SLAVE IO_THREAD")
		source.insert(t, 2)
		_, err := d.CatchUp(timeout(t, patience), source.position(t))
		wantNotReceived(t, err, 2)
		replica.exec(t, "START SLAVE IO_THREAD")
		if _, err := d.CatchUp(timeout(t, patience), source.position(t)); err != nil {
			t.Error(err)
		}
	})
	t.Run("beyond what is received, source dead", func(t *testing.T) {
		source.kill(t)
		_, err := d.CatchUp(timeout(t, patience), mustPosition(t, "0-1-7"))
		wantNotReceived(t, err, 1)
	})
	t.Run("no channel", func(t *testing.T) {
		if err := d.StopReplication(timeout(t, patience)); err != nil {
			t.Fatal(err)
		}
		replica.exec(t, "RESET SLAVE ALL")
		_, err := d.CatchUp(timeout(t, patience), mustPosition(t, "0-1-7"))
		wantNotReceived(t, err, 1)
		if err := d.StopReplication(timeout(t, patience)); err != nil {
			t.Error(err)
		}
		if stopped, err := d.ReplicationStopped(timeout(t, patience)); err != nil || !stopped {
			t.Errorf("stopped %v, %v", stopped, err)
		}
		wantCodes(t, verdict(d.Measure(context.Background()), replication.SourceLost, mustPosition(t, "0-1-6"), replication.Position{}),
			replication.NotReplica)
	})
}

func wantNotReceived(t *testing.T, err error, missing uint64) {
	t.Helper()
	beyond, ok := errors.AsType[*NotReceivedError](err)
	if !ok || beyond.Missing != missing {
		t.Errorf("error %v, want %d not received", err, missing)
	}
}

// Two sources over named channels: SHOW SLAVE STATUS would show neither.
func TestNamedChannels(t *testing.T) { onEach(t, testNamedChannels) }

func testNamedChannels(t *testing.T) {
	replica := startServer(t, 3)
	d := replica.database(t, patient)
	for i, name := range []string{"left", `it's \ odd`} {
		replica.exec(t, fmt.Sprintf("CHANGE MASTER %s TO MASTER_HOST='127.0.0.1', MASTER_PORT=%d, MASTER_USER='repl', "+
			"MASTER_PASSWORD='repl', MASTER_USE_GTID=slave_pos", quote(name), i+1))
		replica.exec(t, "START SLAVE "+quote(name))
	}
	f := d.Measure(context.Background())
	channels, _ := f.Channels.Get()
	if len(channels) != 2 || f.Role() != replication.RoleReplica {
		t.Fatalf("%d channels, a %s", len(channels), f.Role())
	}
	if err := d.StopReplication(timeout(t, patience)); err != nil {
		t.Fatal(err)
	}
	if stopped, err := d.ReplicationStopped(timeout(t, patience)); err != nil || !stopped {
		t.Errorf("stopped %v, %v", stopped, err)
	}
}
