package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/hooks/journal"
	"github.com/tanist-ha/tanist/internal/control"
)

// The programs of the plan sleep, fork a child that sleeps longer, and one that does
// not hear SIGTERM. A marker is an argument of each.
const flapConfig = `
nodes:
  primary: {addresses: [192.0.2.11]}
  reserve: {addresses: [192.0.2.12]}
log: {level: info, format: console}
instances:
  - name: compass
    interface: veth0
    vrid: 51
    vips: [192.0.2.100/24]
    priority: {primary: %[1]d, reserve: 253}
    heartbeat: {advert_interval: 100ms}
    promote:
      - exec: {command: [/bin/sh, -c, "%[2]s", %[3]s]}
        on_error: continue
      - vip: acquire
      - exec: {command: [/bin/sh, -c, "%[2]s", %[3]s]}
        on_error: continue
    demote:
      - exec: {command: [/bin/sh, -c, "%[2]s", %[3]s]}
        on_error: continue
      - vip: release
      - exec: {command: [/bin/sh, -c, "%[2]s", %[3]s]}
        on_error: continue
`

const (
	flapScript = `sh -c 'sleep 60; :' $0 & (trap '' TERM; sh -c 'sleep 60; :' $0) & sleep 0.15`
	flaps      = 20
)

// TestTwentyFlaps: switchovers both ways, changes of the priority and of the link
// within a second end in one role on each node, and nothing that a step started is
// left.
func TestTwentyFlaps(t *testing.T) {
	if !inside(t) {
		return
	}
	dir := t.TempDir()
	marker := "flap-" + strconv.Itoa(os.Getpid())
	file := filepath.Join(dir, "tanist.yaml")
	configure := func(priority int) {
		text := fmt.Sprintf(flapConfig, priority, flapScript, marker)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Error(err)
		}
	}
	configure(254)
	with := func(node string) []string {
		state := filepath.Join(dir, node)
		if err := os.MkdirAll(state, 0o700); err != nil {
			t.Fatal(err)
		}
		return []string{"run", "--config", file, "--node", node, "--socket", filepath.Join(dir, node+".s"), "--state-dir", state}
	}
	status := func(node string) control.Instance {
		doc, err := control.Dial(filepath.Join(dir, node+".s")).Status(t.Context())
		if err != nil || len(doc.Instances) == 0 {
			return control.Instance{}
		}
		return doc.Instances[0]
	}
	reserve := inAnotherNetwork(t, "192.0.2.12/24", with("reserve")...)
	addAddress(t, "veth0", "192.0.2.11/24")
	primary := startTanist(t, with("primary")...)
	var last []control.Instance
	rests := func() bool {
		p, r := status("primary"), status("reserve")
		last = []control.Instance{p, r}
		one := p.State == "active" && r.State == "backup" || p.State == "backup" && r.State == "active"
		return one && p.VIPs[0].Held == (p.State == "active") && r.VIPs[0].Held == (r.State == "active") &&
			!planRuns(p) && !planRuns(r)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%+v; processes %q", last, marked(t, marker))
			t.Logf("primary:\n%s\nreserve:\n%s", primary.stderr, reserve.stderr)
		}
	})
	eventually(t, "a pair", rests)

	link, err := netlink.LinkByName("veth0")
	if err != nil {
		t.Fatal(err)
	}
	var answers sync.WaitGroup
	for i := range flaps {
		switch i % 5 {
		case 0, 1, 2:
			on, to := []string{"primary", "reserve"}[i%2], []string{"reserve", "primary"}[i/2%2]
			answers.Go(func() { // most are refused: another is under way
				_, _ = control.Dial(filepath.Join(dir, on+".s")).Switchover(t.Context(), control.SwitchoverRequest{To: to, TimeoutMS: 3000}, func(control.Line) {})
			})
		case 3:
			configure(254 - 2*(i/5%2))
			err = primary.Process.Signal(syscall.SIGHUP)
		case 4:
			if err = netlink.LinkSetDown(link); err == nil {
				time.Sleep(10 * time.Millisecond) // a cable that is pulled, not a wait for anything
				err = netlink.LinkSetUp(link)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second / flaps / 2) // they are spread over a second
	}
	answers.Wait()
	calm := time.Time{}
	eventually(t, "one role on each node, for a second", func() bool {
		if !rests() || len(marked(t, marker)) > 0 {
			calm = time.Time{}
			return false
		}
		if calm.IsZero() {
			calm = time.Now()
		}
		return time.Since(calm) > time.Second
	})
	for _, node := range []string{"primary", "reserve"} {
		read, err := journal.Read(filepath.Join(dir, node, "journal"))
		if err != nil {
			t.Fatal(err)
		}
		m, in := journal.Memories(read.Entries)["compass"], status(node)
		t.Logf("%s is %s in epoch %d; %d entries, %+v", node, in.State, in.Epoch, len(read.Entries), m)
		if active := in.State == "active"; active != (m.Role == hooks.Active && m.ActiveEpoch == m.Epoch) {
			t.Errorf("the journal of %s says %+v, it is %s", node, m, in.State)
		}
	}
	for node, p := range map[string]tanistProcess{"primary": primary, "reserve": reserve} {
		if err := p.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if code := p.end(t); code != exitOK {
			t.Errorf("%s: exit status %d\n%s", node, code, p.stderr)
		}
	}
	if left := marked(t, marker); len(left) > 0 {
		t.Errorf("processes that are left: %q", left)
	}
}

func planRuns(in control.Instance) bool {
	return in.LastTransition != nil && in.LastTransition.Result == "running"
}

// marked returns the command lines of the processes that have marker as an argument.
func marked(t *testing.T, marker string) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, e := range entries {
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && bytes.Contains(line, []byte("\x00"+marker+"\x00")) {
			found = append(found, e.Name()+" "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}
