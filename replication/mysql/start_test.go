package mysql

import (
	"errors"
	"testing"

	"github.com/tanist-ha/tanist/replication"
)

func TestStartReplicationGoesOnWhereItStopped(t *testing.T) {
	onEach(t, testStartReplicationGoesOnWhereItStopped)
}

func testStartReplicationGoesOnWhereItStopped(t *testing.T) {
	source, replica := startPair(t)
	d := replica.database(t, patient)
	source.insert(t, 2)
	if _, err := d.CatchUp(timeout(t, patience), source.position(t)); err != nil {
		t.Fatal(err)
	}
	if err := d.StopReplication(timeout(t, patience)); err != nil {
		t.Fatal(err)
	}
	if runs, err := d.ReplicationRuns(timeout(t, patience)); err != nil || runs {
		t.Errorf("runs %v after stopping, %v", runs, err)
	}
	source.insert(t, 3)
	for range 2 { // the second time there is nothing to do
		if err := d.StartReplication(timeout(t, patience)); err != nil {
			t.Fatal(err)
		}
		if runs, err := d.ReplicationRuns(timeout(t, patience)); err != nil || !runs {
			t.Errorf("runs %v after starting, %v", runs, err)
		}
	}
	if _, err := d.CatchUp(timeout(t, patience), source.position(t)); err != nil {
		t.Fatal(err)
	}
	if got := replica.value(t, "SELECT COUNT(*) FROM app.t"); got != "5" {
		t.Errorf("%s rows, want 5", got)
	}
}

func TestStartReplicationKeepsAnUnappliedRelayLog(t *testing.T) {
	onEach(t, testStartReplicationKeepsAnUnappliedRelayLog)
}

func testStartReplicationKeepsAnUnappliedRelayLog(t *testing.T) {
	replica, d, received := receivedNotApplied(t)
	replica.exec(t, "STOP SLAVE")
	unapplied, ok := errors.AsType[*UnappliedError](d.StartReplication(timeout(t, patience)))
	if !ok || unapplied.Missing != 5 {
		t.Fatalf("want a refusal over 5 transactions, got %v", unapplied)
	}
	if f := d.Measure(timeout(t, patience)); !onlyChannel(t, f).Received.Equal(replication.Known(received)) {
		t.Error("the received position is gone")
	}
}

func TestReplicationRunsWithoutChannels(t *testing.T) { onEach(t, testReplicationRunsWithoutChannels) }

func testReplicationRunsWithoutChannels(t *testing.T) {
	d := startServer(t, 1).database(t, patient)
	if runs, err := d.ReplicationRuns(timeout(t, patience)); err != nil || !runs {
		t.Errorf("runs %v, %v", runs, err)
	}
	if err := d.StartReplication(timeout(t, patience)); err != nil {
		t.Error(err)
	}
}
