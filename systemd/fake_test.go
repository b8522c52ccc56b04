package systemd

// A manager that can be told to misbehave, on a bus that can be ended: the
// failures that a real one shows once a year.

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=%s</listen><auth>EXTERNAL</auth>
<policy context="default"><allow own="*"/><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow user="*"/></policy>
</busconfig>`

type privateBus struct {
	socket string
	config string
	cmd    *exec.Cmd
}

func newBus(t *testing.T) *privateBus {
	t.Helper()
	if _, err := exec.LookPath("dbus-daemon"); err != nil {
		t.Skip("needs dbus-daemon")
	}
	dir := t.TempDir()
	b := &privateBus{socket: filepath.Join(dir, "bus"), config: filepath.Join(dir, "bus.conf")}
	if err := os.WriteFile(b.config, fmt.Appendf(nil, busConfig, b.socket), 0o600); err != nil {
		t.Fatal(err)
	}
	b.start(t)
	t.Cleanup(b.stop)
	return b
}

func (b *privateBus) start(t *testing.T) {
	t.Helper()
	b.cmd = exec.Command("dbus-daemon", "--config-file="+b.config, "--nofork", "--print-address=1")
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil { // it listens once it has said where
		t.Fatal(err)
	}
}

func (b *privateBus) stop() {
	if b.cmd != nil {
		_ = b.cmd.Process.Kill()
		_ = b.cmd.Wait()
		b.cmd = nil
	}
	os.Remove(b.socket)
}

// fakeManager answers for one unit, x.service.
type fakeManager struct {
	t    *testing.T
	conn *dbus.Conn

	mu        sync.Mutex // guards the fields below
	active    string
	job       uint32
	jobs      uint32
	orders    []string
	cancelled []uint32
	result    string        // of the next job
	mute      bool          // no JobRemoved signals
	hold      bool          // jobs do not end
	hang      chan struct{} // when set, orders get no answer until it is closed
	run       byte          // changes with every start
}

const fakePath = dbus.ObjectPath("/org/freedesktop/systemd1/unit/x_2eservice")

func newFake(t *testing.T) *fakeManager {
	return &fakeManager{t: t, active: "inactive", result: "done"}
}

func (f *fakeManager) join(b *privateBus) {
	f.t.Helper()
	conn, err := dbus.Connect("unix:path=" + b.socket)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { conn.Close() })
	for path, iface := range map[dbus.ObjectPath]string{
		"/org/freedesktop/systemd1": "org.freedesktop.systemd1.Manager", fakePath: "org.freedesktop.DBus.Properties",
	} {
		if err := conn.Export(f, path, iface); err != nil {
			f.t.Fatal(err)
		}
	}
	f.mu.Lock()
	f.conn = conn
	f.mu.Unlock()
	if r, err := conn.RequestName("org.freedesktop.systemd1", dbus.NameFlagDoNotQueue); err != nil || r != dbus.RequestNameReplyPrimaryOwner {
		f.t.Fatalf("request the name: %v, %v", r, err)
	}
}

func (f *fakeManager) set(change func(*fakeManager)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fakeManager) order(verb, to string) (dbus.ObjectPath, *dbus.Error) {
	f.mu.Lock()
	f.jobs++
	f.job = f.jobs
	f.orders = append(f.orders, verb)
	id, hang, hold := f.job, f.hang, f.hold
	f.mu.Unlock()
	if hang != nil {
		<-hang
	}
	if !hold {
		go f.finish(id, to)
	}
	return jobPath(id), nil
}

func jobPath(id uint32) dbus.ObjectPath {
	return dbus.ObjectPath(fmt.Sprintf("/org/freedesktop/systemd1/job/%d", id))
}

// finish ends a job the way the manager does: state first, then the signal.
func (f *fakeManager) finish(id uint32, to string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.job != id {
		return
	}
	f.job = 0
	if f.result == "done" {
		f.active = to
		f.run++
	} else {
		f.active, f.run = "failed", f.run+1
	}
	if !f.mute {
		_ = f.conn.Emit("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager.JobRemoved", id, jobPath(id), "x.service", f.result)
	}
}

func (f *fakeManager) StartUnit(_, _ string) (dbus.ObjectPath, *dbus.Error) {
	return f.order("start", "active")
}

func (f *fakeManager) StopUnit(_, _ string) (dbus.ObjectPath, *dbus.Error) {
	return f.order("stop", "inactive")
}

func (f *fakeManager) RestartUnit(_, _ string) (dbus.ObjectPath, *dbus.Error) {
	return f.order("restart", "active")
}

func (f *fakeManager) CancelJob(id uint32) *dbus.Error {
	f.set(func(f *fakeManager) {
		f.cancelled = append(f.cancelled, id)
		if f.job == id {
			f.job = 0
		}
	})
	return nil
}

func (f *fakeManager) GetUnitFileState(string) (string, *dbus.Error) { return "masked-runtime", nil }

func (f *fakeManager) GetAll(string) (map[string]dbus.Variant, *dbus.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	job := struct {
		ID   uint32
		Path dbus.ObjectPath
	}{f.job, "/"}
	return map[string]dbus.Variant{
		"LoadState": dbus.MakeVariant("loaded"), "ActiveState": dbus.MakeVariant(f.active),
		"SubState": dbus.MakeVariant("sub"), "Type": dbus.MakeVariant("simple"), "Result": dbus.MakeVariant("success"),
		"MainPID": dbus.MakeVariant(uint32(7)), "ControlGroup": dbus.MakeVariant(""), "Slice": dbus.MakeVariant("system.slice"),
		"InvocationID": dbus.MakeVariant([]byte{0xab, f.run}), "Job": dbus.MakeVariant(job), "CanReload": dbus.MakeVariant(true),
	}, nil
}

func (f *fakeManager) seen() (orders string, cancelled int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.orders, " "), len(f.cancelled)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("timed out: %s", what)
		}
	}
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
