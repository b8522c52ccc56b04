package mysql

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/replication"
)

// A server that starts its channels by itself brings back one that was only
// stopped, and not one that was reset.
func TestResetReplicationOutlastsARestart(t *testing.T) {
	t.Parallel()
	source := startServer(t, 1)
	replica := startServer(t, 2, "--skip-slave-start=0", "--read-only")
	replica.mayReset(t)
	d := replica.database(t, patient)
	mustFollow(t, d, source.source(t))
	source.insert(t, 2)
	if _, err := d.CatchUp(timeout(t, patience), source.position(t)); err != nil {
		t.Fatal(err)
	}
	restart := func() replication.Facts {
		replica.kill(t)
		replica.run(t)
		return d.Measure(context.Background())
	}
	if err := d.StopReplication(timeout(t, patience)); err != nil {
		t.Fatal(err)
	}
	if c := onlyChannel(t, restart()); c.SQL == replication.ThreadStopped {
		t.Fatalf("the server does not start its channels: the test proves nothing: %+v", c)
	}

	settings, err := d.ResetReplication(timeout(t, patience))
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`host=127.0.0.1 port=%d user="repl" gtid=yes tls=no`, source.port)
	if diff := cmp.Diff(want, settings); diff != "" {
		t.Error(diff)
	}
	f := restart()
	if channels, ok := f.Channels.Get(); !ok || len(channels) > 0 {
		t.Errorf("channels after a reset and a restart: %v", f.Channels)
	}
	for range 2 {
		if has, err := d.HasChannels(timeout(t, patience)); err != nil || has {
			t.Errorf("has channels %v, %v", has, err)
		}
		if settings, err = d.ResetReplication(timeout(t, patience)); err != nil || settings != "" {
			t.Errorf("without a channel: %q, %v", settings, err)
		}
	}
	source.insert(t, 1)
	mustFollow(t, d, source.source(t)) // the position outlasts it too
	if _, err := d.CatchUp(timeout(t, patience), source.position(t)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(source.rows(t), replica.rows(t)); diff != "" {
		t.Error(diff)
	}
}

func TestResetReplicationOfNamedChannels(t *testing.T) {
	t.Parallel()
	replica := startServer(t, 3)
	replica.mayReset(t)
	d := replica.database(t, patient)
	for i, name := range []string{"left", `it's \ odd`} {
		replica.exec(t, fmt.Sprintf("CHANGE MASTER %s TO MASTER_HOST='127.0.0.1', MASTER_PORT=%d, MASTER_USER='repl', "+
			"MASTER_PASSWORD='hidden', MASTER_USE_GTID=slave_pos", quote(name), i+1))
	}
	source := startServer(t, 1)
	replica.exec(t, "SET GLOBAL read_only = 1")
	if err := d.Follow(timeout(t, patience), source.source(t)); err == nil || !strings.Contains(err.Error(), "2 channels") {
		t.Errorf("follows with two channels: %v", err)
	}
	settings, err := d.ResetReplication(timeout(t, patience))
	if err != nil {
		t.Fatal(err)
	}
	want := `channel="it's \\ odd" host=127.0.0.1 port=2 user="repl" gtid=yes tls=no; ` +
		`channel="left" host=127.0.0.1 port=1 user="repl" gtid=yes tls=no`
	if diff := cmp.Diff(want, settings); diff != "" {
		t.Error(diff)
	}
	if has, err := d.HasChannels(timeout(t, patience)); err != nil || has {
		t.Errorf("has channels %v, %v", has, err)
	}
}

func TestResetReplicationNeedsItsPrivilege(t *testing.T) {
	t.Parallel()
	_, replica := startPair(t)
	d := replica.database(t, patient)
	missing, err := d.ResetGrants(timeout(t, patience))
	if err != nil || len(missing) != 1 || missing[0].Privilege != "RELOAD" {
		t.Fatalf("missing %v, %v", missing, err)
	}
	if _, err := d.ResetReplication(timeout(t, patience)); err == nil || !strings.Contains(err.Error(), missing[0].Fix) {
		t.Errorf("error %v", err)
	}
	if runs, err := d.ReplicationRuns(timeout(t, patience)); err != nil || !runs {
		t.Errorf("runs %v after a refusal, %v", runs, err)
	}
	// A session keeps the privileges that it began with: the next action has one of
	// its own.
	replica.mayReset(t)
	eventually(t, "a reset", func() (bool, error) {
		_, err := d.ResetReplication(timeout(t, patience))
		if err != nil && serverErrorNumber(err) == errSpecificAccessDenied {
			return false, nil
		}
		return true, err
	})
}
