// Package netnstest makes network namespaces for the tests of the VRRP
// adapters.
package netnstest

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Namespace is a network namespace that lives as long as its test. Handle
// configures it from any thread.
type Namespace struct {
	*netlink.Handle
	ns netns.NsHandle
}

// New makes a namespace whose loopback is up, and skips the test where that
// is not allowed.
func New(t testing.TB) *Namespace {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make network namespaces")
	}
	var n Namespace
	err := onOwnThread(func() (err error) {
		n.ns, err = netns.New()
		return err
	})
	if errors.Is(err, unix.EPERM) {
		t.Skip("needs CAP_SYS_ADMIN to make network namespaces")
	}
	if err != nil {
		t.Fatalf("make network namespace: %v", err)
	}
	t.Cleanup(func() {
		if err := n.ns.Close(); err != nil {
			t.Errorf("close network namespace: %v", err)
		}
	})
	if n.Handle, err = netlink.NewHandleAt(n.ns, unix.NETLINK_ROUTE); err != nil {
		t.Fatalf("open netlink: %v", err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close netlink: %v", err)
		}
	})
	n.Up(t, "lo")
	return &n
}

// Do runs fn on a thread inside the namespace and returns its error. Processes
// that fn starts are inside as well.
func (n *Namespace) Do(fn func() error) error {
	return onOwnThread(func() error {
		if err := netns.Set(n.ns); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return fn()
	})
}

// onOwnThread never unlocks its thread, so the runtime ends it and no other
// goroutine inherits the namespace.
func onOwnThread(fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- fn()
	}()
	return <-done
}

// Connect joins a and b by a pair of Ethernet interfaces of the given name.
func Connect(t testing.TB, a, b *Namespace, name string) {
	t.Helper()
	link := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: name, Namespace: netlink.NsFd(a.ns)},
		PeerName:      name,
		PeerNamespace: netlink.NsFd(b.ns),
	}
	if err := a.LinkAdd(link); err != nil {
		t.Fatalf("add veth %s: %v", name, err)
	}
	a.Up(t, name)
	b.Up(t, name)
}

// Link returns the interface called name.
func (n *Namespace) Link(t testing.TB, name string) netlink.Link {
	t.Helper()
	link, err := n.LinkByName(name)
	if err != nil {
		t.Fatalf("look up %s: %v", name, err)
	}
	return link
}

// Up sets an interface up.
func (n *Namespace) Up(t testing.TB, name string) {
	t.Helper()
	if err := n.LinkSetUp(n.Link(t, name)); err != nil {
		t.Fatalf("set %s up: %v", name, err)
	}
}

// Down sets an interface down.
func (n *Namespace) Down(t testing.TB, name string) {
	t.Helper()
	if err := n.LinkSetDown(n.Link(t, name)); err != nil {
		t.Fatalf("set %s down: %v", name, err)
	}
}

// AddAddr puts a permanent address on an interface.
func (n *Namespace) AddAddr(t testing.TB, name, prefix string) {
	t.Helper()
	addr, err := netlink.ParseAddr(prefix)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.AddrAdd(n.Link(t, name), addr); err != nil {
		t.Fatalf("add %s to %s: %v", prefix, name, err)
	}
}

// Addrs returns the IPv4 prefixes on an interface.
func (n *Namespace) Addrs(t testing.TB, name string) []netip.Prefix {
	t.Helper()
	list, err := n.AddrList(n.Link(t, name), netlink.FAMILY_V4)
	if err != nil {
		t.Fatalf("list addresses of %s: %v", name, err)
	}
	var out []netip.Prefix
	for _, a := range list {
		out = append(out, netip.MustParsePrefix(a.IPNet.String()))
	}
	return out
}

// Sysctl writes a setting under /proc/sys/net of the namespace.
func (n *Namespace) Sysctl(t testing.TB, path, value string) {
	t.Helper()
	err := n.Do(func() error { return os.WriteFile("/proc/sys/net/"+path, []byte(value), 0) })
	if err != nil {
		t.Fatalf("set net/%s to %s: %v", path, value, err)
	}
}

// Eventually polls cond until it holds, and fails the test after limit.
func Eventually(t testing.TB, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline.C:
			t.Fatalf("%s: not within %v", what, limit)
		case <-tick.C:
		}
	}
}
