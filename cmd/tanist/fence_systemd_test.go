package main

// A hung server of a real service manager. Built with `go test -c` the test can be
// carried to a host that runs mariadb.service, and run there as root.

import (
	"context"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/replication"
	"github.com/tanist-ha/tanist/systemd"
)

func TestFenceUnderSystemd(t *testing.T) {
	if os.Getenv("TANIST_TEST_SYSTEMD") != "1" {
		t.Skip("needs a systemd with a mariadb.service that may be killed: set TANIST_TEST_SYSTEMD=1 there")
	}
	const service = "mariadb.service"
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	units := systemd.NewUnits(systemd.UnitsConfig{})
	defer units.Close()
	mainPID := func() int {
		st, err := units.Status(ctx, service)
		if err != nil {
			t.Fatal(err)
		}
		return st.MainPID
	}
	for _, named := range []string{"", service} {
		t.Run("unit "+named, func(t *testing.T) {
			file := testFile(t, "    databases: [{name: pivot, user: root, address: unix:/run/mysqld/mysqld.sock}]")
			file.Instances[0].Databases[0].Unit = named
			ds, err := openDatabases(opener{file: file, in: file.Instances[0], units: services{units}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer ds.close()
			ended := make(chan string, 8)
			watching, stop := context.WithCancel(ctx)
			defer stop()
			go ds.Watch(watching, func(name string) { ended <- name })
			eventually(t, "the server to answer", func() bool { return ds.Measure(ctx, false)[0].Reach == replication.Reachable })
			pid, unit, err := ds.list[0].FenceTarget(ctx)
			if err != nil || unit != service || pid != mainPID() {
				t.Fatalf("would kill process %d of %s, want %d: %v", pid, unit, mainPID(), err)
			}
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the server to hang", func() bool { return ds.Measure(ctx, false)[0].Reach == replication.ReachTimedOut })
			began := time.Now()
			if err := ds.Fence(ctx, "pivot"); err != nil {
				t.Fatal(err)
			}
			t.Logf("fenced after %s", time.Since(began))
			st, err := units.Status(ctx, service)
			if err != nil || slices.Contains(st.Processes, pid) {
				t.Fatalf("%s, %v", st, err)
			}
			if name := <-ended; name != "pivot" {
				t.Errorf("%s ended", name)
			}
			eventually(t, "systemd to start it again", func() bool { return ds.Measure(ctx, false)[0].Reach == replication.Reachable })
			t.Logf("answers again after %s", time.Since(began))
			if again := mainPID(); again == pid || again == 0 {
				t.Errorf("main process %d, it was %d", again, pid)
			}
		})
	}
}
