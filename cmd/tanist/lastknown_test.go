package main

// What hangs here hangs really: a server that is stopped, a file system whose server
// never answers, a bus that takes a connection and says nothing, a control loop in a
// call that does not come back. Each answer has to come while it still hangs.

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/node"
	"github.com/tanist-ha/tanist/systemd"
)

// deadFileSystem mounts one whose files nobody ever answers for.
func deadFileSystem(t *testing.T) string {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("needs FUSE: %v", err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	dead := t.TempDir()
	if err := unix.Mount("tanist-test", dead, "fuse", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)); err != nil {
		t.Skipf("needs FUSE: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dead, unix.MNT_DETACH) })
	return dead
}

// muteBus is a D-Bus that accepts and never says anything.
func muteBus(t *testing.T) (path string, accepted <-chan struct{}) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "bus")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	came := make(chan struct{}, 64)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
			came <- struct{}{}
		}
	}()
	return path, came
}

// A bus that says nothing hides the units and not the labels; a file system that does
// not answer hides the labels and not the units. Both are told from before.
func TestSurveyOfWhatHangs(t *testing.T) {
	bus, accepted := muteBus(t)
	file := filepath.Join(t.TempDir(), "values.yaml")
	write(t, file, "active: primary\n")
	units := systemd.NewUnits(systemd.UnitsConfig{Sockets: []string{bus}})
	t.Cleanup(func() { _ = units.Close() })
	pair := &config.File{Nodes: [2]config.Node{{Label: "primary"}, {Label: "reserve"}}}
	s := newSurvey(config.Instance{Name: "compass", Promote: hooks.Plan{
		{Action: hooks.Unit{Verb: hooks.StartUnit, Name: "lsyncd.service"}},
		{Action: hooks.YAML{File: file, Key: "active", Value: "{{.Active}}"}},
	}}, pair, 0, units)
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- s.run(ctx) }()
	look := func() sighting {
		patience, cancel := context.WithTimeout(t.Context(), loopPatience)
		defer cancel()
		return s.latest(patience)
	}
	var is sighting
	eventually(t, "the label", func() bool { is = look(); return !is.labelsAt.IsZero() })
	<-accepted
	if is.labels[0].Value != "primary" || is.units[0].Error != notSeen || !is.unitsAt.IsZero() {
		t.Errorf("beside a bus that hangs: %+v", is)
	}
	dead := make(chan struct{})
	t.Cleanup(func() { close(dead) })
	s.keys[0].read = func(string, string) (string, error) { <-dead; return "", nil }
	before := look().labelsAt
	if is = look(); is.labels[0].Value != "primary" || is.labelsAt.After(before.Add(patience)) {
		t.Errorf("beside a file that hangs: %+v", is)
	}
	cancel()
	if err := <-over; err != nil { // though both looks are still at it
		t.Error(err)
	}
}

// A kernel that does not answer is asked by one goroutine for each interface.
func TestKernelThatDoesNotAnswer(t *testing.T) {
	asked, answer := make(chan string, 10), make(chan struct{})
	addr := netip.MustParseAddr("192.0.2.100")
	e := newKernelEye(func(name string) []netip.Addr {
		asked <- name
		if name == "hung" {
			<-answer
		}
		return []netip.Addr{addr}
	})
	look := func(name string) addressesOf {
		ctx, cancel := context.WithTimeout(t.Context(), kernelPatience)
		defer cancel()
		return e.addresses(ctx, name)
	}
	for range 3 {
		if a := look("hung"); a.known || a.has(addr) {
			t.Errorf("%+v", a)
		}
	}
	if n := len(asked); n != 1 {
		t.Errorf("it was asked %d times", n)
	}
	vips := []control.VIP{{Address: "192.0.2.100/24"}}
	if look("hung").doubt(vips); vips[0].Error == "" {
		t.Error("what is not known is told as if it were")
	}
	eventually(t, "an answer about another interface", func() bool { return look("well").has(addr) })
	close(answer)
	eventually(t, "an answer", func() bool { a := look("hung"); return a.known && a.has(addr) })
}

// A kernel that is slow to answer is not waited for by a status, and is by a verdict.
func TestVerdictOfASlowKernel(t *testing.T) {
	if !inside(t) {
		return
	}
	veth(t, "veth0", "veth1", "192.0.2.11/24")
	r, d, _ := hungDaemon(t, instanceA)
	r.active("a")
	socket := filepath.Join(filepath.Dir(r.file), "s")
	d.eye.mu.Lock()
	slot := d.eye.busy["veth0"]
	d.eye.mu.Unlock()
	slot <- struct{}{} // as while an earlier question has no answer yet
	if v := r.status().Instances[0].VIPs[0]; v.Error == "" {
		t.Errorf("%+v", v)
	}
	if got := tanist(t, "check-master", "--socket", socket); got.code != masterUnknown || !strings.Contains(got.stderr, "did not say in time") {
		t.Errorf("it never answers: %+v", got)
	}
	answered := make(chan ran, 1)
	go func() { answered <- tanist(t, "check-master", "--socket", socket) }()
	if v := r.status().Instances[0].VIPs[0]; v.Error == "" { // longer than a status waits
		t.Errorf("%+v", v)
	}
	<-slot
	if got := <-answered; got.code != masterActive {
		t.Errorf("it answers late: %+v", got)
	}
}

// A status while a database is stopped, a label's file system is dead and the peer was
// never heard: it comes, and says so.
func TestStatusWhileDatabaseAndFilesHang(t *testing.T) {
	if !inside(t) {
		return
	}
	dead := deadFileSystem(t)
	veth(t, "veth0", "veth1", "192.0.2.11/24")
	m := startMariaDB(t)
	r := newReloadRig(t, fmt.Sprintf("  - {name: a, interface: veth0, vrid: 51, vips: [192.0.2.100/24], lease: 3s, heartbeat: {advert_interval: 200ms},\n"+
		"     databases: [{name: pivot, address: 'unix:%s', user: tanist, password_file: %s}],\n"+
		"     promote: [{replication: none}, {writes: open}, {vip: acquire}, {yaml: {file: %s/values, key: a, value: b}, timeout: 1s, on_error: continue}]}\n",
		m.socket(), m.password(), dead))
	eventually(t, "the database's facts", func() bool {
		doc, err := r.client.Status(t.Context())
		return err == nil && len(doc.Instances[0].Databases) == 1 && doc.Instances[0].Databases[0].AgeMS != nil
	})
	if err := m.process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(filepath.Dir(r.file), "s")
	var longest time.Duration
	for range 20 {
		began := time.Now()
		got := tanist(t, "status", "--json", "--socket", socket)
		longest = max(longest, time.Since(began))
		if got.code != exitOK || !strings.Contains(got.stdout, notSeen) {
			t.Fatalf("%+v", got)
		}
		if got := tanist(t, "check-master", "--socket", socket); got.stdout == "" {
			t.Fatalf("%+v", got)
		}
	}
	if state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.process.Pid)); err != nil || !strings.Contains(string(state), ") T ") {
		t.Errorf("the database was not stopped all the time: %s, %v", state, err)
	}
	t.Logf("the longest of 20 answers took %v", longest)
	in := r.status().Instances[0]
	if in.Stale || in.AgeMS != nil || r.status().LoopSilentMS != nil {
		t.Errorf("the loop is said to hang: %+v", in)
	}
	if err := m.process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

// hungLoop blocks the control loop where the watchdog of systemd is told of it.
type hungLoop struct {
	hang    chan struct{} // closed: the loop is to hang at its next turn
	hanging chan struct{} // closed: it does
	again   chan struct{} // closed: it goes on
}

func (h *hungLoop) Progress() {
	select {
	case <-h.hang:
	default:
		return
	}
	select {
	case <-h.hanging:
	default:
		close(h.hanging)
	}
	<-h.again
}

// hungDaemon is a daemon alone in this process, whose loop can be made to hang.
func hungDaemon(t *testing.T, instances string) (*reloadRig, *daemon, *hungLoop) {
	t.Helper()
	r, args := prepareReloadRig(t, "primary", instances)
	c := &common{config: r.file, node: "primary", socket: args[6], stateDir: args[8]}
	file, self, err := load(c)
	if err != nil {
		t.Fatal(err)
	}
	d, err := build(c, file, self, testLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	loop := &hungLoop{make(chan struct{}), make(chan struct{}), make(chan struct{})}
	cfg := node.Config{Clock: newBootReader().now, Journal: d.journal, Link: d.link, Log: d.log, Asker: asker{}, Watchdog: loop}
	for _, s := range d.services {
		in, err := d.instance(s)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Instances = append(cfg.Instances, in)
	}
	if d.node, err = node.New(cfg); err != nil {
		t.Fatal(err)
	}
	d.notices.journal, d.sight.deliver = d.node.Record, d.node.Deliver
	leave, left := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.run(leave, context.Background(), nil, c.socket) }()
	t.Cleanup(func() {
		select {
		case <-loop.again:
		default:
			close(loop.again)
		}
		left()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return r, d, loop
}

// A loop that hangs answers nobody, and everybody is answered: with what it was, how old
// that is, and what the kernel has now. For a script it is active for as long as its lease
// says so and it left the role as it was; then nobody knows.
func TestStatusWhileTheLoopHangs(t *testing.T) {
	if !inside(t) {
		return
	}
	veth(t, "veth0", "veth1", "192.0.2.11/24")
	r, d, loop := hungDaemon(t, instanceA+instanceB)
	r.active("a", "b")
	socket := filepath.Join(filepath.Dir(r.file), "s")
	check := func() ran { return tanist(t, "check-master", "--instance", "a", "--socket", socket) }
	if got := check(); got.code != masterActive {
		t.Fatalf("%+v", got)
	}
	if in := r.status().Instances[0]; in.Stale || in.AgeMS != nil {
		t.Fatalf("of a loop that turns: %+v", in)
	}
	close(loop.hang)
	<-loop.hanging
	if got := check(); got.code != masterActive && d.loopSilent() < time.Second {
		t.Errorf("right after it began to hang: %+v", got)
	}
	eventually(t, "the verdict that nobody knows", func() bool {
		got := check()
		return got.code == masterUnknown && got.stdout == "unknown\n" && strings.Contains(got.stderr, "does not answer") // lease over
	})
	eventually(t, "the end of the lease", func() bool { return !slices.Contains(held("veth0"), "192.0.2.100/24") })
	var longest time.Duration
	for range 20 {
		began := time.Now()
		r.status()
		longest = max(longest, time.Since(began))
	}
	t.Logf("the longest of 20 answers took %v", longest)
	doc := r.status()
	in := doc.Instances[0]
	if !in.Stale || in.Certain || in.AgeMS == nil || *in.AgeMS < 1000 || in.State != "active" || in.VIPs[0].Held || in.VIPs[0].Error != "" {
		t.Errorf("after the lease: %+v", in)
	}
	if doc.LoopSilentMS == nil || *doc.LoopSilentMS < 1000 || len(doc.Instances) != 2 {
		t.Errorf("%+v", doc)
	}
	select {
	case <-loop.again:
		t.Fatal("the loop did not hang all the time")
	default:
		close(loop.again)
	}
	eventually(t, "the loop", func() bool {
		doc := r.status()
		return !doc.Instances[0].Stale && doc.LoopSilentMS == nil && check().code == masterActive
	})
}

// Nobody asked before the loop hung: the daemon knew all the same.
func TestWhatIsKnownIsKeptYoung(t *testing.T) {
	if !inside(t) {
		return
	}
	veth(t, "veth0", "veth1", "192.0.2.11/24")
	_, d, loop := hungDaemon(t, instanceA)
	eventually(t, "a refresh that tells of the role", func() bool {
		d.known.mu.Lock()
		defer d.known.mu.Unlock()
		told := d.known.instances["a"].status
		return told != nil && told.State.String() == "active"
	})
	close(loop.hang)
	<-loop.hanging
	doc, err := d.Status(t.Context(), control.Question{})
	if err != nil || len(doc.Instances) != 1 {
		t.Fatalf("%+v, %v", doc, err)
	}
	if in := doc.Instances[0]; in.State != "active" || !in.Stale || in.AgeMS == nil {
		t.Errorf("%+v", in)
	}
}
