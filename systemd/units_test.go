package systemd

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func withFake(t *testing.T) (*privateBus, *fakeManager, *Units) {
	t.Helper()
	b, f := newBus(t), newFake(t)
	f.join(b)
	u := NewUnits(UnitsConfig{Sockets: []string{b.socket}})
	t.Cleanup(func() { u.Close() })
	return b, f, u
}

func TestStatus(t *testing.T) {
	_, _, u := withFake(t)
	got, err := u.Status(within(t, time.Minute), "x.service")
	want := Status{
		Unit: "x.service", LoadState: Loaded, ActiveState: Inactive, SubState: "sub", Type: "simple", Result: "success",
		MainPID: 7, ControlGroup: "/system.slice/x.service", InvocationID: "ab00", CanReload: true,
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if s, err := u.FileState(within(t, time.Minute), "x.service"); s != FileMasked || err != nil {
		t.Error(s, err)
	}
}

func TestJobs(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*fakeManager)
		do     func(*Units, context.Context, string) error
		want   JobResult // JobDone: no error
		orders string
	}{
		{"start", func(*fakeManager) {}, (*Units).Start, JobDone, "start"},
		{"stop", func(f *fakeManager) { f.active = "active" }, (*Units).Stop, JobDone, "stop"},
		{"start-fails", func(f *fakeManager) { f.result = "failed" }, (*Units).Start, JobFailed, "start"},
		{"start-times-out", func(f *fakeManager) { f.result = "timeout" }, (*Units).Start, JobTimeout, "start"},
		{"dependency", func(f *fakeManager) { f.result = "dependency" }, (*Units).Start, JobDependency, "start"},
		{"lost-signal/start", func(f *fakeManager) { f.mute = true }, (*Units).Start, JobDone, "start"},
		{"lost-signal/stop", func(f *fakeManager) { f.mute, f.active = true, "active" }, (*Units).Stop, JobDone, "stop"},
		{"lost-signal/restart", func(f *fakeManager) { f.mute, f.active = true, "active" }, (*Units).Restart, JobDone, "restart"},
		{"lost-signal/start-fails", func(f *fakeManager) { f.mute, f.result = true, "failed" }, (*Units).Start, JobFailed, "start"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, f, u := withFake(t)
			f.set(tc.change)
			err := tc.do(u, within(t, time.Minute), "x.service")
			refused := (*UnitError)(nil)
			if tc.want == JobDone && err != nil || tc.want != JobDone && (!errors.As(err, &refused) || refused.Result != tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if orders, _ := f.seen(); orders != tc.orders {
				t.Errorf("orders %q, want %q", orders, tc.orders)
			}
		})
	}
}

func TestBusDiesWhileAJobRuns(t *testing.T) {
	for _, tc := range []struct{ name, state, orders string }{
		{"and-the-job-ended-meanwhile", "active", "start"},
		{"and-the-job-was-lost", "inactive", "start start"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, f, u := withFake(t)
			f.set(func(f *fakeManager) { f.hold = true })
			done := make(chan error, 1)
			ctx := within(t, time.Minute)
			go func() { done <- u.Start(ctx, "x.service") }()
			eventually(t, "the job is there", func() bool { o, _ := f.seen(); return o == "start" })
			b.stop()
			f.set(func(f *fakeManager) { f.job, f.active, f.hold = 0, tc.state, false })
			b.start(t)
			f.join(b)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if orders, _ := f.seen(); orders != tc.orders {
				t.Errorf("orders %q, want %q", orders, tc.orders)
			}
			if s, err := u.Status(within(t, time.Minute), "x.service"); err != nil || s.ActiveState != Active {
				t.Errorf("afterwards: %v, %v", s, err)
			}
		})
	}
}

// A daemon-reexec keeps the jobs and their ids, and drops every connection.
func TestReexecWhileAJobRuns(t *testing.T) {
	b, f, u := withFake(t)
	f.set(func(f *fakeManager) { f.hold = true })
	done := make(chan error, 1)
	ctx := within(t, time.Minute)
	go func() { done <- u.Start(ctx, "x.service") }()
	eventually(t, "the job is there", func() bool { o, _ := f.seen(); return o == "start" })
	b.stop()
	b.start(t)
	f.join(b)
	eventually(t, "the new manager answers", func() bool {
		s, err := u.Status(ctx, "x.service")
		return err == nil && s.Job == 1
	})
	f.finish(1, "active")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if orders, _ := f.seen(); orders != "start" {
		t.Errorf("orders %q", orders)
	}
}

func TestCancelTakesTheJobBack(t *testing.T) {
	_, f, u := withFake(t)
	f.set(func(f *fakeManager) { f.hold = true })
	ctx, cancel := context.WithCancel(within(t, time.Minute))
	done := make(chan error, 1)
	go func() { done <- u.Start(ctx, "x.service") }()
	eventually(t, "the job is there", func() bool { o, _ := f.seen(); return o == "start" })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, n := f.seen(); n != 1 {
		t.Errorf("%d jobs cancelled", n)
	}
}

func TestAnOrderWithoutAnAnswerHoldsUpNobody(t *testing.T) {
	_, f, u := withFake(t)
	hang := make(chan struct{})
	f.set(func(f *fakeManager) { f.hang, f.hold = hang, true })
	defer close(hang)
	ctx, cancel := context.WithCancel(within(t, time.Minute))
	done := make(chan error, 1)
	go func() { done <- u.Start(ctx, "x.service") }()
	eventually(t, "the order arrived", func() bool { o, _ := f.seen(); return o == "start" })
	f.set(func(f *fakeManager) { f.hang, f.hold = nil, false })
	if err := u.Stop(within(t, time.Minute), "x.service"); err != nil {
		t.Errorf("beside it: %v", err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestManagerThatHangs(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "deaf")
	l, err := net.Listen("unix", socket) // connections are taken and never answered
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	u := NewUnits(UnitsConfig{Sockets: []string{socket}})
	defer u.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := u.Status(ctx, "x.service"); err == nil || !strings.Contains(err.Error(), "x.service") {
		t.Errorf("got %v", err)
	}
}

// TestManagerThatIsBusy: one that has thousands of units to read answers late. Its
// socket takes connections all the while.
func TestManagerThatIsBusy(t *testing.T) {
	b, f := newBus(t), newFake(t)
	f.join(b)
	u := NewUnits(UnitsConfig{Sockets: []string{b.socket}})
	defer u.Close()
	if err := b.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	awake := time.AfterFunc(reconnectPatience+time.Second, func() { _ = b.cmd.Process.Signal(syscall.SIGCONT) })
	defer awake.Stop()
	if _, err := u.Status(within(t, 30*time.Second), "x.service"); err != nil {
		t.Error(err)
	}
}

func TestSecondSocketIsTried(t *testing.T) {
	b, f := newBus(t), newFake(t)
	f.join(b)
	u := NewUnits(UnitsConfig{Sockets: []string{filepath.Join(t.TempDir(), "none"), b.socket}})
	if _, err := u.Status(within(t, time.Minute), "x.service"); err != nil {
		t.Error(err)
	}
	u.Close()
	if _, err := u.Status(within(t, time.Minute), "x.service"); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestStatusJudgement(t *testing.T) {
	for _, tc := range []struct {
		name             string
		s                Status
		running, stopped bool
	}{
		{"running", Status{ActiveState: Active, Processes: []int{1}}, true, false},
		{"lsb-active-without-process", Status{ActiveState: Active, SubState: "exited", Type: "forking"}, false, false},
		{"exited-with-a-helper-left", Status{ActiveState: Active, SubState: "exited", Type: "simple", Processes: []int{1}}, false, false},
		{"oneshot", Status{ActiveState: Active, SubState: "exited", Type: "oneshot"}, true, false},
		{"failed-with-143", Status{ActiveState: Failed, Result: "exit-code"}, false, true},
		{"failed-with-process", Status{ActiveState: Failed, Processes: []int{1}}, false, false},
		{"inactive-with-process", Status{ActiveState: Inactive, Processes: []int{1}}, false, false},
		{"activating", Status{ActiveState: Activating, Processes: []int{1}}, false, false},
		{"timer", Status{Unit: "x.timer", ActiveState: Active}, true, false},
	} {
		if tc.s.Unit == "" {
			tc.s.Unit = "x.service"
		}
		if tc.s.Running() != tc.running || tc.s.Stopped() != tc.stopped {
			t.Errorf("%s: running %v, stopped %v", tc.name, tc.s.Running(), tc.s.Stopped())
		}
	}
}

func TestExpectedGroup(t *testing.T) {
	for _, tc := range [][3]string{
		{"system.slice", "lsyncd.service", "/system.slice/lsyncd.service"},
		{"-.slice", "x.service", "/x.service"},
		{"system-getty.slice", "getty@tty1.service", "/system.slice/system-getty.slice/getty@tty1.service"},
		{"system.slice", "cpu.service", "/system.slice/_cpu.service"},
		{"system.slice", "_x.service", "/system.slice/__x.service"},
		{"", "x.service", ""},
	} {
		if got := expectedGroup(tc[0], tc[1]); got != tc[2] {
			t.Errorf("%s in %s: %q, want %q", tc[1], tc[0], got, tc[2])
		}
	}
}
