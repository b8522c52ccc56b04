package pair

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/test/lab"
	"github.com/tanist-ha/tanist/test/probe"
	"github.com/tanist-ha/tanist/test/site"
)

const (
	// activeRestarts are those of the Active's daemon, every second one by kill -9;
	// standbyRestarts those of the other one's.
	activeRestarts  = 20
	standbyRestarts = 4
	// upgradeTime is for how long the Active has no daemon while its package is
	// replaced: longer than its configured lease by far.
	upgradeTime = 6 * time.Second
)

// TestMaintenance: restarts and upgrades of the daemons under maintenance move
// nothing, and no client notices. After it failover works again.
func TestMaintenance(t *testing.T) {
	s := up(t, site.Options{}, true)
	c := client(t, s)
	wantRoles(t, s, s.Primary)
	if r := tanist(t, s, s.Reserve, "maintenance", "on", "--reason", "upgrade", "--for", "1h"); r.Code != 0 || !strings.Contains(r.Stdout, "on both nodes") {
		t.Fatalf("maintenance on: %+v", r)
	}
	err := site.Await(within(t), "the long lease", func(ctx context.Context) error { return longLease(ctx, s, s.Primary) })
	if err != nil {
		t.Fatal(err)
	}
	clock := probe.NewClock()
	probes, err := probe.Start(probe.Config{
		Clock: clock, Client: s.Switch.Do, From: s.Switch.Addr(lab.Eth0), Hosts: [2]probe.Place{s.Primary.Do, s.Reserve.Do},
		Address: netip.MustParseAddr(site.VIP), Limit: 5 * time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	sampler, from, failures := s.StartSampler(t.Context()), clock.Now(), c.Report().Failures
	before := map[string]site.World{}
	for _, n := range s.Nodes() {
		before[n.Hostname] = look(t, s, n)
	}
	began := time.Now()
	for i := range activeRestarts {
		restart(t, s, s.Primary, i%2 == 1)
	}
	for i := range standbyRestarts {
		restart(t, s, s.Reserve, i%2 == 1)
	}
	t.Logf("%d restarts in %s", activeRestarts+standbyRestarts, time.Since(began).Round(time.Millisecond))
	for _, n := range s.Nodes() {
		upgrade(t, s, n)
	}
	to := clock.Now()
	time.Sleep(probe.SettleTime) // the answers to the last probes
	if err := probes.Finish(); err != nil {
		t.Fatal(err)
	}
	seen, report, holders := probes.Seen(from, to), c.Report(), sampler.Stop()
	t.Logf("client: %d probes, %d lost, no answer for %s at the longest; writer: %+v; holders: %s", seen.Probes, seen.Lost, seen.Outage, report, holders)
	if seen.Lost > 0 {
		t.Errorf("%d of %d probes were lost", seen.Lost, seen.Probes)
	}
	if len(holders.Moves) != 1 || holders.Moves[0].Holder != s.Primary.Hostname {
		t.Errorf("the address was not where it was all the time: %s", holders)
	}
	if report.Failures != failures || report.Unknown > 0 {
		t.Errorf("the writer failed %d times, %d rows are unknown", report.Failures-failures, report.Unknown)
	}
	for _, n := range s.Nodes() {
		if diff := cmp.Diff(before[n.Hostname], look(t, s, n)); diff != "" {
			t.Errorf("%s is not as before: %s", n.Hostname, diff)
		}
	}
	wantJournal(t, s)
	if r := tanist(t, s, s.Primary, "switchover"); r.Code != 3 || !strings.Contains(r.Stdout+r.Stderr, "maintenance") {
		t.Errorf("a switchover under maintenance: %+v", r)
	}
	wantStopTimeoutNoted(t, s)
	failsOver(t, s, c)
	wantRows(t, c, s.Reserve)
}

// restart ends a daemon, in order or not, and waits until the next one serves.
func restart(t *testing.T, s *site.Site, n *lab.Node, killed bool) {
	t.Helper()
	pid, err := n.MainPID(within(t), "tanist.service")
	if err != nil {
		t.Fatal(err)
	}
	if killed {
		signal(t, s, n, sigKILL)
	} else if _, err := n.Exec(within(t), "systemctl", "restart", "tanist.service"); err != nil {
		t.Fatal(err)
	}
	err = site.Await(within(t), "the next daemon", func(ctx context.Context) error {
		if now, err := n.MainPID(ctx, "tanist.service"); err != nil || now == pid {
			return errors.Join(err, errors.New("not yet"))
		}
		return underMaintenance(ctx, s, n)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// underMaintenance reports whether a node's daemon serves and knows of the maintenance.
func underMaintenance(ctx context.Context, s *site.Site, n *lab.Node) error {
	doc, err := s.Status(ctx, n)
	switch {
	case err != nil:
		return err
	case doc.Instances[0].Maintenance == nil:
		return errors.New("it knows of no maintenance")
	case !doc.Peer.Reachable:
		return errors.New("it does not hear its peer yet")
	case n == s.Primary:
		return longLease(ctx, s, n)
	}
	return nil
}

// longLease asks the kernel for how long it keeps the address without a daemon.
func longLease(ctx context.Context, s *site.Site, n *lab.Node) error {
	out, err := n.Exec(ctx, "ip", "-j", "address", "show", "dev", "eth0")
	if err != nil {
		return err
	}
	var links []struct {
		Addresses []struct {
			Local string `json:"local"`
			Valid uint32 `json:"valid_life_time"`
		} `json:"addr_info"`
	}
	if err := json.Unmarshal([]byte(out), &links); err != nil {
		return err
	}
	for _, l := range links {
		for _, a := range l.Addresses {
			if a.Local == site.VIP && a.Valid > 60 && a.Valid <= 120 {
				return nil
			}
		}
	}
	return errors.New("the kernel has it for less: " + out)
}

// upgrade does what a package does: stop, another file, start.
func upgrade(t *testing.T, s *site.Site, n *lab.Node) {
	t.Helper()
	next := filepath.Join(t.TempDir(), "tanist")
	content, err := os.ReadFile(binary)
	if err == nil {
		err = os.WriteFile(next, append(content, "the next release"...), 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := n.Exec(within(t), "systemctl", "stop", "tanist.service"); err != nil {
		t.Fatal(err)
	}
	if err := n.Install(next, "/usr/bin/tanist", 0o755); err != nil {
		t.Fatal(err)
	}
	for time.Since(began) < upgradeTime && n == s.Primary { // what dpkg takes
		if held, err := s.HoldsVIP(n); err != nil || !held {
			t.Fatalf("the address is gone after %s: %v", time.Since(began), err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err := s.Start(within(t), n); err != nil {
		t.Fatal(err)
	}
	err = site.Await(within(t), "the upgraded daemon", func(ctx context.Context) error { return underMaintenance(ctx, s, n) })
	if err != nil {
		t.Fatal(err)
	}
}

// wantJournal holds the journals against what happened: each leave is followed by an
// adoption, and no transition began.
func wantJournal(t *testing.T, s *site.Site) {
	t.Helper()
	for _, n := range s.Nodes() {
		r := tanist(t, s, n, "history", "-n", "0", "--json")
		var doc struct {
			Entries []struct {
				Kind, Reason string
			} `json:"entries"`
			Damage []string `json:"damage"`
		}
		if err := json.Unmarshal([]byte(r.Stdout), &doc); err != nil || r.Code != 0 || len(doc.Damage) > 0 {
			t.Fatalf("history of %s: exit status %d, %v, damage %v\n%s", n.Hostname, r.Code, err, doc.Damage, r.Stderr)
		}
		count, on := map[string]int{}, false
		for _, e := range doc.Entries {
			on = on || e.Kind == "maintenance"
			if on {
				count[e.Kind]++
				if e.Kind == "promote" || e.Kind == "demote" && e.Reason != "starting" && e.Reason != "settling" {
					t.Errorf("%s: %s for %s under maintenance", n.Hostname, e.Kind, e.Reason)
				}
			}
		}
		t.Logf("journal of %s under maintenance: %v", n.Hostname, count)
		if count["maintenance"] != 1 || n == s.Primary && (count["left"] != activeRestarts/2+1 || count["adopted"] != activeRestarts+1) {
			t.Errorf("journal of %s: %v, want one maintenance, %d left and %d adopted on the active host",
				n.Hostname, count, activeRestarts/2+1, activeRestarts+1)
		}
	}
}

// wantStopTimeoutNoted: the manager is asked how long it waits for the daemon's end.
func wantStopTimeoutNoted(t *testing.T, s *site.Site) {
	t.Helper()
	for limit, noted := range map[string]bool{"20s": true, "infinity": false, "2h": false} {
		err := s.Reserve.WriteFile("/etc/systemd/system/tanist.service.d/stop.conf", []byte("[Service]\nTimeoutStopSec="+limit+"\n"), 0o644)
		if err == nil {
			_, err = s.Reserve.Exec(within(t), "systemctl", "daemon-reload")
		}
		if err != nil {
			t.Fatal(err)
		}
		r := tanist(t, s, s.Reserve, "check")
		if strings.Contains(r.Stdout, "and tanist.service gives it "+limit) != noted || strings.Contains(r.Stdout, "gives it") != noted {
			t.Errorf("TimeoutStopSec=%s: check says\n%s%s", limit, r.Stdout, r.Stderr)
		}
	}
}

// failsOver switches the maintenance off and lets the Active's host die.
func failsOver(t *testing.T, s *site.Site, c *site.Client) {
	t.Helper()
	if r := tanist(t, s, s.Primary, "maintenance", "off"); r.Code != 0 || !strings.Contains(r.Stdout, "on both nodes") {
		t.Fatalf("maintenance off: %+v", r)
	}
	for _, n := range s.Nodes() {
		doc, err := s.Status(within(t), n)
		if err != nil || doc.Instances[0].Maintenance != nil || slices.ContainsFunc(doc.Instances[0].Gate.Reasons, func(r control.GateReason) bool {
			return r.Code.String() == "maintenance"
		}) {
			t.Errorf("%s after the maintenance: %+v, %v", n.Hostname, doc.Instances, err)
		}
	}
	if err := s.AwaitSettled(within(t), s.Primary); err != nil {
		t.Fatal(err)
	}
	c.Stop() // replication is asynchronous: a power cut takes what the replica has not received
	if err := s.CatchUp(within(t), s.Primary, s.Reserve); err != nil {
		t.Fatal(err)
	}
	if err := s.Primary.PowerOff(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := s.AwaitState(within(t), s.Reserve, "active"); err != nil {
		t.Fatal(err)
	}
}
