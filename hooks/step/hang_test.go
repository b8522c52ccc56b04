package step

// Programs that the kernel holds up: on a dead file server, on a failing disk.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/program"
	"github.com/tanist-ha/tanist/test/deadfs"
)

// hangingProgram makes a program whose exec the kernel holds up until release.
func hangingProgram(t *testing.T) (path string, release func()) {
	t.Helper()
	path = writeFile(t, "program", "#!/bin/sh\n")
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC, unix.O_RDONLY)
	if err == nil {
		err = unix.FanotifyMark(fd, unix.FAN_MARK_ADD, unix.FAN_OPEN_EXEC_PERM, unix.AT_FDCWD, path)
	}
	if err != nil {
		t.Skipf("needs root and fanotify with permission events: %v", err)
	}
	release = sync.OnceFunc(func() { _ = unix.Close(fd) }) // lets everybody through
	t.Cleanup(release)
	return path, release
}

// deadFileSystem mounts one whose server never answers.
func deadFileSystem(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("needs root and FUSE: %v", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)
	if err := unix.Mount("tanist-test", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		_ = unix.Close(fd)
		t.Skipf("needs root and FUSE: %v", err)
	}
	t.Cleanup(func() {
		_ = unix.Close(fd) // everybody who waits gets an error
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// The runtime must go on while an exec hangs: with it stand the heartbeat and the
// release of an address.
func TestExecWhoseStartHangs(t *testing.T) {
	path, release := hangingProgram(t)
	patience := time.AfterFunc(30*time.Second, release) // otherwise this test would stand still, too
	defer patience.Stop()
	ctx, cancel := context.WithCancel(within(t, time.Minute))
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- NewExec(hooks.Exec{Command: []string{path}}, "").Apply(ctx) }()
	eventually(t, "the launcher", func() bool { return len(launchers(t)) == 1 })
	runtime.GC()
	if patience.Stop() {
		cancel()
	} else {
		t.Error("the world could not be stopped while the exec hung")
	}
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if left := launchers(t); len(left) > 0 {
		t.Errorf("processes %v still run", left)
	}
}

// launchers returns the children of this process that have not become a program.
func launchers(t *testing.T) (pids []string) {
	t.Helper()
	children, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range children {
		data, _ := os.ReadFile(file)
		for _, pid := range strings.Fields(string(data)) {
			if line, _ := os.ReadFile("/proc/" + pid + "/cmdline"); strings.HasPrefix(string(line), program.LauncherName+"\x00") {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func TestExecOnADeadFileSystem(t *testing.T) {
	path := filepath.Join(deadFileSystem(t), "program")
	for name, a := range map[string]hooks.Exec{
		"command": {Command: []string{path}},
		"verify":  {Command: []string{"true"}, Verify: []string{path}},
		"path":    {Command: []string{"program"}, Env: map[string]string{"PATH": filepath.Dir(path)}},
	} {
		t.Run(name, func(t *testing.T) {
			outcome, detail := Execute(within(t, 100*time.Millisecond), NewExec(a, ""))
			if outcome != hooks.TimedOut {
				t.Errorf("%v: %s", outcome, detail)
			}
		})
	}
}

// A verify program that not even SIGKILL ends is started once, however often its step
// is checked, and again when the file server is back.
func TestVerifyThatTheKernelHolds(t *testing.T) {
	fs := deadfs.Mount(t)
	held := filepath.Join(fs.Dir, "a")
	log := filepath.Join(t.TempDir(), "runs")
	a := hooks.Exec{Command: []string{"true"}, Verify: []string{"/bin/sh", "-c", "echo >> " + log + "; stat " + held + "; exit 0"}}
	runs := func() int {
		data, _ := os.ReadFile(log)
		return len(data)
	}
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := NewExec(a, "").Check(ctx)
		first <- err
	}()
	eventually(t, "the kernel holds it", func() bool { return fs.Asked() > 0 })
	cancel()
	stuck := (*program.StuckError)(nil)
	if err := <-first; !errors.As(err, &stuck) || len(stuck.Left) != 1 {
		t.Fatalf("the first check: %v", err)
	}
	for range 3 {
		state, err := NewExec(a, "").Check(within(t, 30*time.Second))
		if state != Cannot || !errors.As(err, &stuck) {
			t.Errorf("a check beside it: %v, %v", state, err)
		}
	}
	if n := runs(); n != 1 {
		t.Errorf("it was started %d times", n)
	}
	fs.Release()
	<-stuck.Gone
	if state, err := NewExec(a, "").Check(within(t, 30*time.Second)); state != Ok || runs() != 2 {
		t.Errorf("when it is gone: %v, %v, %d runs", state, err, runs())
	}
}
