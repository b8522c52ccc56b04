package pair

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/test/lab"
	"github.com/tanist-ha/tanist/test/site"
)

// restartSoon lets a database that died come back earlier than Debian's unit does.
const restartSoon = "[Service]\nRestartSec=1s\n"

// databases is a settled site with two databases on each host.
func databases(t *testing.T) *site.Site {
	s := up(t, site.Options{Databases: 2}, true)
	for _, n := range s.Nodes() {
		if err := n.WriteFile("/etc/systemd/system/mariadb@.service.d/test.conf", []byte(restartSoon), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Exec(within(t), "systemctl", "daemon-reload"); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// TestDatabaseGone: the active host's server dies or hangs, and all databases go
// on at the other host, under an address that somebody always has.
func TestDatabaseGone(t *testing.T) {
	t.Parallel()
	s := databases(t)
	active, victim := s.Primary, s.Databases[0]
	for i, tc := range []struct {
		name string
		sig  syscall.Signal
	}{
		{"killed", sigKILL},
		{"stopped", sigSTOP},
	} {
		t.Run(tc.name, func(t *testing.T) {
			standby := s.Peer(active)
			w := writers(t, s, active, int64(i))
			pid, err := active.MainPID(within(t), victim.Unit())
			if err != nil {
				t.Fatal(err)
			}
			ended := ends(t, active, pid)
			sampler := s.StartSampler(t.Context())
			begun := time.Now()
			kill(t, active, pid, tc.sig)
			if err := w.AwaitFrom(within(t), s.ServerID(standby), begun); err != nil {
				t.Fatal(err)
			}
			if !ended() {
				t.Errorf("process %d lives while the other host takes rows", pid)
			}
			if err := s.AwaitState(within(t), standby, "active"); err != nil {
				t.Fatal(err)
			}
			if err := s.AwaitState(within(t), active, "backup", "conflict"); err != nil {
				t.Fatal(err)
			}
			holders := sampler.Stop()
			t.Logf("holders: %s; gaps %v", holders, w.Gaps(s.ServerID(active), begun))
			if holders.None > 0 {
				t.Errorf("nobody had the address for %s", holders.None)
			}
			w.Stop()
			if n := w.Tally().Refused; n > 0 {
				t.Logf("%d rows were refused on the way", n)
			}
			wayBack(t, s, w, active, tc.name == "stopped")
			active = standby
		})
	}
}

func kill(t *testing.T, n *lab.Node, pid int, sig syscall.Signal) {
	t.Helper()
	if err := n.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
}

// ends watches a process of a host, and tells whether it has ended.
func ends(t *testing.T, n *lab.Node, pid int) func() bool {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	held, over := make(chan struct{}), make(chan error, 1)
	go func() {
		once := sync.OnceFunc(func() { close(held) })
		defer once()
		over <- n.AwaitEnd(ctx, pid, once)
	}()
	t.Cleanup(cancel)
	<-held
	return func() bool {
		select {
		case err := <-over:
			over <- err
			return err == nil
		default:
			return false
		}
	}
}

func writers(t *testing.T, s *site.Site, active *lab.Node, series int64) *site.Writers {
	t.Helper()
	begun := time.Now()
	w, err := s.StartWriters(context.WithoutCancel(t.Context()), site.Load{Rate: 100, Patience: time.Second}, (series+1)<<40)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	if err := w.AwaitFrom(within(t), s.ServerID(active), begun); err != nil {
		t.Fatal(err)
	}
	return w
}

// wayBack: what the returned host's databases are is told, they become replicas,
// and no row of a database whose server lived is missing.
func wayBack(t *testing.T, s *site.Site, w *site.Writers, returned *lab.Node, discard bool) {
	t.Helper()
	active := s.Peer(returned)
	rows, err := s.Rows(within(t), w, active)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows[1:] {
		if len(r.Missing) > 0 {
			t.Errorf("%d rows of %s are missing, whose server lived", len(r.Missing), r.Database.Name())
		}
	}
	back, err := s.Rejoin(within(t), returned, discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the way back: %s; %d acknowledged rows of the dead server lost", back, len(rows[0].Missing))
	if len(rows[0].Missing) > 0 && back.Discarded+back.Reseeded == 0 {
		t.Error("rows are lost, and no database was refused")
	}
	if err := s.Truncate(within(t), active); err != nil {
		t.Fatal(err)
	}
	if err := s.AwaitSettled(within(t), active); err != nil {
		t.Fatal(err)
	}
	if err := s.AwaitEqual(within(t), active); err != nil {
		t.Fatal(err)
	}
	differ, err := s.Unequal(within(t))
	if err != nil || len(differ) > 0 {
		t.Errorf("%v, %v", differ, err)
	}
	replicates(t, s)
}

// replicates waits until both hosts say that all is well with their databases.
func replicates(t *testing.T, s *site.Site) {
	t.Helper()
	for _, n := range s.Nodes() {
		err := site.Await(within(t), "all is well with the databases of "+n.Hostname, func(ctx context.Context) error {
			r, err := s.Tanist(ctx, n, "replication", "status")
			if err == nil && r.Code != 0 {
				err = fmt.Errorf("exit status %d: %s", r.Code, r.Stderr)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// settingsFile is of the databases of a host.
const settingsFile = "/etc/mysql/databases.cnf"

// reconfigure changes the databases' settings on a host and restarts one.
func reconfigure(t *testing.T, n *lab.Node, d site.Database, old, now string) {
	t.Helper()
	data, err := n.ReadFile(settingsFile)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), old) {
		t.Fatalf("no %q in %s", old, data)
	}
	if err := n.WriteFile(settingsFile, []byte(strings.ReplaceAll(string(data), old, now)), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Exec(within(t), "systemctl", "restart", d.Unit()); err != nil {
		t.Fatal(err)
	}
}

// is waits for a value of a database.
func is(t *testing.T, n *lab.Node, d site.Database, expression, want string) {
	t.Helper()
	err := site.Await(within(t), expression+" is "+want, func(ctx context.Context) error {
		rows, err := d.SQL(ctx, n, "SELECT "+expression)
		if err == nil && rows[0][0] != want {
			err = errors.New(rows[0][0])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestDatabaseRestarted: a server comes back as its configuration has it, which is
// not what its host's role wants.
func TestDatabaseRestarted(t *testing.T) {
	t.Parallel()
	s := databases(t)
	d := s.Databases[0]
	// The active host has been a standby, and replicated.
	switchover(t, s, s.Primary, s.Reserve)
	active, standby := s.Reserve, s.Primary
	t.Run("open on a standby", func(t *testing.T) {
		reconfigure(t, standby, d, "read_only=1", "read_only=0")
		is(t, standby, d, "@@GLOBAL.read_only", "1")
		log, err := standby.Journal(within(t), "tanist.service")
		if err != nil {
			t.Fatal(err)
		}
		closed := func(line string) bool {
			return strings.Contains(line, " reason=drifted kind=demote ") && strings.Contains(line, ` result=completed `) && strings.Contains(line, `steps="writes close: changed`)
		}
		if !slices.ContainsFunc(strings.Split(log, "\n"), closed) {
			t.Errorf("the log says nothing of it:\n%s", log)
		}
		// Its channel is there and stands still.
		r := tanist(t, s, standby, "replication", "rejoin", d.Name())
		if r.Code != 0 {
			t.Errorf("rejoin: %d\n%s%s", r.Code, r.Stdout, r.Stderr)
		}
		replicates(t, s)
	})
	t.Run("with its channels on the active host", func(t *testing.T) {
		// A standby that may take over would.
		if _, err := standby.Exec(within(t), "systemctl", "stop", "tanist.service"); err != nil {
			t.Fatal(err)
		}
		reconfigure(t, active, d, "skip_slave_start=1", "skip_slave_start=0")
		is(t, active, d, "@@GLOBAL.read_only", "0")
		rows, err := d.SQL(within(t), active, "SHOW ALL SLAVES STATUS")
		if err != nil || len(rows) != 0 {
			t.Errorf("channels of the active host: %v, %v", rows, err)
		}
		w := writers(t, s, active, 1)
		w.Stop()
		found, err := s.Rows(within(t), w, active)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range found {
			if len(r.Missing) > 0 || r.Found == 0 {
				t.Errorf("%s: %+v", r.Database.Name(), r)
			}
		}
	})
}
