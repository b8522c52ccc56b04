package step

// Units that misbehave, under a real service manager; see realUnits.

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/systemd"
)

// TestHostileUnitStops: every one is down, and none of its processes is left.
func TestHostileUnitStops(t *testing.T) {
	u := realUnits(t)
	const deaf = "/bin/sh -c 'trap \"\" TERM; while :; do sleep 0.1; done'\n"
	for _, tc := range []struct{ name, body string }{
		{"stop-hangs", "TimeoutStopSec=10min\nExecStart=/bin/sleep 1000\nExecStop=/bin/sleep 1000\n"},
		{"stop-hangs-deaf", "TimeoutStopSec=10min\nExecStart=" + deaf + "ExecStop=" + deaf},
		{"never-kills", "TimeoutStopSec=10min\nSendSIGKILL=no\nExecStart=" + deaf},
		{"never-kills-and-gives-up", "TimeoutStopSec=1\nSendSIGKILL=no\nExecStart=" + deaf},
		{"kills-nobody", "KillMode=none\nExecStart=" + deaf},
		{"restarts-itself", "Restart=always\nRestartSec=0\nExecStart=/bin/sleep 1000\n"},
		{"restarts-itself-deaf", "Restart=always\nRestartSec=0\nTimeoutStopSec=10min\nExecStart=" + deaf},
		{"restarts-itself-stop-hangs", "Restart=always\nRestartSec=0\nTimeoutStopSec=10min\nExecStart=/bin/sleep 1000\nExecStop=" + deaf},
		{"stop-post-hangs", "TimeoutStopSec=10min\nExecStart=/bin/sleep 1000\nExecStopPost=" + deaf},
		{"forks", "Type=forking\nTimeoutStopSec=10min\nExecStart=/bin/sh -c 'setsid sleep 1000 </dev/null >/dev/null 2>&1 &'\n"},
		{"oneshot-with-children", "Type=oneshot\nRemainAfterExit=yes\nKillMode=process\nExecStart=/bin/sh -c 'setsid sh -c \"trap : TERM; while :; do sleep 1; done\" </dev/null >/dev/null 2>&1 &'\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			name := install(t, u, "hostile-"+tc.name, "[Service]\n"+tc.body)
			apply(t, unitStep(u, hooks.StartUnit, name), 20*time.Second)
			before := status(t, u, name).Processes
			began := time.Now()
			outcome, detail := Execute(within(t, 8*time.Second), unitStep(u, hooks.StopUnit, name))
			t.Logf("%v after %s: %s", outcome, time.Since(began), detail)
			if s := status(t, u, name); outcome != hooks.Changed || !s.Stopped() || s.Job != 0 {
				t.Errorf("%v: %s; %+v", outcome, detail, s)
			}
			for _, pid := range before {
				if alive(pid) {
					t.Errorf("process %d still runs", pid)
				}
			}
		})
	}
}

// TestHostileUnitThatRestartsAllTheTime: a service that dies at once and comes again is
// stopped between two lives as well.
func TestHostileUnitThatRestartsAllTheTime(t *testing.T) {
	u := realUnits(t)
	name := install(t, u, "hostile-loops", "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=always\nRestartSec=50ms\nExecStart=/bin/false\n")
	for i := range 5 {
		_ = unitStep(u, hooks.StartUnit, name).Apply(within(t, 5*time.Second)) // runs for a moment, or not at all
		eventually(t, "it loops", func() bool { return status(t, u, name).ActiveState == systemd.Activating })
		if outcome, detail := Execute(within(t, 8*time.Second), unitStep(u, hooks.StopUnit, name)); outcome != hooks.Changed {
			t.Errorf("stop %d: %v: %s", i, outcome, detail)
		}
		if s := status(t, u, name); !s.Stopped() {
			t.Errorf("%+v", s)
		}
	}
}

// TestHostileUnitActiveWithoutItsMainProcess: what is left of a service is not the service.
func TestHostileUnitActiveWithoutItsMainProcess(t *testing.T) {
	u := realUnits(t)
	name := install(t, u, "hostile-headless",
		"[Service]\nRemainAfterExit=yes\nKillMode=process\nExecStart=/bin/sh -c 'setsid sleep 1000 </dev/null >/dev/null 2>&1 & exec sleep 1000'\n")
	start := unitStep(u, hooks.StartUnit, name)
	apply(t, start, 20*time.Second)
	main := status(t, u, name).MainPID
	if err := syscall.Kill(main, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "active (exited), with a process", func() bool {
		s := status(t, u, name)
		return s.MainPID == 0 && (s.ActiveState == systemd.Failed || s.SubState == "exited") && len(s.Processes) > 0
	})
	t.Logf("%v", status(t, u, name))
	wantState(t, start, WouldChange)
	apply(t, start, 20*time.Second)
	if s := status(t, u, name); s.MainPID == 0 || s.MainPID == main {
		t.Errorf("after the second start: %+v", s)
	}
}

func TestHostileUnitExitedWithLeftovers(t *testing.T) {
	u := realUnits(t)
	name := install(t, u, "hostile-exited",
		"[Service]\nRemainAfterExit=yes\nKillMode=process\nExecStart=/bin/sh -c 'setsid sleep 1000 </dev/null >/dev/null 2>&1 & sleep 1; test -e /run/tanist-test-stay && exec sleep 1000; exit 0'\n")
	start := unitStep(u, hooks.StartUnit, name)
	_ = start.Apply(within(t, 20*time.Second)) // it runs for a second
	eventually(t, "active (exited), with a process", func() bool {
		s := status(t, u, name)
		return s.ActiveState == systemd.Active && s.SubState == "exited" && s.MainPID == 0 && len(s.Processes) > 0
	})
	wantState(t, start, WouldChange)
	if err := os.WriteFile("/run/tanist-test-stay", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	defer os.Remove("/run/tanist-test-stay")
	apply(t, start, 20*time.Second)
}

// TestHostileUnitFlapping: starts and stops in quick succession do not use up a start limit.
func TestHostileUnitFlapping(t *testing.T) {
	u := realUnits(t)
	name := install(t, u, "hostile-flaps", "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=2\n[Service]\nExecStart=/bin/sleep 1000\n")
	for range 6 {
		apply(t, unitStep(u, hooks.StartUnit, name), 20*time.Second)
		apply(t, unitStep(u, hooks.StopUnit, name), 20*time.Second)
	}
	apply(t, unitStep(u, hooks.StartUnit, name), 20*time.Second)
	for range 6 {
		if err := unitStep(u, hooks.RestartUnit, name).Apply(within(t, 20*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHostileUnitOfATemplate(t *testing.T) {
	u := realUnits(t)
	install(t, u, "hostile-template@", "[Service]\nExecStart=/bin/sh -c 'echo %%I; exec sleep 1000'\n")
	const name = `tanist-test-hostile-template@a-b\x2dc:d.service`
	t.Cleanup(func() { _ = u.Stop(context.WithoutCancel(t.Context()), name) })
	apply(t, unitStep(u, hooks.StartUnit, name), 20*time.Second)
	s := status(t, u, name)
	if len(s.Processes) != 1 || s.Processes[0] != s.MainPID {
		t.Errorf("%+v", s)
	}
	apply(t, unitStep(u, hooks.StopUnit, name), 20*time.Second)
	if alive(s.MainPID) {
		t.Error("it still runs")
	}
}

// TestHostileUnitJobsDuringDisturbances: whatever becomes of the connection and of the
// job's signal, the unit's state is what counts.
func TestHostileUnitJobsDuringDisturbances(t *testing.T) {
	u := realUnits(t)
	const slow = "[Service]\nType=notify\nNotifyAccess=all\nExecStart=/bin/sh -c 'sleep 1; systemd-notify --ready; exec sleep 1000'\n" +
		"ExecStop=/bin/sleep 1\nExecReload=/bin/sleep 1\n"
	viaBus := []string{systemd.SystemBus}
	for _, tc := range []struct {
		name    string
		sockets []string
		disturb [][]string // arguments of systemctl
	}{
		{"re-executed", nil, [][]string{{"daemon-reexec"}}},
		{"re-executed twice, over the bus", viaBus, [][]string{{"daemon-reexec"}, {"daemon-reexec"}}},
		{"reloaded", nil, [][]string{{"daemon-reload"}}},
		{"bus stopped", nil, [][]string{{"stop", "dbus.socket", "dbus.service"}}},
		{"bus killed, over the bus", viaBus, [][]string{{"kill", "--signal=KILL", "dbus.service"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Cleanup(func() { systemctl(t, "start", "dbus.socket", "dbus.service") })
			via := systemd.NewUnits(systemd.UnitsConfig{Sockets: tc.sockets})
			defer via.Close()
			name := install(t, u, "hostile-slow", slow)
			for _, verb := range []hooks.UnitVerb{hooks.StartUnit, hooks.ReloadUnit, hooks.RestartUnit, hooks.StopUnit} {
				done := make(chan string, 1)
				ctx := within(t, 30*time.Second)
				go func() {
					outcome, detail := Execute(ctx, unitStep(via, verb, name))
					done <- strings.TrimSuffix(fmt.Sprintf("%v: %s", outcome, detail), ": ")
				}()
				eventually(t, "the job runs", func() bool { return status(t, u, name).Job != 0 })
				for _, args := range tc.disturb {
					systemctl(t, args...)
				}
				if got := <-done; got != "changed" {
					t.Errorf("%v: %s", verb, got)
				}
			}
			if s := status(t, u, name); !s.Stopped() {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestUnitWithoutAManager: nobody answers at any socket.
func TestUnitWithoutAManager(t *testing.T) {
	t.Parallel()
	u := systemd.NewUnits(systemd.UnitsConfig{Sockets: []string{filepath.Join(t.TempDir(), "none")}})
	defer u.Close()
	began := time.Now()
	outcome, detail := Execute(within(t, 30*time.Second), unitStep(u, hooks.StopUnit, "x.service"))
	t.Logf("after %s", time.Since(began))
	if outcome != hooks.Failed || !strings.Contains(detail, "reach the service manager") {
		t.Errorf("%v: %s", outcome, detail)
	}
}

// TestHostileUnitCancelledMidJob: a newer plan finds no job and no order of the older one.
func TestHostileUnitCancelledMidJob(t *testing.T) {
	u := realUnits(t)
	name := install(t, u, "hostile-mid-job", "[Service]\nType=notify\nNotifyAccess=all\nTimeoutSec=10min\n"+
		"ExecStart=/bin/sh -c 'test -e /run/tanist-test-quick || sleep 600; systemd-notify --ready; exec sleep 1000'\nExecStop=/bin/sleep 600\nExecReload=/bin/sleep 600\n")
	defer os.Remove("/run/tanist-test-quick")
	for _, verb := range []hooks.UnitVerb{hooks.StartUnit, hooks.ReloadUnit, hooks.RestartUnit, hooks.StopUnit} {
		t.Run(verb.String(), func(t *testing.T) {
			if verb != hooks.StartUnit {
				if err := os.WriteFile("/run/tanist-test-quick", nil, 0o600); err != nil {
					t.Fatal(err)
				}
				apply(t, unitStep(u, hooks.StartUnit, name), 20*time.Second)
			}
			ctx, cancel := context.WithCancel(within(t, time.Minute))
			defer cancel()
			done := make(chan hooks.Outcome, 1)
			go func() { outcome, _ := Execute(ctx, unitStep(u, verb, name)); done <- outcome }()
			eventually(t, "the job runs", func() bool { return status(t, u, name).Job != 0 })
			cancel()
			if outcome := <-done; outcome != hooks.Cancelled {
				t.Errorf("%v", outcome)
			}
			s := status(t, u, name)
			t.Logf("%v", s)
			if s.Job != 0 {
				t.Errorf("job %d is left", s.Job)
			}
			if err := u.Kill(within(t, 20*time.Second), name, syscall.SIGKILL); err != nil {
				t.Error(err)
			}
			eventually(t, "it is down", func() bool { return status(t, u, name).Stopped() })
		})
	}
}
