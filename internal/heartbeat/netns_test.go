package heartbeat

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/vrrp"
	"github.com/tanist-ha/tanist/vrrp/auth"
)

// Tests with real sockets run in a network namespace of their own: the test
// binary runs itself again in one, for that test alone. Both ends are there;
// heart0 and heart1 are joined by a cable.

const (
	limit      = 20 * time.Second
	insideMark = "TANIST_TEST_NETWORK"
)

// inside reports whether this is the process in the namespace. Outside it runs
// that process and passes its verdict on.
func inside(tb testing.TB, args ...string) bool {
	tb.Helper()
	if os.Getenv(insideMark) == tb.Name() {
		joinedInterfaces(tb)
		return true
	}
	if os.Geteuid() != 0 {
		tb.Skip("needs root to make network namespaces")
	}
	if len(args) == 0 {
		args = []string{"-test.run=^" + tb.Name() + "$", "-test.v"}
	}
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), insideMark+"="+tb.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil {
		tb.Fatalf("in its own network: %v\n%s", err, out)
	}
	if !strings.Contains(string(out), tb.Name()) {
		tb.Fatalf("it did not run:\n%s", out)
	}
	tb.Logf("%s", out)
	return false
}

func sysctl(tb testing.TB, name, value string) {
	tb.Helper()
	if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0); err != nil {
		tb.Fatal(err)
	}
}

func link(tb testing.TB, name string) netlink.Link {
	tb.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

func addAddress(tb testing.TB, name, prefix string) {
	tb.Helper()
	a, err := netlink.ParseAddr(prefix)
	if err != nil {
		tb.Fatal(err)
	}
	a.Flags |= unix.IFA_F_NODAD
	if err := netlink.AddrAdd(link(tb, name), a); err != nil && !errors.Is(err, unix.EEXIST) {
		tb.Fatal(err)
	}
}

func removeAddress(tb testing.TB, name, prefix string) {
	tb.Helper()
	a, err := netlink.ParseAddr(prefix)
	if err != nil {
		tb.Fatal(err)
	}
	if err := netlink.AddrDel(link(tb, name), a); err != nil {
		tb.Fatal(err)
	}
}

// joinedInterfaces makes heart0 and heart1, each with addresses of its node.
// They take packets that come from the host's own addresses, as if the other
// were another host.
func joinedInterfaces(tb testing.TB) {
	tb.Helper()
	for _, kind := range []string{"all", "default"} {
		sysctl(tb, "ipv4/conf/"+kind+"/rp_filter", "0")
		sysctl(tb, "ipv4/conf/"+kind+"/accept_local", "1")
		sysctl(tb, "ipv6/conf/"+kind+"/addr_gen_mode", "1") // no link-local address of the kernel's
	}
	err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "heart0"}, PeerName: "heart1"})
	if err != nil {
		tb.Fatal(err)
	}
	for _, name := range []string{"lo", "heart0", "heart1"} {
		if err := netlink.LinkSetUp(link(tb, name)); err != nil {
			tb.Fatal(err)
		}
	}
	addAddress(tb, "heart0", "192.0.2.11/24")
	addAddress(tb, "heart1", "192.0.2.12/24")
	addAddress(tb, "heart0", "2001:db8::11/64")
	addAddress(tb, "heart1", "2001:db8::12/64")
	addAddress(tb, "heart0", "fe80::11/64")
	addAddress(tb, "heart1", "fe80::12/64")
}

// lines is a log.
type lines chan string

func (c lines) Trouble(instance, doing string, err error) {
	select {
	case c <- instance + ": " + doing + ": " + err.Error():
	default:
	}
}

func (c lines) all() []string {
	var all []string
	for len(c) > 0 {
		all = append(all, <-c)
	}
	return all
}

func bootClock() mono.Instant {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return mono.Instant(ts.Nano())
}

func testKeys(tb testing.TB, digits ...string) []auth.Key {
	tb.Helper()
	var file string
	for _, d := range digits {
		file += strings.Repeat(d, 64) + "\n"
	}
	keys, err := auth.ParseKeys([]byte(file))
	if err != nil {
		tb.Fatal(err)
	}
	return keys
}

// end is one node's heartbeat.
type end struct {
	*Heartbeat
	tb     testing.TB
	iface  string
	heard  chan heardFrom
	told   lines
	routes map[string]*Route
	stop   func()
}

type heardFrom struct {
	instance string
	failover.Advertised
}

var (
	addrs4 = [2]netip.Addr{netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("192.0.2.12")}
	addrs6 = [2]netip.Addr{netip.MustParseAddr("2001:db8::11"), netip.MustParseAddr("2001:db8::12")}
	// away are addresses that no interface has at first.
	away = [2]netip.Addr{netip.MustParseAddr("198.51.100.11"), netip.MustParseAddr("198.51.100.12")}
)

// newEnd makes the heartbeat of node 0 or 1 that runs until the test ends. The
// preferred addresses are missing.
func newEnd(tb testing.TB, node int, digits ...string) *end {
	tb.Helper()
	cfg := Config{
		Local: []netip.Addr{away[node], addrs4[node], addrs6[node]},
		Peer:  []netip.Addr{away[1-node], addrs4[1-node], addrs6[1-node]},
		Keys:  testKeys(tb, "a"),
	}
	if len(digits) > 0 {
		cfg.Keys = testKeys(tb, digits...)
	}
	return startEnd(tb, node, cfg)
}

func startEnd(tb testing.TB, node int, cfg Config) *end {
	tb.Helper()
	e := &end{
		tb: tb, iface: []string{"heart0", "heart1"}[node], heard: make(chan heardFrom, 1024), told: make(lines, 1024),
		routes: map[string]*Route{},
	}
	cfg.Clock, cfg.Log = bootClock, e.told
	var err error
	if e.Heartbeat, err = New(cfg); err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- e.Run(ctx, func(instance string, ev failover.Advertised) {
			select {
			case e.heard <- heardFrom{instance, ev}:
			default:
			}
		})
	}()
	stopped := false
	e.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
	}
	tb.Cleanup(e.stop)
	return e
}

// instance is a virtual router of this end, by default version 3 and unicast
// over IPv4.
func (e *end) instance(name string, vrid uint8, change ...func(*Instance)) Instance {
	e.tb.Helper()
	cfg := Instance{Name: name, FollowChecksum: true, Router: vrrp.Config{
		Version: vrrp.Version3, VRID: vrid, Priority: 100, Interval: 100,
		Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.100")},
	}}
	for _, f := range change {
		f(&cfg)
	}
	if cfg.Group != "" {
		cfg.Group = e.iface
	}
	cfg.Router.Local = e.Local(cfg.Group, cfg.Router.Addresses[0])
	return cfg
}

func (e *end) add(name string, vrid uint8, change ...func(*Instance)) Instance {
	e.tb.Helper()
	cfg := e.instance(name, vrid, change...)
	r, err := e.Add(cfg)
	if err != nil {
		e.tb.Fatal(err)
	}
	e.routes[name] = r
	return cfg
}

func (e *end) replace(name string, vrid uint8, change ...func(*Instance)) *Route {
	e.tb.Helper()
	r, err := e.Replace(e.instance(name, vrid, change...))
	if err != nil {
		e.tb.Fatal(err)
	}
	e.routes[name] = r
	return r
}

func inMode(mode auth.Mode) func(*Instance) { return func(in *Instance) { in.Auth = mode } }
func onGroup(in *Instance)                  { in.Group = "yes" }
func version2(in *Instance)                 { in.Router.Version = vrrp.Version2 }

func overIPv6(in *Instance) {
	in.Router.Addresses = []netip.Addr{
		netip.MustParseAddr("2001:db8::100"), netip.MustParseAddr("192.0.2.100"), netip.MustParseAddr("fe80::100"),
	}
}

// advert is what the virtual router sends.
func advert(cfg Instance) vrrp.Advertisement {
	return vrrp.Advertisement{
		Version: cfg.Router.Version, VRID: cfg.Router.VRID, Priority: cfg.Router.Priority,
		MaxAdvertInterval: cfg.Router.Interval, Addresses: cfg.Router.Carried(),
	}
}

func (e *end) send(cfg Instance, epoch failover.Epoch) error {
	return e.routes[cfg.Name].Send(failover.Send{Advertisement: advert(cfg), Epoch: epoch})
}

// hears sends until the other end hears the instance.
func hears(tb testing.TB, from, to *end, cfg Instance) heardFrom {
	tb.Helper()
	late := time.After(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		_ = from.send(cfg, 7) // the path may not be open yet
		select {
		case got := <-to.heard:
			if got.instance == cfg.Name {
				return got
			}
		case <-tick.C:
		case <-late:
			tb.Fatalf("nothing heard of %s; %v, %v", cfg.Name, from.told.all(), to.told.all())
		}
	}
}

// drain returns how many advertisements came in that were sent before the call.
func (e *end) drain(r *Route) int {
	r.Drain()
	n := len(e.heard)
	for range n {
		<-e.heard
	}
	return n
}

func eventually(tb testing.TB, what string, f func() bool) {
	tb.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if f() {
			return
		}
	}
	tb.Fatalf("waited in vain for %s", what)
}

// of returns the status of an instance.
func (e *end) of(name string) *InstanceStatus {
	e.tb.Helper()
	s := e.Status()
	in := s.Of(name)
	if in == nil {
		e.tb.Fatalf("no status of %s", name)
	}
	return in
}
