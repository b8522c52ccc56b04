// Package pair tests Tanist on two real hosts: systemd, kernel, MariaDB and
// lsyncd are what a production pair has.
package pair

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/test/lab"
	"github.com/tanist-ha/tanist/test/sidebyside"
	"github.com/tanist-ha/tanist/test/site"
)

// bound is for everything that has to happen at all; nothing here asserts how
// fast a shared machine is.
const bound = 2 * time.Minute

var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if order := os.Getenv(tracerFor); order != "" {
		return traceAsTold(order)
	}
	if lab.Usable() != nil {
		return m.Run() // every test skips, and says why
	}
	sidebyside.AtMost(2) // pairs of hosts, which boot
	dir, err := os.MkdirTemp("", "tanist-pair-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if binary, err = site.Build(context.Background(), dir); err != nil {
		panic(err)
	}
	return m.Run()
}

// up makes a site whose primary is Active and whose reserve could take over.
func up(t *testing.T, o site.Options, settled bool) *site.Site {
	t.Helper()
	lab.Require(t)
	o.Binary, o.Log, o.Lab.Log = binary, t.Logf, t.Logf
	ctx := within(t)
	s, err := site.Up(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), bound)
		defer cancel()
		if t.Failed() {
			tell(t, ctx, s)
		}
		if err := s.Down(ctx); err != nil {
			t.Error(err)
		}
	})
	if settled {
		if err := s.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if err := s.AwaitSettled(ctx, s.Primary); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// tell shows what an operator would look at first.
func tell(t *testing.T, ctx context.Context, s *site.Site) {
	for _, n := range s.Nodes() {
		if n.On() && !n.Frozen() {
			r, err := s.Tanist(ctx, n, "status")
			t.Logf("status of %s (%v):\n%s%s", n.Hostname, err, r.Stdout, r.Stderr)
		}
		log, err := n.Journal(ctx, "tanist.service")
		lines := strings.Split(strings.TrimSpace(log), "\n")
		t.Logf("journal of %s (%v):\n%s", n.Hostname, err, strings.Join(lines[max(0, len(lines)-60):], "\n"))
	}
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	t.Cleanup(cancel)
	return ctx
}

func look(t *testing.T, s *site.Site, n *lab.Node) site.World {
	t.Helper()
	w, err := s.Look(within(t), n)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func tanist(t *testing.T, s *site.Site, n *lab.Node, args ...string) site.Result {
	t.Helper()
	r, err := s.Tanist(within(t), n, args...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func client(t *testing.T, s *site.Site) *site.Client {
	t.Helper()
	c, err := s.StartClient(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Stop() })
	if err := c.AwaitAck(within(t)); err != nil {
		t.Fatal(err)
	}
	return c
}

// wantRoles holds both hosts against what a finished transition must leave.
func wantRoles(t *testing.T, s *site.Site, active *lab.Node) {
	t.Helper()
	standby := s.Peer(active)
	for _, n := range s.Nodes() {
		got := look(t, s, n)
		if want := site.LabelText(n.Hostname, active.Hostname); got.Label != want {
			t.Errorf("label file of %s: %s", n.Hostname, cmp.Diff(want, got.Label))
		}
	}
	a, b := look(t, s, active), look(t, s, standby)
	if !a.VIP || b.VIP {
		t.Errorf("address on %s: %v, on %s: %v", active.Hostname, a.VIP, standby.Hostname, b.VIP)
	}
	if a.ReadOnly != "0" || b.ReadOnly != "1" {
		t.Errorf("read_only of %s: %s, of %s: %s", active.Hostname, a.ReadOnly, standby.Hostname, b.ReadOnly)
	}
	if a.IO == "Yes" || a.SQL == "Yes" || a.IO == "Connecting" {
		t.Errorf("replica threads of %s: IO %s, SQL %s", active.Hostname, a.IO, a.SQL)
	}
	if a.Lsyncd == 0 || b.Lsyncd != 0 {
		t.Errorf("lsyncd processes on %s: %d, on %s: %d", active.Hostname, a.Lsyncd, standby.Hostname, b.Lsyncd)
	}
	for n, want := range map[*lab.Node]int{active: 0, standby: 1} {
		if r := tanist(t, s, n, "check-master"); r.Code != want {
			t.Errorf("check-master on %s: %d %s%s, want %d", n.Hostname, r.Code, r.Stdout, r.Stderr, want)
		}
	}
	conn, err := s.Switch.DialContext(within(t), "tcp", site.VIP+":22")
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	neighbour, err := s.Switch.Exec(within(t), "ip", "neigh", "show", site.VIP)
	if err != nil || !strings.Contains(neighbour, active.MAC(lab.Eth0).String()) {
		t.Errorf("neighbour cache of the client: %q, %v; want %s", neighbour, err, active.MAC(lab.Eth0))
	}
}

// wantRows checks that no acknowledged row is missing on a host.
func wantRows(t *testing.T, c *site.Client, n *lab.Node) {
	t.Helper()
	found, missing, err := c.Found(within(t), n)
	if err != nil {
		t.Fatal(err)
	}
	if len(missing) > 0 {
		t.Errorf("%d acknowledged rows are missing on %s, the first is %d; %d are there", len(missing), n.Hostname, missing[0], found)
	}
}

func switchover(t *testing.T, s *site.Site, on *lab.Node, active *lab.Node) {
	t.Helper()
	if r := tanist(t, s, on, "switchover"); r.Code != 0 {
		t.Fatalf("switchover asked on %s: exit status %d\n%s%s", on.Hostname, r.Code, r.Stdout, r.Stderr)
	}
	if err := s.AwaitSettled(within(t), active); err != nil {
		t.Fatal(err)
	}
}

func TestPlannedSwitchover(t *testing.T) {
	t.Parallel()
	s := up(t, site.Options{}, true)
	wantRoles(t, s, s.Primary)
	c := client(t, s)
	sampler := s.StartSampler(t.Context())
	active := s.Primary
	for _, shape := range []lab.Lsyncd{lab.LsyncdNative, lab.LsyncdPlain, lab.LsyncdLSB} {
		for _, asked := range []string{"asked on the active host", "asked on the standby"} {
			t.Run(string(shape)+"/"+asked, func(t *testing.T) {
				on := active
				if asked == "asked on the standby" {
					on = s.Peer(active)
				}
				if err := s.Reshape(within(t), shape); err != nil {
					t.Fatal(err)
				}
				c.ResetGap()
				switchover(t, s, on, s.Peer(active))
				active = s.Peer(active)
				if err := c.AwaitAck(within(t)); err != nil {
					t.Fatal(err)
				}
				t.Logf("longest gap between two acknowledged rows: %s", c.ResetGap())
				wantRoles(t, s, active)
			})
		}
	}
	holders := sampler.Stop()
	t.Logf("holders: %s", holders)
	if holders.None > 0 {
		t.Errorf("nobody had the address for %s", holders.None)
	}
	report := c.Stop()
	t.Logf("client: %+v", report)
	if err := s.CatchUp(within(t), active, s.Peer(active)); err != nil {
		t.Error(err)
	}
	wantRows(t, c, active)
	wantRows(t, c, s.Peer(active))
	if n, err := c.UploadsOn(within(t), active); err != nil || report.Uploads == 0 {
		t.Errorf("%d of %d uploads on %s: %v", n, report.Uploads, active.Hostname, err)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	s := up(t, site.Options{}, true)
	c := client(t, s)
	for _, tc := range []struct {
		name string
		lag  func(context.Context) (undo func(), err error)
		code string
		says string
	}{
		{"SQL thread stopped", s.StopSQLThread(s.Reserve), "sql_stopped", "pivot does not apply what it fetched"},
		{"lagging", s.HoldSQLThread(s.Reserve), "lagging", "pivot lags"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			undo, err := tc.lag(within(t))
			if err != nil {
				t.Fatal(err)
			}
			defer undo()
			err = site.Await(within(t), "the gate sees it", func(ctx context.Context) error {
				return s.GateSays(ctx, s.Reserve, tc.code)
			})
			if err != nil {
				t.Fatal(err)
			}
			before := map[string]site.World{}
			for _, n := range s.Nodes() {
				before[n.Hostname] = look(t, s, n)
			}
			for _, n := range s.Nodes() {
				r := tanist(t, s, n, "switchover")
				if r.Code != 3 || !strings.Contains(r.Stdout, tc.says) {
					t.Errorf("switchover asked on %s: exit status %d, want 3 and %q\n%s%s", n.Hostname, r.Code, tc.says, r.Stdout, r.Stderr)
				}
			}
			for _, n := range s.Nodes() {
				if diff := cmp.Diff(before[n.Hostname], look(t, s, n)); diff != "" {
					t.Errorf("a refused switchover changed %s: %s", n.Hostname, diff)
				}
			}
			if err := c.AwaitAck(within(t)); err != nil {
				t.Error(err)
			}
		})
		if err := s.AwaitSettled(within(t), s.Primary); err != nil {
			t.Fatal(err)
		}
	}
	if r := tanist(t, s, s.Primary, "switchover", "--dry-run"); r.Code != 0 {
		t.Errorf("dry run with an open gate: %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	wantRoles(t, s, s.Primary)
}

func TestPowerCut(t *testing.T) {
	s := up(t, site.Options{}, true)
	// What the replica has not fetched when the power goes, the gate refuses to do
	// without: that is another test's matter.
	before := client(t, s)
	before.Stop()
	if err := s.AwaitEqual(within(t), s.Primary); err != nil {
		t.Fatal(err)
	}
	sampler := s.StartSampler(t.Context())
	if err := s.Primary.PowerOff(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := s.AwaitState(within(t), s.Reserve, "active"); err != nil {
		t.Fatal(err)
	}
	c := client(t, s)
	got := look(t, s, s.Reserve)
	if !got.VIP || got.ReadOnly != "0" || got.SQL == "Yes" || got.Lsyncd == 0 ||
		got.Label != site.LabelText(s.Reserve.Hostname, s.Reserve.Hostname) {
		t.Errorf("the new active host: %+v", got)
	}
	if err := s.Primary.PowerOn(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := s.AwaitState(within(t), s.Primary, "backup"); err != nil {
		t.Fatal(err)
	}
	err := site.Await(within(t), "the returned host names the active one", func(ctx context.Context) error {
		return s.StandbySettled(ctx, s.Primary, s.Reserve)
	})
	if err != nil {
		t.Fatal(err)
	}
	wantRoles(t, s, s.Reserve)
	holders := sampler.Stop()
	t.Logf("holders: %s", holders)
	if holders.Both > 0 {
		t.Errorf("both hosts had the address for %s", holders.Both)
	}
	c.Stop()
	for _, c := range []*site.Client{before, c} {
		found, missing, err := c.Found(within(t), s.Reserve)
		t.Logf("client: %+v; found %d", c.Report(), found)
		if len(missing) > 0 || err != nil {
			t.Errorf("missing: %v, %v", missing, err)
		}
	}
}

// unrestarted makes a unit whose death nobody mends.
const unrestarted = "[Service]\nRestart=no\nWatchdogSec=0\n"

func TestDaemonGone(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		end  func(t *testing.T, s *site.Site) (undo func(t *testing.T))
	}{
		{"killed", func(t *testing.T, s *site.Site) func(*testing.T) {
			signal(t, s, s.Primary, sigKILL)
			return func(t *testing.T) {
				if _, err := s.Primary.Exec(within(t), "systemctl", "start", "tanist.service"); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{"stopped", func(t *testing.T, s *site.Site) func(*testing.T) {
			signal(t, s, s.Primary, sigSTOP)
			return func(t *testing.T) { signal(t, s, s.Primary, sigCONT) }
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := up(t, site.Options{}, false)
			if err := s.Primary.WriteFile("/etc/systemd/system/tanist.service.d/test.conf", []byte(unrestarted), 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Primary.Exec(within(t), "systemctl", "daemon-reload"); err != nil {
				t.Fatal(err)
			}
			if err := s.Start(within(t)); err != nil {
				t.Fatal(err)
			}
			if err := s.AwaitSettled(within(t), s.Primary); err != nil {
				t.Fatal(err)
			}
			sampler := s.StartSampler(t.Context())
			start := time.Now()
			undo := tc.end(t, s)
			err := site.Await(within(t), "the kernel removes the address", func(context.Context) error {
				return gone(s, s.Primary)
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("the address was gone after %s (lease %s)", time.Since(start), site.Lease)
			if err := s.AwaitState(within(t), s.Reserve, "active"); err != nil {
				t.Fatal(err)
			}
			t.Logf("the other host was active after %s", time.Since(start))
			undo(t)
			if err := s.AwaitState(within(t), s.Primary, "backup"); err != nil {
				t.Fatal(err)
			}
			if err := s.AwaitState(within(t), s.Reserve, "active"); err != nil {
				t.Fatal(err)
			}
			holders := sampler.Stop()
			t.Logf("holders: %s", holders)
			if holders.Both > 0 {
				t.Errorf("both hosts had the address for %s", holders.Both)
			}
		})
	}
}

// TestKilledAndBack: under its unit a killed daemon finds its address and goes on.
func TestKilledAndBack(t *testing.T) {
	s := up(t, site.Options{}, true)
	c := client(t, s)
	before, err := s.Status(within(t), s.Primary)
	if err != nil {
		t.Fatal(err)
	}
	sampler := s.StartSampler(t.Context())
	failures := c.Report().Failures
	c.ResetGap()
	for range 3 {
		old, err := s.Primary.MainPID(within(t), "tanist.service")
		if err != nil {
			t.Fatal(err)
		}
		signal(t, s, s.Primary, sigKILL)
		err = site.Await(within(t), "the daemon is back and active", func(ctx context.Context) error { return s.BackAndActive(ctx, s.Primary, old) })
		if err != nil {
			t.Fatal(err)
		}
		if err := c.AwaitAck(within(t)); err != nil {
			t.Fatal(err)
		}
	}
	holders := sampler.Stop()
	t.Logf("holders: %s; longest gap between two acknowledged rows: %s", holders, c.ResetGap())
	if holders.None > 0 || len(holders.Moves) != 1 {
		t.Errorf("the address moved: %s", holders)
	}
	if got := c.Report().Failures - failures; got != 0 {
		t.Errorf("the client saw %d failures", got)
	}
	after, err := s.Status(within(t), s.Primary)
	if err != nil {
		t.Fatal(err)
	}
	if before.Instances[0].Epoch != after.Instances[0].Epoch {
		t.Errorf("epoch %d became %d", before.Instances[0].Epoch, after.Instances[0].Epoch)
	}
	wantRoles(t, s, s.Primary)
}
