package main

// The network: two routers and a client, each in a network namespace of its own,
// on one bridge in a fourth. No namespace has a name, so all of it is gone with
// this process, however that ends.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// eth is the only interface of a router and of the client.
const eth = "eth0"

// side is one of the two routers. The first has the higher priority and is the
// Active one when a run begins.
type side int

const (
	first side = iota
	second
)

func (s side) String() string { return [...]string{"a", "b"}[s] }

func (s side) other() side { return 1 - s }

// subnet holds the routers, the client and the virtual addresses.
const subnetBits = 16

func (s side) addr() netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 0, 11 + byte(s)}) }

func clientAddr() netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 0, 1}) }

// vipOf returns the address of the instance with that VRID.
func vipOf(vrid int) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 100, byte(vrid)}) }

func isVIP(a netip.Addr) bool {
	b := a.As4()
	return b[2] == 100
}

// space is a network namespace with an OS thread inside it. Processes started on
// that thread are inside as well, and are killed when it ends.
type space struct {
	*netlink.Handle
	ns    netns.NsHandle
	calls chan func()
	ended chan struct{}
}

func newSpace() (*space, error) {
	s := &space{calls: make(chan func()), ended: make(chan struct{})}
	made := make(chan error)
	go func() {
		defer close(s.ended)
		// Never unlocked: the runtime ends the thread with this goroutine.
		runtime.LockOSThread()
		var err error
		s.ns, err = netns.New()
		made <- err
		if err != nil {
			return
		}
		for call := range s.calls {
			call()
		}
	}()
	if err := <-made; err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	var err error
	if s.Handle, err = netlink.NewHandleAt(s.ns, unix.NETLINK_ROUTE); err != nil {
		s.close()
		return nil, fmt.Errorf("open netlink in a network namespace: %w", err)
	}
	if err := s.up("lo"); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// do runs fn on the thread inside. Sockets that fn opens stay inside.
func (s *space) do(fn func() error) error {
	done := make(chan error, 1)
	s.calls <- func() { done <- fn() }
	return <-done
}

func (s *space) close() {
	close(s.calls)
	<-s.ended
	if s.Handle != nil {
		s.Handle.Close()
	}
	_ = s.ns.Close()
}

func (s *space) up(name string) error { return s.set(name, s.LinkSetUp, "up") }

func (s *space) down(name string) error { return s.set(name, s.LinkSetDown, "down") }

func (s *space) set(name string, set func(netlink.Link) error, what string) error {
	link, err := s.LinkByName(name)
	if err == nil {
		err = set(link)
	}
	if err != nil {
		return fmt.Errorf("set link %s %s: %w", name, what, err)
	}
	return nil
}

// vips returns the virtual addresses that the namespace has.
func (s *space) vips() (map[netip.Addr]bool, error) {
	list, err := s.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	held := map[netip.Addr]bool{}
	for _, a := range list {
		if addr, ok := netip.AddrFromSlice(a.IP.To4()); ok && isVIP(addr) {
			held[addr] = true
		}
	}
	return held, nil
}

// network is the four namespaces.
type network struct {
	routers [2]*space
	client  *space
	bridge  *space

	closing sync.Once
}

func newNetwork() (*network, error) {
	n := &network{}
	for _, s := range []**space{&n.bridge, &n.client, &n.routers[first], &n.routers[second]} {
		made, err := newSpace()
		if err != nil {
			n.close()
			return nil, err
		}
		*s = made
	}
	if err := n.wire(); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

func (n *network) wire() error {
	// Snooping would hold back multicast, and a bridge left to itself takes the
	// hardware address of one of its ports.
	snooping := false
	bridge := &netlink.Bridge{
		LinkAttrs:         netlink.LinkAttrs{Name: "br0", HardwareAddr: net.HardwareAddr{2, 0, 0, 0x77, 0, 0}},
		MulticastSnooping: &snooping,
	}
	if err := n.bridge.LinkAdd(bridge); err != nil {
		return fmt.Errorf("add the bridge: %w", err)
	}
	if err := n.bridge.up("br0"); err != nil {
		return err
	}
	for _, p := range []struct {
		port string
		in   *space
		addr netip.Addr
	}{
		{"c", n.client, clientAddr()},
		{first.String(), n.routers[first], first.addr()},
		{second.String(), n.routers[second], second.addr()},
	} {
		if err := n.plug(bridge, p.port, p.in, p.addr); err != nil {
			return fmt.Errorf("plug %s in: %w", p.port, err)
		}
	}
	return nil
}

func (n *network) plug(bridge netlink.Link, port string, in *space, addr netip.Addr) error {
	cable := netlink.NewVeth(netlink.LinkAttrs{Name: port, MasterIndex: bridge.Attrs().Index})
	cable.PeerName = eth
	cable.PeerNamespace = netlink.NsFd(in.ns)
	b := addr.As4()
	cable.PeerHardwareAddr = net.HardwareAddr{2, 0, 0, 0x77, 1, b[3]}
	if err := n.bridge.LinkAdd(cable); err != nil {
		return err
	}
	if err := n.bridge.up(port); err != nil {
		return err
	}
	if err := in.up(eth); err != nil {
		return err
	}
	link, err := in.LinkByName(eth)
	if err != nil {
		return err
	}
	return in.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(subnetBits, 32)}})
}

// pull takes a router's cable out: its interface
// loses its carrier.
func (n *network) pull(s side) error { return n.bridge.down(s.String()) }

const cutTable = `add table bridge cut
add chain bridge cut forward { type filter hook forward priority 0; }
`

// drop silently drops frames, ARP included, that go from one router to another
// place, "" for every place; verdict is drop, or a match before it.
func (n *network) drop(ctx context.Context, from side, to string, verdict string) error {
	out := ""
	if to != "" {
		out = fmt.Sprintf("oifname %q ", to)
	}
	return n.nft(ctx, fmt.Sprintf("%sadd rule bridge cut forward iifname %q %s%s\n", cutTable, from.String(), out, verdict))
}

// isolate drops every frame from and to a router. The carrier stays.
func (n *network) isolate(ctx context.Context, s side) error {
	return n.nft(ctx, fmt.Sprintf("%[1]sadd rule bridge cut forward iifname %[2]q drop\nadd rule bridge cut forward oifname %[2]q drop\n", cutTable, s.String()))
}

// part drops what the routers send each other; the client still reaches both.
func (n *network) part(ctx context.Context) error { return n.lose(ctx, "drop") }

// lose applies a verdict to what the routers send each other.
func (n *network) lose(ctx context.Context, verdict string) error {
	return errors.Join(n.drop(ctx, first, second.String(), verdict), n.drop(ctx, second, first.String(), verdict))
}

// heal ends every drop.
func (n *network) heal(ctx context.Context) error {
	return n.nft(ctx, "add table bridge cut\ndelete table bridge cut\n")
}

func (n *network) nft(ctx context.Context, rules string) error {
	return n.bridge.do(func() error {
		cmd := exec.CommandContext(ctx, "nft", "-f", "-")
		cmd.Stdin = strings.NewReader(rules)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("nft: %w: %s", err, strings.TrimSpace(string(out)))
		}
		return nil
	})
}

// close takes everything down. Processes that still run inside are killed.
func (n *network) close() {
	n.closing.Do(func() {
		for _, s := range []*space{n.client, n.routers[first], n.routers[second], n.bridge} {
			if s != nil {
				s.close()
			}
		}
	})
}
