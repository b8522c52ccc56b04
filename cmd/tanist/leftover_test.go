package main

// What a daemon leaves to its children, and what is left of a daemon.

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/tanist-ha/tanist/internal/control"
)

// TestProgramsInheritNothing: what the service manager gave the daemon, and what the
// daemon opened, does not reach the programs of its steps.
func TestProgramsInheritNothing(t *testing.T) {
	if !inside(t) {
		return
	}
	veth(t, "veth0", "veth1", "192.0.2.11/24")
	dir := hostileDir(t)
	write(t, filepath.Join(dir, "tell"), `exec > $MARK/telling
env | grep -v -e ^_= -e ^PWD= -e ^SHLVL= -e ^MARK= | sort
ls /proc/$$/fd # 10 is the script
umask; grep -E '^Sig(Blk|Ign)' /proc/self/status; nice; mv $MARK/telling $MARK/told`+"\n")
	r, args := prepareReloadRig(t, "primary", hostileInstance(
		[]string{script(dir, "tell", "tell", "30s"), "{vip: acquire}"}, []string{"{vip: release}"}))
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "n"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	open, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	p := tanistProcess{exec.CommandContext(t.Context(), "/bin/sh", append([]string{"-c", `umask 077; trap '' QUIT USR1; exec "$@"`, "sh", os.Args[0]}, args...)...), &lockedBuffer{}}
	p.Env = append(os.Environ(), mainVariable+"=1", "NOTIFY_SOCKET="+filepath.Join(dir, "n"), "WATCHDOG_USEC=30000000",
		"CREDENTIALS_DIRECTORY=/run/credentials", "INVOCATION_ID=1", "JOURNAL_STREAM=1:2", "LISTEN_FDS=1", "SECRET=leaks")
	p.Stderr, p.ExtraFiles = p.stderr, []*os.File{open}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	r.daemon = p
	r.active("a")
	told, err := os.ReadFile(filepath.Join(dir, "told"))
	if err != nil {
		t.Fatal(err)
	}
	const want = "LANG=C.UTF-8\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n" +
		"0\n1\n10\n2\n0022\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n0\n"
	if diff := cmp.Diff(want, string(told)); diff != "" {
		t.Error(diff)
	}
	r.leave()
}

// TestDaemonLeavesNothingBehind: after its life no goroutine, descriptor or child of a
// daemon is left, whatever its steps did.
func TestDaemonLeavesNothingBehind(t *testing.T) {
	if !inside(t) {
		return
	}
	veth(t, "veth0", "veth1", "192.0.2.11/24")
	dir := hostileDir(t)
	instance := hostileInstance([]string{script(dir, "flood", "holder", "30s"), "{vip: acquire}"},
		[]string{script(dir, "deaf", "deaf", "1s"), "{vip: release}"})
	r, args := prepareReloadRig(t, "primary", instance)
	c := &common{config: r.file, node: "primary", socket: args[6], stateDir: args[8]}
	fds, routines := descriptors(t), ours()
	file, self, err := load(c)
	if err != nil {
		t.Fatal(err)
	}
	log, err := newLogger(file.Log, "primary")
	if err != nil {
		t.Fatal(err)
	}
	d, err := build(c, file, self, log)
	if err != nil {
		t.Fatal(err)
	}
	leave, left := context.WithCancel(t.Context())
	reload, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() { ended <- d.run(leave, t.Context(), reload, c.socket) }()
	r.active("a")
	setLink(t, "veth0", netlink.LinkSetDown)
	r.ended("demote", "fault")
	setLink(t, "veth0", netlink.LinkSetUp)
	r.active("a")
	r.write(reloadHead + instance + instanceB)
	reload <- struct{}{}
	r.active("a", "b")
	r.write(reloadHead + instance)
	reload <- struct{}{}
	eventually(t, "one instance", func() bool {
		doc, err := r.client.Status(t.Context())
		return err == nil && len(doc.Instances) == 1 && doc.Reload.Result == reloadApplied
	})
	left()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	r.client = control.Dial(c.socket)
	eventually(t, "the end of every goroutine", func() bool { runtime.GC(); return len(ours()) <= len(routines) })
	if diff := cmp.Diff(fds, descriptors(t)); diff != "" {
		t.Errorf("descriptors: %s", diff)
	}
	children, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil || len(children) == 0 {
		t.Fatal(err)
	}
	for _, file := range children {
		if data, _ := os.ReadFile(file); len(data) > 0 {
			t.Errorf("children %s are left", data)
		}
	}
}

// ours returns the goroutines that run this module's code, but for the tests'.
func ours() []string {
	buf := make([]byte, 8<<20)
	all := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
	return slices.DeleteFunc(all, func(stack string) bool {
		return !strings.Contains(stack, "tanist-ha/tanist") || strings.Contains(stack, "testing.tRunner") || strings.Contains(stack, "_test.go")
	})
}

// descriptors returns what this process has open, in words that bear comparing.
func descriptors(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var open []string
	for _, e := range entries {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil {
			continue // the directory's own
		}
		kind, _, _ := strings.Cut(to, ":[")
		if kind == "anon_inode" || strings.HasPrefix(to, "anon_inode:") {
			kind = to // the runtime's poller
		}
		open = append(open, kind)
	}
	slices.Sort(open)
	return open
}
