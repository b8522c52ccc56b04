package main

// Programs of steps that hang, leave things behind or cannot run, under whole daemons.

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/program"
)

// Scripts find their directory in $MARK, and so does everything they start: by that
// a test finds what is left of them.
var hostileScripts = map[string]string{
	"ok": "exit 0",
	// deaf hears no SIGTERM, nor does its child, which writes down that it lives.
	"deaf": `trap '' TERM
sh -c 'trap "" TERM; echo $$ >> $MARK/deaf-pids; while :; do now=$(date +%s%N) && echo $$ $now >> $MARK/breath; sleep 0.01; done' &
while :; do sleep 1; done`,
	// escaping is deaf, and leaves a process in a session of its own that nobody waits for.
	"escaping": `trap '' TERM
(setsid sh -c 'trap "" TERM; echo $$ >> $MARK/deaf-pids; while :; do now=$(date +%s%N) && echo $$ $now >> $MARK/breath; sleep 0.01; done' &)
while :; do sleep 1; done`,
	"flood":  "head -c 1073741824 /dev/zero",
	"holder": "sleep 1000 & exit 0", // of the pipe
	"look":   "ip -o -4 address show dev veth0 > $MARK/seen",
	"remove": "rm $MARK/program",
	"stamp":  "date +%s%N >> $MARK/stamps",
	"env":    "test ${#BIG} = 10000",
}

// hostileDir makes the scripts.
func hostileDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range hostileScripts {
		write(t, filepath.Join(dir, name), text+"\n")
	}
	makeProgram(t, dir)
	t.Cleanup(func() {
		for _, pid := range leftovers(dir) {
			t.Errorf("process %d is left", pid)
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	})
	return dir
}

// makeProgram puts a new file in place of one that a daemon may be running.
func makeProgram(t *testing.T, dir string) {
	t.Helper()
	file := filepath.Join(dir, "program")
	if err := errors.Join(os.WriteFile(file+".new", []byte("#!/bin/sh\n"), 0o755), os.Rename(file+".new", file)); err != nil {
		t.Fatal(err)
	}
}

// leftovers returns the processes that have dir in their environment.
func leftovers(dir string) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range files {
		if env, err := os.ReadFile(file); err == nil && slices.Contains(strings.Split(string(env), "\x00"), "MARK="+dir) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// script is a step that runs one of the scripts; one that hangs does so until its timeout.
func script(dir, name, file, timeout string) string {
	return fmt.Sprintf("{name: %s, timeout: %s, exec: {command: [/bin/sh, %s/%s], env: {MARK: %s}}}", name, timeout, dir, file, dir)
}

func hostileInstance(promote, demote []string) string {
	return fmt.Sprintf("  - {name: a, interface: veth0, vrid: 51, vips: [192.0.2.100/24], lease: 3s, heartbeat: {advert_interval: 200ms},\n"+
		"     promote: [%s],\n     demote: [%s]}\n", strings.Join(promote, ",\n      "), strings.Join(demote, ",\n      "))
}

// ended waits for the end of a transition that leads to a state, and returns it.
func (r *reloadRig) ended(kind, state string) *control.Transition {
	r.t.Helper()
	var in control.Instance
	eventually(r.t, "the end of a transition: "+kind, func() bool {
		in = r.status().Instances[0]
		return in.State == state && in.LastTransition != nil && in.LastTransition.Kind == kind && in.LastTransition.Result != "running"
	})
	return in.LastTransition
}

// TestHostileStepsOfAnUnplannedDemotion: the address goes before anything else, and
// each of the steps ends as it must, within its timeout.
func TestHostileStepsOfAnUnplannedDemotion(t *testing.T) {
	if !inside(t) {
		return
	}
	veth(t, "veth0", "veth1", "192.0.2.11/24")
	dir := hostileDir(t)
	busy, err := os.OpenFile(filepath.Join(dir, "busy"), os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	plain := func(name, what string) string { return fmt.Sprintf("{name: %s, timeout: 5s, exec: %s}", name, what) }
	want := map[string]string{
		"look": "changed", "deaf": "timed_out: context deadline exceeded", "holder": "changed", "flood": "changed", "remove": "changed",
		"vanished": "failed: no such file or directory", "directory": "failed: not a regular file", "not executable": "failed: not executable",
		"busy": "failed: text file busy", "nobody": "failed: unknown user", "env": "changed", "vip release": "unchanged", "last": "changed",
	}
	demote := []string{
		script(dir, "look", "look", "5s"), script(dir, "deaf", "deaf", "1s"), script(dir, "holder", "holder", "5s"),
		script(dir, "flood", "flood", "60s"), script(dir, "remove", "remove", "5s"),
		plain("vanished", "{command: ["+dir+"/program]}"), plain("directory", "{command: ["+dir+"]}"),
		plain("not executable", "{command: ["+dir+"/ok]}"), plain("busy", "{command: ["+dir+"/busy]}"),
		plain("nobody", "{command: [/bin/true], user: tanist-no-such-account}"),
		plain("env", "{command: [/bin/sh, "+dir+"/env], env: {BIG: "+strings.Repeat("x", 10000)+"}}"),
		"{vip: release}", script(dir, "last", "ok", "5s"),
	}
	if program.DelegatedCgroup() != "" {
		demote = append(demote, script(dir, "escaping", "escaping", "1s"))
		want["escaping"] = "timed_out: context deadline exceeded"
	}
	r := newReloadRig(t, hostileInstance([]string{"{vip: acquire}"}, demote))
	r.active("a")

	setLink(t, "veth0", netlink.LinkSetDown)
	tr := r.ended("demote", "fault")
	got := map[string]string{}
	for _, s := range tr.Steps {
		got[s.Name] = s.Result
		if result, detail, hasDetail := strings.Cut(want[s.Name], ": "); hasDetail && s.Result == result && strings.Contains(s.Detail, detail) {
			got[s.Name] = want[s.Name]
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s\n%+v\n%s", diff, tr, r.daemon.stderr)
	}
	if names := slices.Sorted(maps.Keys(got)); len(names) != len(demote) {
		t.Errorf("steps %v", names)
	}
	look, err := os.ReadFile(filepath.Join(dir, "seen"))
	if err != nil || strings.Contains(string(look), "192.0.2.100/") || !strings.Contains(string(look), "192.0.2.11/") {
		t.Errorf("when the first step ran, veth0 had %s (%v)", look, err)
	}
	if left := leftovers(dir); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
	setLink(t, "veth0", netlink.LinkSetUp)
	r.active("a")
	r.leave()
}

// leave ends the daemon in order.
func (r *reloadRig) leave() {
	r.t.Helper()
	if err := r.daemon.Process.Signal(unix.SIGTERM); err != nil {
		r.t.Fatal(err)
	}
	if code := r.daemon.end(r.t); code != exitOK {
		r.t.Errorf("exit status %d\n%s", code, r.daemon.stderr)
	}
}

// TestHostileStepsOfASwitchover: a step in front of vip that does not end well takes
// the switchover back, with the address where it was all the time; one behind it does
// not hold the address.
func TestHostileStepsOfASwitchover(t *testing.T) {
	if !inside(t) {
		return
	}
	veth(t, "veth0", "veth1", "192.0.2.11/24")
	dir := hostileDir(t)
	write(t, filepath.Join(dir, "before"), "exec /bin/sh $MARK/$(cat $MARK/mode-before)\n")
	write(t, filepath.Join(dir, "after"), "exec /bin/sh $MARK/$(cat $MARK/mode-after)\n")
	plan := hostileInstance([]string{"{vip: acquire}"}, []string{
		script(dir, "before", "before", "2s"), "{name: program, exec: {command: [" + dir + "/program]}}",
		"{vip: release}", script(dir, "after", "after", "2s"),
	})
	primary := newReloadRig(t, plan)
	reserve := startReserve(t, plan)
	for _, r := range []*reloadRig{primary, reserve} {
		eventually(t, "the daemon", func() bool { _, err := r.client.Status(t.Context()); return err == nil })
	}
	socket := filepath.Join(filepath.Dir(primary.file), "s")
	off := watchAddresses(t)
	for _, tc := range []struct {
		name, before, after string
		code                int
		says                string
	}{
		{"hung", "deaf", "ok", switchoverRolledBack, "before"},
		{"hung in a session of its own", "escaping", "ok", switchoverRolledBack, "before"},
		{"vanished since the check", "remove", "ok", switchoverRolledBack, "no such file or directory"},
		{"gone at the check", "ok", "ok", switchoverRefused, "no such file or directory"},
		{"hung behind the address", "holder", "deaf", 1, "a later step did not end well"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.before == "escaping" && program.DelegatedCgroup() == "" {
				t.Skip("needs a control group (version 2, Linux 5.14) that this process may divide")
			}
			if tc.code != switchoverRefused {
				makeProgram(t, dir)
			}
			write(t, filepath.Join(dir, "mode-before"), tc.before)
			write(t, filepath.Join(dir, "mode-after"), tc.after)
			primary.active("a")
			eventually(t, "a peer that can take over", func() bool {
				in := primary.status().Peer.Instances
				return len(in) == 1 && in[0].State == "backup" && reserve.status().Instances[0].Reason == "peer_active"
			})
			got := tanist(t, "switchover", "--socket", socket)
			if got.code != tc.code || !strings.Contains(got.stdout+got.stderr, tc.says) {
				t.Errorf("%+v", got)
			}
			moved := slices.Contains(off.addresses(), "192.0.2.100/24")
			if moved != (tc.code == 1) {
				t.Errorf("taken off: %v", off.addresses())
			}
			if left := leftovers(dir); len(left) > 0 {
				t.Errorf("processes %v are left", left)
			}
		})
	}
	reserve.active("a")
	primary.leave()
	reserve.leave()
}

// nanoseconds reads what `date +%s%N` wrote, as the last word of each line, by the
// word in front of it.
func nanoseconds(t *testing.T, file string) map[string][]int64 {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	all := map[string][]int64{}
	for line := range strings.Lines(string(data)) {
		words := strings.Fields(line)
		if !strings.HasSuffix(line, "\n") || len(words) == 0 {
			continue // its writer was killed
		}
		n, err := strconv.ParseInt(words[len(words)-1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		who := strings.Join(words[:len(words)-1], " ")
		all[who] = append(all[who], n)
	}
	return all
}

// TestNewerTransitionWaitsForTheLastChild: the steps of one transition and of the
// next never overlap, but the address waits for neither.
func TestNewerTransitionWaitsForTheLastChild(t *testing.T) {
	if !inside(t) {
		return
	}
	veth(t, "veth0", "veth1", "192.0.2.11/24")
	dir := hostileDir(t)
	hangs := "deaf"
	if program.DelegatedCgroup() != "" {
		hangs = "escaping"
	}
	breath, stamp, pidFile := filepath.Join(dir, "breath"), filepath.Join(dir, "stamps"), filepath.Join(dir, "deaf-pids")
	pids := func() []string {
		data, _ := os.ReadFile(pidFile)
		return strings.Fields(string(data))
	}
	var mu sync.Mutex // guards besides
	besides := 0      // releases of the address beside a living step of the promotion
	atRelease(t, func() {
		mu.Lock()
		defer mu.Unlock()
		if all := pids(); len(all) > 0 && exists("/proc/"+all[len(all)-1]) {
			besides++
		}
	})
	r := newReloadRig(t, hostileInstance(
		[]string{script(dir, "first", "stamp", "30s"), "{vip: acquire}", script(dir, "hangs", hangs, "600s")},
		[]string{script(dir, "first", "stamp", "30s"), script(dir, "hangs", hangs, "600s"), "{vip: release}"}))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("processes %v, breaths of %v\n%s", pids(), slices.Sorted(maps.Keys(nanoseconds(t, breath))), r.daemon.stderr)
		}
	})
	const rounds = 3
	for i := range 2*rounds + 1 { // promotions and demotions in turn
		switch {
		case i%2 == 1:
			setLink(t, "veth0", netlink.LinkSetDown)
		case i > 0:
			setLink(t, "veth0", netlink.LinkSetUp)
		}
		eventually(t, fmt.Sprintf("the hanging step of transition %d", i), func() bool { return len(pids()) == i+1 && len(nanoseconds(t, breath)) == i+1 })
	}
	began, lived, all := nanoseconds(t, stamp)[""], nanoseconds(t, breath), pids()
	if len(began) != len(all) {
		t.Fatalf("%d transitions had %d first steps\n%s", len(all), len(began), r.daemon.stderr)
	}
	for i, pid := range all {
		first, last := slices.Min(lived[pid]), slices.Max(lived[pid])
		if first < began[i] || i+1 < len(all) && last >= began[i+1] {
			t.Errorf("the hanging step of transition %d lived from %d to %d, the next one began at %v", i, first, last, began[i+1:])
		}
	}
	mu.Lock()
	if besides != rounds {
		t.Errorf("in %d of %d demotions the address went while the promotion's step still lived", besides, rounds)
	}
	mu.Unlock()

	// Twenty changes of mind, and then one role.
	for range 10 {
		setLink(t, "veth0", netlink.LinkSetDown)
		setLink(t, "veth0", netlink.LinkSetUp)
	}
	setLink(t, "veth0", netlink.LinkSetDown)
	write(t, filepath.Join(dir, hangs), "exit 0\n")
	eventually(t, "rest", func() bool {
		in := r.status().Instances[0]
		return in.State == "fault" && in.LastTransition.Result == "completed" && len(leftovers(dir)) == 0
	})
	if slices.Contains(held("veth0"), "192.0.2.100/24") {
		t.Error("it still has the address")
	}
	r.leave()
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// atRelease calls f whenever the kernel says that the address was taken off.
func atRelease(t *testing.T, f func()) {
	t.Helper()
	updates, done := make(chan netlink.AddrUpdate, 1024), make(chan struct{})
	if err := netlink.AddrSubscribe(updates, done); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(done) })
	go func() {
		for u := range updates {
			if !u.NewAddr && u.LinkAddress.String() == "192.0.2.100/24" {
				f()
			}
		}
	}()
}

// TestSecondSignalLeavesNoProgram: a daemon that is ended at once takes the programs of
// its steps along, deaf ones too.
func TestSecondSignalLeavesNoProgram(t *testing.T) {
	if !inside(t) {
		return
	}
	veth(t, "veth0", "veth1", "192.0.2.11/24")
	dir := hostileDir(t)
	r := newReloadRig(t, hostileInstance([]string{"{vip: acquire}"}, []string{script(dir, "deaf", "deaf", "600s"), "{vip: release}"}))
	r.active("a")
	for range 2 {
		if err := r.daemon.Process.Signal(unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the deaf step", func() bool { return exists(filepath.Join(dir, "breath")) })
	}
	if code := r.daemon.end(t); code != exitDied {
		t.Errorf("exit status %d\n%s", code, r.daemon.stderr)
	}
	if left := leftovers(dir); len(left) > 0 {
		t.Errorf("processes %v are left\n%s", left, r.daemon.stderr)
	}
}

// TestStepOnADeadFileSystem: the kernel gives no answer and takes none back. The step
// is given up for lost and the plan goes on; the daemon can still end.
func TestStepOnADeadFileSystem(t *testing.T) {
	if !inside(t) {
		return
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("needs FUSE: %v", err)
	}
	defer unix.Close(fd)
	dead := t.TempDir()
	if err := unix.Mount("tanist-test", dead, "fuse", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)); err != nil {
		t.Skipf("needs FUSE: %v", err)
	}
	defer func() { _ = unix.Unmount(dead, unix.MNT_DETACH) }()
	veth(t, "veth0", "veth1", "192.0.2.11/24")
	dir := hostileDir(t)
	r := newReloadRig(t, hostileInstance([]string{"{vip: acquire}"}, []string{
		"{name: dead, timeout: 1s, yaml: {file: " + dead + "/label, key: a, value: b}}", "{vip: release}", script(dir, "after", "look", "5s"),
	}))
	r.active("a")
	setLink(t, "veth0", netlink.LinkSetDown)
	tr := r.ended("demote", "fault")
	got := map[string]string{}
	for _, s := range tr.Steps {
		got[s.Name] = s.Result
	}
	if diff := cmp.Diff(map[string]string{"dead": "lost", "vip release": "unchanged", "after": "changed"}, got); diff != "" {
		t.Errorf("%s\n%s", diff, r.daemon.stderr)
	}
	if err := r.daemon.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := r.daemon.end(t); code != exitDied || !strings.Contains(r.daemon.stderr.String(), "does not answer") {
		t.Errorf("exit status %d\n%s", code, r.daemon.stderr)
	}
}
