package step

// The unit step against a real service manager. Built with `go test -c` the test
// can be carried to a host and run there as root.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/systemd"
)

func realUnits(t *testing.T) *systemd.Units {
	t.Helper()
	if os.Getenv("TANIST_TEST_SYSTEMD") != "1" {
		t.Skip("needs a systemd that may be played with: set TANIST_TEST_SYSTEMD=1 there")
	}
	if comm, _ := os.ReadFile("/proc/1/comm"); strings.TrimSpace(string(comm)) != "systemd" {
		t.Skip("needs systemd as process 1")
	}
	u := systemd.NewUnits(systemd.UnitsConfig{})
	t.Cleanup(func() { u.Close() })
	return u
}

// install writes a unit file for the time of the test and returns its name.
func install(t *testing.T, u *systemd.Units, name, body string) string {
	t.Helper()
	name = "tanist-test-" + name + ".service"
	path := filepath.Join("/run/systemd/system", name)
	if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
		t.Fatal(err)
	}
	daemonReload(t)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_ = u.Kill(ctx, name, syscall.SIGKILL)
		_ = u.Stop(ctx, name)
		_ = u.Kill(ctx, name, syscall.SIGKILL)
		os.Remove(path)
		daemonReload(t)
	})
	return name
}

func daemonReload(t *testing.T) {
	t.Helper()
	systemctl(t, "daemon-reload")
}

func systemctl(t *testing.T, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second) // also used when the test's own context is over
	defer cancel()
	s := NewExec(hooks.Exec{Command: append([]string{"systemctl"}, args...)}, "")
	if err := s.Apply(ctx); err != nil {
		t.Error(err)
	}
}

func unitStep(u *systemd.Units, verb hooks.UnitVerb, name string) Step {
	return NewUnit(hooks.Unit{Verb: verb, Name: name}, u)
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func wantState(t *testing.T, s Step, want State) {
	t.Helper()
	got, err := s.Check(within(t, 20*time.Second))
	if got != want || (err != nil) != (want == Cannot) {
		t.Fatalf("check: %v, %v; want %v", got, err, want)
	}
}

func apply(t *testing.T, s Step, d time.Duration) {
	t.Helper()
	if err := s.Apply(within(t, d)); err != nil {
		t.Fatal(err)
	}
	wantState(t, s, Ok)
}

func status(t *testing.T, u *systemd.Units, name string) systemd.Status {
	t.Helper()
	s, err := u.Status(within(t, 20*time.Second), name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("timed out: %s", what)
		}
	}
}

const exits143 = "[Service]\nExecStart=/bin/sh -c 'trap \"exit 143\" TERM; while :; do sleep 0.1; done'\n"

func TestUnitStartAndStopWithStatus143(t *testing.T) {
	u := realUnits(t)
	name := install(t, u, "exits143", exits143)
	wantState(t, unitStep(u, hooks.StopUnit, name), Ok)
	start, stop := unitStep(u, hooks.StartUnit, name), unitStep(u, hooks.StopUnit, name)
	wantState(t, start, WouldChange)
	apply(t, start, 20*time.Second)
	first := status(t, u, name)
	apply(t, start, 20*time.Second) // again: nothing happens
	if s := status(t, u, name); s.InvocationID != first.InvocationID || len(s.Processes) == 0 || s.MainPID == 0 {
		t.Errorf("second start: %+v after %+v", s, first)
	}
	wantState(t, stop, WouldChange)
	apply(t, stop, 20*time.Second)
	if s := status(t, u, name); s.ActiveState != systemd.Failed || s.Result != "exit-code" {
		t.Errorf("a service that exits with 143: %v, want failed", s)
	}
}

// lsb is what systemd-sysv-generator makes of Debian's lsyncd.
const lsb = `[Service]
Type=forking
RemainAfterExit=yes
KillMode=process
GuessMainPID=no
Restart=no
TimeoutSec=5min
ExecStart=/bin/sh -c 'setsid sleep 1000 </dev/null >/dev/null 2>&1 &'
ExecStop=/bin/sh -c 'exit 0'
`

func TestUnitLSBServiceWhoseDaemonWasKilled(t *testing.T) {
	u := realUnits(t)
	name := install(t, u, "lsb", lsb)
	start := unitStep(u, hooks.StartUnit, name)
	apply(t, start, 20*time.Second)
	for _, pid := range status(t, u, name).Processes {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	// The manager goes on calling it active: that is the point of the test.
	eventually(t, "the daemon is gone and the unit active (exited)", func() bool {
		s := status(t, u, name)
		return len(s.Processes) == 0 && s.ActiveState == systemd.Active && s.SubState == "exited"
	})
	wantState(t, start, WouldChange)
	apply(t, start, 20*time.Second)
	if s := status(t, u, name); len(s.Processes) == 0 {
		t.Errorf("after the second start: %v", s)
	}
}

func TestUnitStopEndsLeftovers(t *testing.T) {
	u := realUnits(t)
	for _, tc := range []struct{ name, trap string }{{"polite", ""}, {"deaf", "trap \"\" TERM; "}} {
		t.Run(tc.name, func(t *testing.T) {
			name := install(t, u, "leftover-"+tc.name, strings.Replace(lsb, "setsid sleep 1000",
				"setsid sh -c '\\''"+tc.trap+"while :; do sleep 0.1; done'\\''", 1))
			apply(t, unitStep(u, hooks.StartUnit, name), 20*time.Second)
			stop := unitStep(u, hooks.StopUnit, name)
			before := status(t, u, name).Processes
			if err := u.Stop(within(t, 20*time.Second), name); err != nil {
				t.Fatal(err)
			}
			if s := status(t, u, name); s.ActiveState != systemd.Inactive || len(s.Processes) == 0 {
				t.Fatalf("%v: KillMode=process left nothing, so the test shows nothing", s)
			}
			wantState(t, stop, WouldChange)
			apply(t, stop, 20*time.Second)
			for _, pid := range before {
				if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) && alive(pid) {
					t.Errorf("process %d still runs", pid)
				}
			}
		})
	}
}

func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func TestUnitStopThatIgnoresTERM(t *testing.T) {
	u := realUnits(t)
	name := install(t, u, "deaf", "[Service]\nTimeoutStopSec=10min\nExecStart=/bin/sh -c 'trap \"\" TERM; while :; do sleep 0.1; done'\n")
	apply(t, unitStep(u, hooks.StartUnit, name), 20*time.Second)
	apply(t, unitStep(u, hooks.StopUnit, name), 8*time.Second)
}

func TestUnitMissingAndMasked(t *testing.T) {
	u := realUnits(t)
	masked := "tanist-test-masked.service"
	path := filepath.Join("/run/systemd/system", masked)
	if err := os.Symlink("/dev/null", path); err != nil {
		t.Fatal(err)
	}
	daemonReload(t)
	t.Cleanup(func() {
		os.Remove(path)
		daemonReload(t)
	})
	for _, tc := range []struct {
		name string
		want systemd.LoadState
	}{{"tanist-test-missing.service", systemd.NotFound}, {masked, systemd.Masked}} {
		for _, verb := range []hooks.UnitVerb{hooks.StartUnit, hooks.RestartUnit, hooks.ReloadUnit, hooks.EnableUnit, hooks.StopUnit} {
			if verb == hooks.StopUnit && tc.want == systemd.Masked {
				wantState(t, unitStep(u, verb, tc.name), Ok)
				continue
			}
			s := unitStep(u, verb, tc.name)
			state, err := s.Check(within(t, 20*time.Second))
			refused := (*systemd.UnitError)(nil)
			if state != Cannot || !errors.As(err, &refused) || refused.Load != tc.want || !strings.Contains(err.Error(), tc.name) {
				t.Errorf("%v %s: %v, %v", verb, tc.name, state, err)
			}
			if err := s.Apply(within(t, 20*time.Second)); !errors.As(err, &refused) {
				t.Errorf("apply %v %s: %v", verb, tc.name, err)
			}
		}
	}
}

func TestUnitOneshot(t *testing.T) {
	u := realUnits(t)
	name := install(t, u, "oneshot", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n")
	apply(t, unitStep(u, hooks.StartUnit, name), 20*time.Second)
	apply(t, unitStep(u, hooks.StopUnit, name), 20*time.Second)
}

func TestUnitStartThatFails(t *testing.T) {
	u := realUnits(t)
	name := install(t, u, "fails", "[Service]\nType=forking\nExecStart=/bin/false\n")
	err := unitStep(u, hooks.StartUnit, name).Apply(within(t, 20*time.Second))
	refused := (*systemd.UnitError)(nil)
	if !errors.As(err, &refused) || refused.Result != systemd.JobFailed || !strings.Contains(err.Error(), "exit-code") {
		t.Errorf("got %v", err)
	}
}

func TestUnitStartAfterStartLimit(t *testing.T) {
	u := realUnits(t)
	flag := filepath.Join(t.TempDir(), "flag")
	name := install(t, u, "limit", "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=1\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'test -e "+flag+"'\n")
	start := unitStep(u, hooks.StartUnit, name)
	if err := start.Apply(within(t, 20*time.Second)); err == nil {
		t.Fatal("it started without its flag")
	}
	if err := os.WriteFile(flag, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	apply(t, start, 20*time.Second)
}

// hangs is an LSB script that does not return while its daemon runs already.
const hangs = "[Service]\nType=forking\nKillMode=process\nTimeoutSec=5min\nExecStart=/bin/sh -c 'sleep 1000 & wait'\n"

func TestUnitStartThatHangs(t *testing.T) {
	u := realUnits(t)
	name := install(t, u, "hangs", hangs)
	err := unitStep(u, hooks.StartUnit, name).Apply(within(t, 2*time.Second))
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "activating") {
		t.Errorf("got %v", err)
	}
	if s := status(t, u, name); len(s.Processes) == 0 || s.Job != 0 {
		t.Errorf("after the deadline: %+v", s)
	}
	apply(t, unitStep(u, hooks.StopUnit, name), 20*time.Second)
}

func TestUnitStartThatIsCancelled(t *testing.T) {
	u := realUnits(t)
	name := install(t, u, "cancelled", hangs)
	ctx, cancel := context.WithCancel(within(t, 60*time.Second))
	done := make(chan error, 1)
	go func() { done <- unitStep(u, hooks.StartUnit, name).Apply(ctx) }()
	eventually(t, "the script runs", func() bool { return len(status(t, u, name).Processes) > 0 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if s := status(t, u, name); !s.Stopped() || s.Job != 0 {
		t.Errorf("after the cancel: %+v", s)
	}
}

func TestUnitRestartAndReload(t *testing.T) {
	u := realUnits(t)
	name := install(t, u, "restart", exits143+"ExecReload=/bin/true\n")
	wantState(t, unitStep(u, hooks.ReloadUnit, name), Cannot)
	apply(t, unitStep(u, hooks.StartUnit, name), 20*time.Second)
	before := status(t, u, name)
	restart := unitStep(u, hooks.RestartUnit, name)
	wantState(t, restart, WouldChange)
	apply(t, restart, 20*time.Second)
	after := status(t, u, name)
	if after.InvocationID == before.InvocationID || slices.Equal(after.Processes, before.Processes) {
		t.Errorf("restart: %+v, before %+v", after, before)
	}
	reload := unitStep(u, hooks.ReloadUnit, name)
	wantState(t, reload, WouldChange)
	apply(t, reload, 20*time.Second)
	if s := status(t, u, name); s.InvocationID != after.InvocationID {
		t.Errorf("reload restarted the unit: %+v", s)
	}
}

func TestUnitEnableAndDisable(t *testing.T) {
	u := realUnits(t)
	name := install(t, u, "enable", exits143+"[Install]\nWantedBy=multi-user.target\n")
	enable, disable := unitStep(u, hooks.EnableUnit, name), unitStep(u, hooks.DisableUnit, name)
	wantState(t, disable, Ok)
	wantState(t, enable, WouldChange)
	apply(t, enable, 20*time.Second)
	wantState(t, disable, WouldChange)
	apply(t, disable, 20*time.Second)
	wantState(t, enable, WouldChange)
	static := install(t, u, "static", exits143)
	wantState(t, unitStep(u, hooks.EnableUnit, static), Cannot)
	wantState(t, unitStep(u, hooks.DisableUnit, static), Ok)
}

// TestUnitDuringReexec re-executes the manager while jobs run: connections and
// job signals are lost, the unit's state is not.
func TestUnitDuringReexec(t *testing.T) {
	u := realUnits(t)
	name := install(t, u, "reexec", "[Service]\nType=notify\nNotifyAccess=all\nExecStart=/bin/sh -c 'sleep 3; systemd-notify --ready; exec sleep 1000'\n")
	done := make(chan error, 1)
	ctx := within(t, 60*time.Second)
	go func() { done <- unitStep(u, hooks.StartUnit, name).Apply(ctx) }()
	eventually(t, "the start job runs", func() bool { return status(t, u, name).ActiveState == systemd.Activating })
	systemctl(t, "daemon-reexec")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	wantState(t, unitStep(u, hooks.StartUnit, name), Ok)
	apply(t, unitStep(u, hooks.StopUnit, name), 20*time.Second)
}

func TestUnitRealLsyncd(t *testing.T) {
	u := realUnits(t)
	if s := status(t, u, "lsyncd.service"); s.LoadState != systemd.Loaded {
		t.Skip("needs lsyncd installed")
	}
	start, stop := unitStep(u, hooks.StartUnit, "lsyncd.service"), unitStep(u, hooks.StopUnit, "lsyncd.service")
	if ok, _ := start.Check(within(t, 20*time.Second)); ok == Ok {
		t.Skip("lsyncd is in use here")
	}
	apply(t, start, 30*time.Second)
	for _, pid := range status(t, u, "lsyncd.service").Processes {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	eventually(t, "lsyncd is gone", func() bool { return len(status(t, u, "lsyncd.service").Processes) == 0 })
	wantState(t, start, WouldChange)
	apply(t, start, 30*time.Second)
	apply(t, stop, 30*time.Second)
}
