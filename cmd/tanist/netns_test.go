package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap/zapcore"

	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/test/sidebyside"
)

// Tests with real sockets and addresses run in a network namespace of their own:
// the test binary runs itself again in one, for that test alone.

const (
	insideVariable = "TANIST_TEST_INSIDE" // this process is in its own namespace
	mainVariable   = "TANIST_TEST_MAIN"   // this process is tanist, not a test
	patience       = 60 * time.Second
)

func TestMain(m *testing.M) {
	if os.Getenv(mainVariable) != "" {
		main()
	}
	sidebyside.AtMost(6) // pairs of daemons: more of them would be late with two CPUs
	code := m.Run()
	os.RemoveAll(emptyDir)
	os.Exit(code)
}

// inside reports whether this is the process in the namespace. Outside it runs
// that process beside those of other tests, and passes its verdict on. Mounts of
// the process are its own, too: one that hangs is in nobody else's way.
func inside(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideVariable) != "" {
		lo, err := netlink.LinkByName("lo")
		if err == nil {
			err = netlink.LinkSetUp(lo)
		}
		if err != nil {
			t.Fatal(err)
		}
		return true
	}
	if os.Getuid() != 0 {
		t.Skip("needs root for a network namespace")
	}
	t.Parallel()
	name := "^" + strings.ReplaceAll(t.Name(), "/", "$/^") + "$"
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run="+name, "-test.v")
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET, Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL,
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("it did not run:\n%s", out)
	}
	return false
}

func addAddress(t *testing.T, link, prefix string) { withAddress(t, link, prefix, netlink.AddrAdd) }

func delAddress(t *testing.T, link, prefix string) { withAddress(t, link, prefix, netlink.AddrDel) }

func withAddress(t *testing.T, link, prefix string, do func(netlink.Link, *netlink.Addr) error) {
	t.Helper()
	l, err := netlink.LinkByName(link)
	if err != nil {
		t.Fatal(err)
	}
	a, err := netlink.ParseAddr(prefix)
	if err != nil {
		t.Fatal(err)
	}
	if err := do(l, a); err != nil {
		t.Fatal(err)
	}
}

func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("waited in vain for %s", what)
}

const aloneConfig = `
nodes:
  primary: {addresses: [192.0.2.11]}
  reserve: {addresses: [192.0.2.12]}
log: {level: info, format: console}
instances:
  - name: compass
    interface: veth0
    vrid: 51
    vips: [192.0.2.100/24, 192.0.2.101/24]
    lease: 2s
`

// tanistProcess is a tanist of its own.
type tanistProcess struct {
	*exec.Cmd
	stderr *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func startTanist(t *testing.T, args ...string) tanistProcess {
	t.Helper()
	p := tanistCommand(t, args...)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// tanistCommand is a tanist that is yet to be started.
func tanistCommand(t *testing.T, args ...string) tanistProcess {
	t.Helper()
	p := tanistProcess{exec.CommandContext(t.Context(), os.Args[0], args...), &lockedBuffer{}}
	p.Env = append(os.Environ(), mainVariable+"=1")
	p.Stderr = p.stderr
	return p
}

// end waits for the end and returns the exit status.
func (p tanistProcess) end(t *testing.T) int {
	t.Helper()
	timer := time.AfterFunc(patience, func() { _ = p.Process.Kill() })
	defer timer.Stop()
	_ = p.Wait()
	if p.ProcessState.ExitCode() < 0 {
		t.Errorf("ended by a signal: %s\n%s", p.ProcessState, p.stderr)
	}
	return p.ProcessState.ExitCode()
}

// A whole daemon whose peer is not there: it takes the addresses, a second one
// does no harm, somebody else's change shows, and it leaves in order.
func TestDaemonAlone(t *testing.T) {
	if !inside(t) {
		return
	}
	err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "veth0"}, PeerName: "veth1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"veth0", "veth1"} {
		l, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkSetUp(l)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	addAddress(t, "veth0", "192.0.2.11/24")
	dir := t.TempDir()
	file := filepath.Join(dir, "tanist.yaml")
	if err := os.WriteFile(file, []byte(aloneConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	common := []string{"--config", file, "--node", "primary", "--socket", filepath.Join(dir, "s"), "--state-dir", dir}
	with := func(args ...string) []string { return append(args, common...) }
	p := startTanist(t, with("run")...)
	eventually(t, "the role", func() bool { return tanist(t, with("check-master")...).code == masterActive })

	client := control.Dial(filepath.Join(dir, "s"))
	status := func() control.Instance {
		doc, err := client.Status(t.Context())
		if err != nil {
			t.Fatalf("%v\n%s", err, p.stderr)
		}
		return doc.Instances[0]
	}
	if in := status(); !in.VIPs[0].Held || !in.VIPs[1].Held {
		t.Errorf("%+v", in.VIPs)
	}
	t.Run("second", func(t *testing.T) {
		second := startTanist(t, with("run")...)
		if code := second.end(t); code == 0 || second.stderr.String() == "" {
			t.Errorf("a second daemon: exit status %d, %s", code, second.stderr)
		}
		other := append(with("run"), "--state-dir", t.TempDir())
		third := startTanist(t, other...)
		if code := third.end(t); code == 0 || !strings.Contains(third.stderr.String(), "another daemon answers") {
			t.Errorf("a daemon with another journal: exit status %d, %s", code, third.stderr)
		}
		if got := tanist(t, with("release")...); got.code != 1 || !strings.Contains(got.stderr, "a daemon answers") {
			t.Errorf("release beside the daemon: %+v", got)
		}
		if got := tanist(t, with("check-master")...); got.code != masterActive {
			t.Errorf("the first afterwards: %+v", got)
		}
	})
	t.Run("one-address-gone", func(t *testing.T) {
		delAddress(t, "veth0", "192.0.2.101/24")
		var in control.Instance
		eventually(t, "the address", func() bool {
			in = status()
			return in.VIPs[0].Held && in.VIPs[1].Held && in.Restored != nil
		})
		if r := in.Restored; r.Count != 1 || r.Address != "192.0.2.101/24" || in.State != "active" {
			t.Errorf("%s, %+v", in.State, r)
		}
	})
	t.Run("refused", func(t *testing.T) {
		got := tanist(t, with("switchover")...)
		if got.code != switchoverRefused || !strings.Contains(got.stderr, "refused, nothing was changed") {
			t.Errorf("a switchover without a peer: %+v", got)
		}
	})
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.end(t); code != exitOK || !strings.Contains(p.stderr.String(), "left") {
		t.Errorf("exit status %d\n%s", code, p.stderr)
	}
	if held := heldAddresses("veth0"); len(held) > 2 { // its own and a link-local one
		t.Errorf("afterwards veth0 has %v", held)
	}
	if got := tanist(t, with("check-master")...); got.code != masterUnknown {
		t.Errorf("without the daemon: %+v", got)
	}
	if got := tanist(t, with("release")...); got.code != exitOK || got.stderr != "" {
		t.Errorf("release without a daemon: %+v", got)
	}
}

// A log that nobody reads any more does not end the daemon.
func TestDaemonOutlivesItsLog(t *testing.T) {
	if !inside(t) {
		return
	}
	err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "veth0"}, PeerName: "veth1"})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "tanist.yaml")
	if err := os.WriteFile(file, []byte(aloneConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	common := []string{"--config", file, "--node", "primary", "--socket", filepath.Join(dir, "s"), "--state-dir", dir}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], append([]string{"run"}, common...)...)
	cmd.Env = append(os.Environ(), mainVariable+"=1")
	cmd.Stderr = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	client := control.Dial(filepath.Join(dir, "s"))
	eventually(t, "the daemon", func() bool {
		_, err := client.Status(t.Context())
		return err == nil
	})
	_ = r.Close()
	for range 3 {
		if err := cmd.Process.Signal(syscall.SIGHUP); err != nil { // each is worth a line
			t.Fatal(err)
		}
		if _, err := client.Status(t.Context()); err != nil {
			t.Fatalf("after its log was closed: %v", err)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the end: %v", err)
	}
}

// testLogger is a logger whose lines are the test's.
func testLogger(t *testing.T) *logger {
	t.Helper()
	l, _ := observed(zapcore.DebugLevel)
	return l
}
