package pair

import (
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/test/lab"
	"github.com/tanist-ha/tanist/test/site"
)

// drainTime is the timeout of the wait step.
const drainTime = 20 * time.Second

// draining is the site without a database, whose old host lets lsyncd finish.
func draining() string {
	return strings.Replace(site.Config(false), "      - unit: {stop: lsyncd.service}\n", `      - wait: {lsyncd: /var/log/lsyncd/lsyncd.status}
        timeout: `+drainTime.String()+`
      - unit: {stop: lsyncd.service}
`, 1)
}

// uploads writes files under a name of their own, and returns when they are written.
func uploads(t *testing.T, n *lab.Node, name string, count int) {
	t.Helper()
	if _, err := n.Exec(within(t), "sh", "-c", "for i in $(seq "+strconv.Itoa(count)+"); do echo $i > /srv/data/"+name+"-$i; done"); err != nil {
		t.Fatal(err)
	}
}

func arrived(t *testing.T, n *lab.Node, name string) int {
	t.Helper()
	out, err := n.Exec(within(t), "sh", "-c", "ls /srv/data | grep -c ^"+name+"- || true")
	if err != nil {
		t.Fatal(err)
	}
	count, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil {
		t.Fatal(err)
	}
	return count
}

func wantOneLsyncd(t *testing.T, s *site.Site, active *lab.Node) {
	t.Helper()
	if here, there := look(t, s, active), look(t, s, s.Peer(active)); here.Lsyncd != 1 || there.Lsyncd != 0 {
		t.Errorf("lsyncd: %d on %s, %d on the standby", here.Lsyncd, active.Hostname, there.Lsyncd)
	}
}

// TestUploadsAreCarried: what was uploaded right before a switchover is on the new
// host when it is over, though lsyncd collects for seconds before it carries.
func TestUploadsAreCarried(t *testing.T) {
	t.Parallel()
	s := up(t, site.Options{Config: draining(), WithoutDatabase: true}, false)
	for _, n := range s.Nodes() {
		conf, err := n.ReadFile("/etc/lsyncd/lsyncd.conf.lua")
		if err != nil {
			t.Fatal(err)
		}
		// By default it carries at once what comes to a thousand delays.
		text := strings.Replace(string(conf), "delay = 1,", "delay = 5, maxDelays = 100000,", 1)
		if !strings.Contains(text, "statusInterval = 1,") || text == string(conf) {
			t.Fatalf("the lab configures lsyncd otherwise:\n%s", conf)
		}
		if err := n.WriteFile("/etc/lsyncd/lsyncd.conf.lua", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := s.AwaitSettled(within(t), s.Primary); err != nil {
		t.Fatal(err)
	}
	if r := tanist(t, s, s.Primary, "check"); r.Code != 0 || strings.Contains(r.Stdout, "statusInterval") {
		t.Errorf("check: %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}

	active := s.Primary
	for _, name := range []string{"first", "second", "third"} {
		uploads(t, active, name, 500)
		r := tanist(t, s, active, "switchover")
		if r.Code != 0 {
			t.Fatalf("switchover: %d\n%s%s", r.Code, r.Stdout, r.Stderr)
		}
		if !strings.Contains(r.Stdout+r.Stderr, "delays left") {
			t.Errorf("nothing of the delays in\n%s%s", r.Stdout, r.Stderr)
		}
		active = s.Peer(active)
		if n := arrived(t, active, name); n != 500 {
			t.Errorf("%d of 500 files are on %s", n, active.Hostname)
		}
		if err := s.AwaitSettled(within(t), active); err != nil {
			t.Fatal(err)
		}
		wantOneLsyncd(t, s, active)
	}

	// One that hangs bounds the wait, and does not go on beside the new one.
	uploads(t, active, "fourth", 10)
	out, err := active.Exec(within(t), "pgrep", "-ox", "lsyncd")
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil {
		t.Fatal(err)
	}
	kill(t, active, pid, syscall.SIGSTOP)
	old := active
	began := time.Now()
	r := tanist(t, s, old, "switchover")
	t.Logf("switchover with a hanging lsyncd: %d after %s\n%s%s", r.Code, time.Since(began), r.Stdout, r.Stderr)
	if r.Code != 1 { // the address moved, and not all went well
		t.Errorf("exit status %d, want 1", r.Code)
	}
	active = s.Peer(active)
	if err := s.AwaitState(within(t), active, "active"); err != nil {
		t.Fatal(err)
	}
	wantOneLsyncd(t, s, active)
	doc, err := s.Status(within(t), old)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, st := range doc.Instances[0].LastTransition.Steps {
		found = found || waitTimedOut(st)
	}
	if !found {
		t.Errorf("the old host says nothing of the wait: %+v", doc.Instances[0].LastTransition)
	}
}

func waitTimedOut(st control.Step) bool {
	return strings.HasPrefix(st.Name, "wait lsyncd") && st.Result == hooks.TimedOut.String() && strings.Contains(st.Detail, "lsyncd")
}
