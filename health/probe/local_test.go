package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/test/deadfs"
)

// named runs a program under another name and returns its process.
func named(t *testing.T, argv0, file string) *exec.Cmd {
	t.Helper()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip("needs sleep")
	}
	program, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), file)
	if err := os.WriteFile(path, program, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := &exec.Cmd{Path: path, Args: []string{argv0, "1000"}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

func TestProcess(t *testing.T) {
	const comm, argument = "tanist-a) Z 1", "tanist-under-quite-a-long-name"
	bad(t, &Process{Name: comm}, "no process is called "+comm)
	cmd := named(t, "/usr/lib/"+argument, comm)
	p := &Process{Name: comm}
	well(t, p)
	well(t, p) // the one found before
	well(t, &Process{Name: argument})
	bad(t, &Process{Name: argument[:15]})
	bad(t, &Process{Name: "lib"})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// Until it is waited for it is a zombie, whose name /proc still has.
	eventually(t, "it is a zombie", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		return err == nil && strings.Contains(string(stat), comm+") Z ")
	})
	bad(t, p)
	named(t, "other", comm)
	well(t, p)
}

func shell(script string) Exec { return Exec{Command: []string{"/bin/sh", "-c", script}} }

// The convention of keepalived's vrrp_script: 0 is good, everything else is bad.
func TestExec(t *testing.T) {
	well(t, shell("exit 0"))
	well(t, Exec{Command: []string{"true"}})
	bad(t, shell("echo no room >&2; exit 1"), "/bin/sh: exit status 1: no room")
	bad(t, shell("kill -9 $$"), "ended by signal: killed")
	unusable(t, Exec{Command: []string{"/nowhere/program"}}, "run /nowhere/program")
	unusable(t, Exec{Command: []string{"true"}, User: "tanist-no-such-account"}, "tanist-no-such-account")
	t.Run("user", func(t *testing.T) {
		needRoot(t, "runs a program as another account")
		e := shell(`test "$(id -un)" = daemon`)
		e.User = "daemon"
		well(t, e)
	})
}

func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// A program that ignores SIGTERM, and so does what it forked: the sample does not
// wait for it, and all of it ends.
func TestExecThatHangs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	e := shell(`trap "" TERM; sh -c 'trap "" TERM; while :; do sleep 1; done' & echo $$ $! > ` + file + `; while :; do sleep 1; done`)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Probe(ctx) }()
	var pids []int
	eventually(t, "it runs", func() bool {
		b, _ := os.ReadFile(file)
		pids = nil
		for _, f := range strings.Fields(string(b)) {
			pid, _ := strconv.Atoi(f)
			pids = append(pids, pid)
		}
		return len(pids) == 2 && strings.HasSuffix(string(b), "\n")
	})
	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("process %d still runs", pid)
		}
	}
}

// What cmd hands over is tested there.
func TestHandedOver(t *testing.T) {
	stopped := errors.New("stopped")
	u := unitsOf(map[string]error{"a.service": nil, "b.service": stopped})
	well(t, Unit{Name: "a.service", Units: u})
	bad(t, Unit{Name: "b.service", Units: u}, "stopped")
	d := databasesOf(map[string]error{"a": nil, "b": stopped})
	well(t, Database{Name: "a", Databases: d})
	bad(t, Database{Name: "b", Databases: d}, "stopped")
}

type unitsOf map[string]error

func (u unitsOf) Runs(_ context.Context, unit string) error { return u[unit] }

type databasesOf map[string]error

func (d databasesOf) Ping(_ context.Context, name string) error { return d[name] }

func mountTmpfs(t *testing.T, options string) string {
	t.Helper()
	needRoot(t, "mounts a tmpfs")
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("cannot mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func TestDisk(t *testing.T) {
	unusable(t, Disk{Path: "/nowhere", MinFree: 1}, "/nowhere does not exist")
	unusable(t, Disk{Path: "/proc", MinFree: 1}, "has no size")
	t.Run("blocks", func(t *testing.T) {
		dir := mountTmpfs(t, "size=4m")
		well(t, Disk{Path: dir, MinFree: 60})
		write(t, filepath.Join(dir, "half"), 2<<20)
		well(t, Disk{Path: dir, MinFree: 45})
		bad(t, Disk{Path: dir, MinFree: 55}, "50.0% of "+dir+" is free, less than 55%")
		write(t, filepath.Join(dir, "rest"), 2<<20)
		bad(t, Disk{Path: dir, MinFree: 0.1}, "0.0% of "+dir)
	})
	t.Run("inodes", func(t *testing.T) {
		dir := mountTmpfs(t, "size=4m,nr_inodes=20")
		well(t, Disk{Path: dir, MinFree: 50})
		for i := range 14 {
			write(t, filepath.Join(dir, strconv.Itoa(i)), 0)
		}
		bad(t, Disk{Path: dir, MinFree: 50}, "of the inodes of "+dir)
	})
	t.Run("read-only", func(t *testing.T) {
		dir := mountTmpfs(t, "size=4m")
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		bad(t, Disk{Path: dir, MinFree: 1}, "is read-only")
	})
}

func write(t *testing.T, path string, size int) {
	t.Helper()
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "stamp")
	bad(t, File{Path: path}, path+" does not exist")
	if err := os.WriteFile(path, []byte("state=ready\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	well(t, File{Path: path})
	well(t, File{Path: dir})
	well(t, File{Path: path, MaxAge: time.Hour, Contains: "=ready"})
	bad(t, File{Path: path, Contains: "failed"}, `does not contain "failed"`)
	bad(t, File{Path: dir, Contains: "x"}, "is not a regular file")
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	bad(t, File{Path: pipe, Contains: "x"}, "is not a regular file")
	old := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	bad(t, File{Path: path, MaxAge: time.Hour}, "was last written 2h0m0s ago, more than 1h0m0s")
	if err := os.WriteFile(path, append(make([]byte, fileLimit), "beyond"...), 0o600); err != nil {
		t.Fatal(err)
	}
	bad(t, File{Path: path, Contains: "beyond"})
}

// A program that not even SIGKILL ends is still being asked, though its shell is dead.
func TestExecThatTheKernelHolds(t *testing.T) {
	needRoot(t, "mounts a file system")
	fs := deadfs.Mount(t)
	e := shell("stat " + filepath.Join(fs.Dir, "a") + "; exit 0")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- e.Probe(ctx) }()
	eventually(t, "the kernel holds it", func() bool { return fs.Asked() > 0 })
	cancel()
	select {
	case err := <-ended:
		t.Errorf("it was taken for answered while %v was there: %v", processesWith(t, fs.Dir), err)
		ended <- err
	case <-time.After(10 * time.Second): // SIGTERM, SIGKILL and what they are waited for
	}
	fs.Release()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("no error")
		}
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
	if left := processesWith(t, fs.Dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// processesWith returns those whose arguments have the text.
func processesWith(t *testing.T, text string) (pids []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if line, _ := os.ReadFile(file); strings.Contains(string(line), text) {
			pids = append(pids, filepath.Base(filepath.Dir(file)))
		}
	}
	return pids
}
