package main

// Daemons whose journal's disk is full, read-only or broken: real file systems, and
// system calls that fail.

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/hooks/journal"
	"github.com/tanist-ha/tanist/internal/control"
)

// smallDisk mounts a tmpfs of this size for the rest of the test.
func smallDisk(t *testing.T, dir, size string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("needs a tmpfs of its own: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// fill leaves no room, and returns how to make some.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	name := filepath.Join(dir, "ballast")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	for size := 1 << 16; size > 0; { // down to the last byte
		if _, err = f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	if err := f.Close(); !errors.Is(err, unix.ENOSPC) && err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

// diskPair is two daemons without databases. The reserve runs in a network of its
// own; the primary's state directory is dir/primary.
type diskPair struct {
	t   *testing.T
	dir string
	on  map[string]tanistProcess
}

func newDiskPair(t *testing.T) *diskPair {
	t.Helper()
	p := &diskPair{t: t, dir: t.TempDir(), on: map[string]tanistProcess{}}
	key := filepath.Join(p.dir, "key")
	if got := tanist(t, "keygen", key); got.code != exitOK {
		t.Fatalf("keygen: %+v", got)
	}
	write(t, filepath.Join(p.dir, "tanist.yaml"), fmt.Sprintf(pairConfig, key, "advert_interval: 250ms"))
	t.Cleanup(func() {
		for node, d := range p.on {
			if t.Failed() {
				t.Logf("%s:\n%s", node, d.stderr)
			}
		}
	})
	return p
}

func (p *diskPair) flags(node string) []string {
	if err := os.MkdirAll(p.state(node), 0o700); err != nil {
		p.t.Fatal(err)
	}
	return []string{
		"--config", filepath.Join(p.dir, "tanist.yaml"), "--node", node, "--socket", filepath.Join(p.dir, node+".s"), "--state-dir", p.state(node),
	}
}

func (p *diskPair) state(node string) string { return filepath.Join(p.dir, node) }

func (p *diskPair) startReserve() {
	p.on["reserve"] = inAnotherNetwork(p.t, "192.0.2.12/24", append([]string{"run"}, p.flags("reserve")...)...)
	addAddress(p.t, "veth0", "192.0.2.11/24")
}

func (p *diskPair) startPrimary() {
	p.on["primary"] = startTanist(p.t, append([]string{"run"}, p.flags("primary")...)...)
}

func (p *diskPair) document(node string) control.Document {
	doc, _ := control.Dial(filepath.Join(p.dir, node+".s")).Status(p.t.Context())
	return doc
}

func (p *diskPair) instance(node string) (in control.Instance) {
	if doc := p.document(node); len(doc.Instances) > 0 {
		in = doc.Instances[0]
	}
	return in
}

func (p *diskPair) until(node, state string) {
	p.t.Helper()
	eventually(p.t, node+" to be "+state, func() bool { return p.instance(node).State == state })
}

func (p *diskPair) writable(node string, want bool) control.Journal {
	p.t.Helper()
	var j control.Journal
	eventually(p.t, fmt.Sprintf("the journal of %s to be writable: %t", node, want), func() bool {
		doc := p.document(node)
		if doc.Journal != nil {
			j = *doc.Journal
		}
		return doc.Journal != nil && j.Writable == want
	})
	return j
}

func (p *diskPair) signal(node string, s os.Signal) {
	p.t.Helper()
	if err := p.on[node].Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

func (p *diskPair) leaves(node string) {
	p.t.Helper()
	p.signal(node, syscall.SIGTERM)
	if code := p.on[node].end(p.t); code != exitOK {
		p.t.Errorf("%s: exit status %d", node, code)
	}
}

// whole reads a journal that must have no damage.
func (p *diskPair) whole(node string) []hooks.Passage {
	p.t.Helper()
	c, err := journal.Read(filepath.Join(p.state(node), "journal"))
	if err != nil || len(c.Damage) > 0 || c.Torn || c.Unread > 0 {
		p.t.Fatalf("the journal of %s: %v, torn %t, %d unread, %v", node, c.Damage, c.Torn, c.Unread, err)
	}
	return hooks.History(c.Entries)
}

// A standby whose disk is full refuses and says so, long before and at the time; with
// room again it takes over, without a restart and with a whole journal.
func TestStandbyOnAFullDisk(t *testing.T) {
	if !inside(t) {
		return
	}
	p := newDiskPair(t)
	smallDisk(t, p.state("reserve"), "1m")
	p.startReserve()
	p.startPrimary()
	p.until("primary", "active")
	p.until("reserve", "backup")
	p.writable("reserve", true)
	// The room that it keeps is taken from it: what is left is a full disk.
	p.leaves("reserve")
	fillPage(t, filepath.Join(p.state("reserve"), "journal"))
	free := fill(t, p.state("reserve"))
	deleteLink(t)
	p.startReserve()
	j := p.writable("reserve", false)
	if !strings.Contains(j.Error, "no space left on device") {
		t.Errorf("%+v", j)
	}
	p.until("reserve", "backup")
	if got := tanist(t, append([]string{"status"}, p.flags("reserve")...)...); !strings.Contains(got.stdout, "the journal cannot be written") {
		t.Errorf("status: %s", got.stdout)
	}
	for _, node := range []string{"primary", "reserve"} {
		eventually(t, "a dry run on "+node+" that says so", func() bool { // once they have heard each other again
			got := tanist(t, append([]string{"switchover", "--dry-run"}, p.flags(node)...)...)
			return got.code == switchoverRefused && strings.Contains(got.stderr, "the journal could not be written: reserve: ")
		})
	}
	got := tanist(t, append([]string{"check"}, p.flags("reserve")...)...)
	if got.code != exitProblem || !strings.Contains(got.stderr, "KiB free") || !strings.Contains(got.stderr, "cannot write its journal") {
		t.Errorf("check: %+v", got)
	}
	got = tanist(t, append([]string{"replication", "stop", "--all"}, p.flags("reserve")...)...)
	if got.code != exitProblem || !strings.Contains(got.stderr, "nothing was changed: journal who wants it: ") || !strings.Contains(got.stderr, "no space left") {
		t.Errorf("a command that nobody could know of: %+v", got)
	}
	p.signal("primary", syscall.SIGKILL)
	_ = p.on["primary"].Wait()
	eventually(t, "the refusal", func() bool {
		in := p.instance("reserve")
		return in.State == "refused" && in.Reason == "journal_failed"
	})
	if log := p.on["reserve"].stderr.String(); !strings.Contains(log, "journal_failed") || !strings.Contains(log, "no space left") {
		t.Errorf("the log does not say why:\n%s", log)
	}
	free()
	p.until("reserve", "active")
	p.writable("reserve", true)
	if log := p.on["reserve"].stderr.String(); !strings.Contains(log, "the journal can be written again") {
		t.Errorf("the log does not say that it can be written:\n%s", log)
	}
	p.leaves("reserve")
	promotions := 0
	for _, passage := range p.whole("reserve") {
		if passage.Record.Role == hooks.Active && passage.Ending == hooks.Completed {
			promotions++
		}
	}
	if promotions != 1 {
		t.Errorf("%d promotions in the journal", promotions)
	}
}

// fillPage lets a journal end where a page does, and takes what lies behind it from
// it, so that its next record needs room that a full disk does not have.
func fillPage(t *testing.T, path string) {
	t.Helper()
	size := func() int64 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	add := func(letters int64) {
		j, _, err := journal.Open(path)
		if err == nil {
			err = errors.Join(j.Append(hooks.Record{
				Kind: hooks.Override, Instance: "compass", Epoch: 1, Reason: strings.Repeat("x", int(letters)),
			}), j.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	page := int64(os.Getpagesize())
	rest := int64(0) // of a record, beside its letters
	for range 50 {   // a date and a number have as many digits as they need
		if over := size() % page; over != 0 || rest == 0 {
			before, letters := size(), max(1, 2*page-over-rest)
			add(letters)
			rest = size() - before - letters
			continue
		}
		if err := os.Truncate(path, size()); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatal("the journal does not end with a page")
}

// deleteLink removes the wire to a network that is gone, if its end is still here.
func deleteLink(t *testing.T) {
	t.Helper()
	if l, err := netlink.LinkByName("veth0"); err == nil {
		// It can go by itself meanwhile, with the namespace of its other end.
		if err := netlink.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
			t.Fatal(err)
		}
	}
}

// An Active whose journal fails with an error of the device steps down in every way
// there is, and what it could not write is in the journal when the device is back.
func TestActiveOnAFailingDisk(t *testing.T) {
	t.Parallel()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("needs strace to let system calls fail")
	}
	for failing, ways := range map[string][]string{
		"fdatasync,fsync:error=EIO": {"switchover", "stop", "late", "fault"},
		"pwrite64:error=EROFS":      {"switchover", "fault"},
		"pwrite64:error=ENOSPC":     {"late"},
	} {
		for _, way := range ways {
			t.Run(strings.ReplaceAll(failing, ":", "-")+"/"+way, func(t *testing.T) {
				if !inside(t) {
					return
				}
				p := newDiskPair(t)
				p.startReserve()
				p.startPrimary()
				p.until("primary", "active")
				p.until("reserve", "backup")
				mend := breaks(t, strace, p.on["primary"].Process.Pid, failing)
				p.writable("primary", false)
				p.stepsDown(way, mend)
			})
		}
	}
}

// breaks lets a system call of a daemon fail until mend.
func breaks(t *testing.T, strace string, pid int, inject string) (mend func()) {
	t.Helper()
	call, _, _ := strings.Cut(inject, ":")
	cmd := exec.CommandContext(t.Context(), strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace="+call, "-e", "inject="+inject, "-p", strconv.Itoa(pid))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said lockedBuffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "strace", func() bool {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		return err == nil && bytes.Contains(status, fmt.Appendf(nil, "TracerPid:\t%d\n", cmd.Process.Pid))
	})
	mended := false
	mend = func() {
		if !mended {
			mended = true
			_ = cmd.Process.Signal(syscall.SIGINT) // it lets go of the daemon
			_ = cmd.Wait()
		}
	}
	t.Cleanup(mend)
	return mend
}

func (p *diskPair) stepsDown(way string, mend func()) {
	t := p.t
	switch way {
	case "switchover":
		got := tanist(t, append([]string{"switchover"}, p.flags("primary")...)...)
		if got.code != switchoverRefused || !strings.Contains(got.stderr, "the journal could not be written: primary: ") || p.instance("primary").State != "active" {
			t.Errorf("a switchover that can wait: %+v", got)
		}
		got = tanist(t, append([]string{"switchover", "--force", "--reason", "the disk dies"}, p.flags("primary")...)...)
		if got.code != exitOK {
			t.Errorf("one that is forced: %+v", got)
		}
	case "stop":
		p.signal("primary", syscall.SIGTERM)
		p.until("reserve", "active")
		mend()
		if code := p.on["primary"].end(t); code != exitOK {
			t.Errorf("exit status %d", code)
		}
		return
	case "late":
		p.signal("primary", syscall.SIGSTOP)
		p.until("reserve", "active")
		p.signal("primary", syscall.SIGCONT)
	case "fault":
		l, err := netlink.LinkByName("veth0")
		if err == nil {
			err = netlink.LinkSetDown(l)
		}
		if err != nil {
			t.Fatal(err)
		}
		p.until("primary", "fault") // and so is the other end of the wire
		if err := netlink.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
		p.until("reserve", "active") // the primary may not: its journal does not take the promotion
	}
	p.until("primary", "backup")
	p.until("reserve", "active")
	if held := p.instance("primary").VIPs[0].Held; held {
		t.Error("the address is still held")
	}
	mend()
	p.writable("primary", true)
	eventually(t, "what is owed", func() bool {
		c, err := journal.Read(filepath.Join(p.state("primary"), "journal"))
		return err == nil && journal.Memories(c.Entries)["compass"].Role == hooks.Standby && p.document("primary").Journal.Awaiting == 0
	})
	p.leaves("primary")
	var demoted bool
	var told []string
	for _, passage := range p.whole("primary") {
		if r := passage.Record; r.Kind == hooks.Commanded {
			told = append(told, r.Command+": "+r.Reason)
		}
		demoted = demoted || passage.Transition && passage.Record.Role == hooks.Standby && passage.Ending == hooks.Completed
	}
	if !demoted {
		t.Error("no demotion in the journal")
	}
	if way == "switchover" && (len(told) != 2 || told[1] != "switchover: the disk dies") {
		t.Errorf("of its commands the journal knows %q", told)
	}
	p.leaves("reserve")
}

func TestCheckOfAStateDirectory(t *testing.T) {
	if !inside(t) {
		return
	}
	dir := filepath.Join(t.TempDir(), "disk")
	smallDisk(t, dir, "32m")
	found := func(dir string) string {
		h := &hostCheck{}
		h.stateDir(t.Context(), &common{stateDir: dir, socket: filepath.Join(dir, "s")})
		return h.problems.Error()
	}
	for _, d := range []string{dir, filepath.Join(dir, "not", "there")} {
		if got := found(d); got != "" {
			t.Errorf("%s: %s", d, got)
		}
	}
	free := fill(t, dir)
	if got := found(dir); !strings.Contains(got, "0 KiB free") {
		t.Errorf("full: %q", got)
	}
	free()
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if got := found(filepath.Join(dir, "tanist")); !strings.Contains(got, "read-only") {
		t.Errorf("read-only: %q", got)
	}
}
