package interop

// A segment of its own for each test: two hosts on a switch, and a client on the
// switch itself that wants to reach the virtual addresses.

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	nic     = "eth0" // of a host
	portA   = "port-a"
	portB   = "port-b"
	bridge  = "switch0"
	patient = 60 * time.Second // for whatever must happen: the machine may be busy
)

// space is a network namespace with a thread of its own, which ends with the
// test: programs started in it are killed when that thread ends, however it ends.
type space struct {
	*netlink.Handle
	work chan func()
}

func newSpace(t *attempt) *space {
	s := &space{work: make(chan func())}
	made, ended := make(chan error), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // never unlocked: the runtime ends the thread
		ns, err := netns.New()
		if err == nil {
			defer ns.Close()
			s.Handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		}
		made <- err
		for fn := range s.work {
			fn()
		}
	}()
	err := <-made
	t.Cleanup(func() {
		close(s.work)
		<-ended
		if s.Handle != nil {
			s.Close()
		}
	})
	if err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	// Addresses count at once, and the kernel makes none up.
	s.sysctl(t, "ipv6/conf/all/accept_dad", "0")
	s.sysctl(t, "ipv6/conf/default/accept_dad", "0")
	s.sysctl(t, "ipv6/conf/default/addr_gen_mode", "1")
	s.up(t, "lo")
	return s
}

// do runs fn inside. What it starts is inside too.
func (s *space) do(fn func() error) error {
	done := make(chan error, 1)
	s.work <- func() { done <- fn() }
	return <-done
}

// start starts a program inside, which does not outlive the test.
func (s *space) start(t *attempt, cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.do(cmd.Start); err != nil {
		t.Fatal(err)
	}
}

func (s *space) sysctl(t *attempt, path, value string) {
	if err := s.do(func() error { return os.WriteFile("/proc/sys/net/"+path, []byte(value), 0) }); err != nil {
		t.Fatal(err)
	}
}

func (s *space) link(t *attempt, name string) netlink.Link {
	l, err := s.LinkByName(name)
	if err != nil {
		t.Fatalf("look up %s: %v", name, err)
	}
	return l
}

func (s *space) up(t *attempt, name string) {
	if err := s.LinkSetUp(s.link(t, name)); err != nil {
		t.Fatalf("set %s up: %v", name, err)
	}
}

func (s *space) number(t *attempt, name, host string) {
	for _, prefix := range []string{"192.0.2." + host + "/24", "2001:db8::" + host + "/64", "fe80::" + host + "/64"} {
		a, err := netlink.ParseAddr(prefix)
		if err == nil {
			err = s.AddrAdd(s.link(t, name), a)
		}
		if err != nil {
			t.Fatalf("add %s to %s: %v", prefix, name, err)
		}
	}
}

// segment is the two hosts and what is between them.
type segment struct {
	net, a, b *space
}

func newSegment(t *attempt) segment {
	s := segment{net: newSpace(t), a: newSpace(t), b: newSpace(t)}
	if err := s.net.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge}}); err != nil {
		t.Fatal(err)
	}
	s.net.up(t, bridge)
	s.net.number(t, bridge, "1")
	for _, end := range []struct {
		port string
		host *space
		last string
	}{{portA, s.a, "11"}, {portB, s.b, "12"}} {
		var there netns.NsHandle
		err := end.host.do(func() (err error) { there, err = netns.Get(); return err })
		if err == nil {
			err = s.net.LinkAdd(&netlink.Veth{
				LinkAttrs: netlink.LinkAttrs{Name: end.port, MasterIndex: s.net.link(t, bridge).Attrs().Index},
				PeerName:  nic, PeerNamespace: netlink.NsFd(there),
			})
			_ = there.Close()
		}
		if err != nil {
			t.Fatalf("plug %s in: %v", end.port, err)
		}
		s.net.up(t, end.port)
		end.host.up(t, nic)
		end.host.number(t, nic, end.last)
	}
	return s
}

// unplug takes host b off the segment. Host a keeps its link.
func (s segment) unplug(t *attempt) {
	if err := s.net.LinkSetDown(s.net.link(t, portB)); err != nil {
		t.Fatal(err)
	}
}

// has returns which of the addresses a host has.
func (s *space) has(addresses []netip.Prefix) []netlink.Addr {
	l, err := s.LinkByName(nic)
	if err != nil {
		return nil
	}
	list, err := s.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(list, func(a netlink.Addr) bool {
		ip, _ := netip.AddrFromSlice(a.IP)
		return !slices.ContainsFunc(addresses, func(p netip.Prefix) bool { return p.Addr() == ip.Unmap() })
	})
}

// remove takes addresses off as an administrator would.
func (s *space) remove(t *attempt, addresses []netip.Prefix) {
	for _, a := range s.has(addresses) {
		if err := s.AddrDel(s.link(t, nic), &a); err != nil {
			t.Fatal(err)
		}
	}
}

// reach connects from the client to an address where nobody listens. A refusal
// means that a host accepts packets for it.
func (s segment) reach(a netip.Addr) error {
	return s.net.do(func() error {
		c, err := net.DialTimeout("tcp", netip.AddrPortFrom(a, 9).String(), time.Second)
		if err == nil {
			_ = c.Close()
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			return nil
		}
		return fmt.Errorf("connect to %v: %w", a, err)
	})
}

// believes reports whether the client takes a host for the holder of an address.
// It asks nobody: it goes by what it was told last.
func (s segment) believes(t *attempt, a netip.Addr, host *space) bool {
	list, err := s.net.NeighList(s.net.link(t, bridge).Attrs().Index, netlink.FAMILY_ALL)
	if err != nil {
		return false
	}
	hardware := host.link(t, nic).Attrs().HardwareAddr.String()
	return slices.ContainsFunc(list, func(n netlink.Neigh) bool {
		ip, _ := netip.AddrFromSlice(n.IP)
		return ip.Unmap() == a && n.HardwareAddr.String() == hardware
	})
}

// eventually polls until f holds.
func eventually(t *attempt, what string, f func() bool) {
	end := time.NewTimer(patient)
	defer end.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-end.C:
			t.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}

// stays watches for a while that f does not cease to hold.
func stays(t *attempt, what string, d time.Duration, f func() bool) {
	end := time.NewTimer(d)
	defer end.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if !f() {
			t.Fatalf("it did not stay so: %s", what)
		}
		select {
		case <-end.C:
			return
		case <-tick.C:
		}
	}
}
