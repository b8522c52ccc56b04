package pair

// Units that do not stop, in a transition, with the service manager disturbed meanwhile.

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/tanist-ha/tanist/test/lab"
	"github.com/tanist-ha/tanist/test/site"
)

// stubborn hears nothing, its ExecStop hangs, and systemd may not kill it.
const stubborn = `[Service]
ExecStart=/bin/sh -c 'trap "" TERM; while :; do sleep 0.1; done'
ExecStop=/bin/sh -c 'trap "" TERM; while :; do sleep 0.1; done'
TimeoutStopSec=10min
SendSIGKILL=no
Restart=always
`

func TestHostileUnits(t *testing.T) {
	t.Parallel()
	config := strings.Replace(site.Config(true), "      - writes: close\n      - vip: release\n",
		"      - writes: close\n      - {unit: {stop: stubborn.service}, timeout: 8s}\n      - vip: release\n"+
			"      - {unit: {stop: no-such.service}, on_error: continue, timeout: 8s}\n", 1)
	if !strings.Contains(config, "stubborn") {
		t.Fatal("the demote plan of the site has changed")
	}
	s := up(t, site.Options{Config: config}, true)
	start := func() {
		for _, n := range s.Nodes() {
			if err := n.WriteFile("/etc/systemd/system/stubborn.service", []byte(stubborn), 0o644); err != nil {
				t.Fatal(err)
			}
			for _, args := range [][]string{{"daemon-reload"}, {"start", "stubborn.service"}} {
				if _, err := n.Exec(within(t), append([]string{"systemctl"}, args...)...); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	stopping := func(n *lab.Node) {
		t.Helper()
		err := site.Await(within(t), "the stop of the stubborn unit", func(ctx context.Context) error {
			out, _ := n.Exec(ctx, "systemctl", "is-active", "stubborn.service")
			if strings.TrimSpace(out) != "deactivating" {
				return errors.New("it is " + out)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	stopped := func(n *lab.Node) {
		t.Helper()
		out, _ := n.Exec(within(t), "systemctl", "show", "-P", "ActiveState", "stubborn.service")
		left, _ := n.Exec(within(t), "systemctl", "show", "-P", "ControlPID", "stubborn.service")
		if state := strings.TrimSpace(out); state != "failed" && state != "inactive" || strings.TrimSpace(left) != "0" {
			t.Errorf("stubborn.service of %s is %s, control process %s", n.Hostname, state, left)
		}
	}
	c := client(t, s)
	t.Run("a switchover beside a manager that is re-executed and a bus that is stopped", func(t *testing.T) {
		start()
		over := make(chan site.Result, 1)
		go func() {
			r, err := s.Tanist(within(t), s.Primary, "switchover")
			if err != nil {
				r.Stderr += err.Error()
			}
			over <- r
		}()
		stopping(s.Primary)
		for _, args := range [][]string{{"stop", "dbus.socket", "dbus.service"}, {"daemon-reexec"}} {
			if _, err := s.Primary.Exec(within(t), append([]string{"systemctl"}, args...)...); err != nil {
				t.Fatal(err)
			}
		}
		r := <-over
		// The address moved; the unit that is not there is the later step that failed.
		if r.Code != 1 || !strings.Contains(r.Stdout+r.Stderr, "no-such.service") {
			t.Errorf("exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
		}
		if err := s.AwaitState(within(t), s.Reserve, "active"); err != nil {
			t.Fatal(err)
		}
		stopped(s.Primary)
		if _, err := s.Primary.Exec(within(t), "systemctl", "start", "dbus.socket"); err != nil {
			t.Fatal(err)
		}
		if err := c.AwaitAck(within(t)); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("an unplanned demotion", func(t *testing.T) {
		start()
		c.Stop() // what replication had not carried over yet would be lost, as with any lost link
		if err := s.CatchUp(within(t), s.Reserve, s.Primary); err != nil {
			t.Fatal(err)
		}
		if err := s.CableDown(s.Reserve, lab.Eth0); err != nil {
			t.Fatal(err)
		}
		stopping(s.Reserve)
		if w := look(t, s, s.Reserve); w.VIP || w.ReadOnly != "1" {
			t.Errorf("while the stubborn unit stops: %+v", w)
		}
		if err := s.AwaitState(within(t), s.Primary, "active"); err != nil {
			t.Fatal(err)
		}
		if err := s.CableUp(s.Reserve, lab.Eth0); err != nil {
			t.Fatal(err)
		}
		if err := s.AwaitState(within(t), s.Reserve, "backup"); err != nil {
			t.Fatal(err)
		}
		stopped(s.Reserve)
	})
	wantRows(t, c, s.Primary)
	if err := s.AwaitSettled(within(t), s.Primary); err != nil {
		t.Fatal(err)
	}
	wantRoles(t, s, s.Primary)
}
