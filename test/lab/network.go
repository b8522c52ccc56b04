package lab

// The wires: two bridges in the switch's namespace, one per path, and a veth
// pair from each of them to each node that is on.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Path is one of the two networks that join the nodes.
type Path int

// The paths: a node's interface of the same name is its end of it.
const (
	Eth0 Path = iota // service: 10.77.0.0/24, fd77:0::/64
	Eth1             // heartbeat: 10.77.1.0/24, fd77:1::/64
)

// Paths are both networks.
var Paths = []Path{Eth0, Eth1}

// String returns the interface's name inside a node.
func (p Path) String() string { return fmt.Sprintf("eth%d", int(p)) }

// ParsePath is the inverse of Path.String.
func ParsePath(s string) (Path, error) {
	for _, p := range Paths {
		if p.String() == s {
			return p, nil
		}
	}
	return 0, fmt.Errorf("no path %q (eth0 or eth1)", s)
}

func (p Path) bridge() string { return fmt.Sprintf("br%d", int(p)) }

func (p Path) addr(host byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, byte(p), host}) }

func (p Path) addr6(host string) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("fd77:%d::%s", int(p), host))
}

// Switch is the namespace of the two bridges, where the lab's clients live. It
// has no way out of the lab.
type Switch struct {
	space
	runner
}

// Addr returns the switch's own address on a path: 10.77.0.1 or 10.77.1.1.
func (s *Switch) Addr(p Path) netip.Addr { return p.addr(1) }

// Addr6 returns the switch's own IPv6 address on a path: fd77:0::1 or fd77:1::1.
func (s *Switch) Addr6(p Path) netip.Addr { return p.addr6("1") }

// MAC returns the switch's own hardware address on a path. Left to itself a bridge
// takes one of its ports', and changes it under its neighbours when a node comes or goes.
func (s *Switch) MAC(p Path) net.HardwareAddr { return macAddr(p, 1) }

func macAddr(p Path, host byte) net.HardwareAddr {
	return net.HardwareAddr{2, 0, 0, 0x77, byte(p), host}
}

func (s *Switch) up() error {
	if err := s.create(); err != nil {
		return err
	}
	h, err := s.Netlink()
	if err != nil {
		return err
	}
	defer h.Close()
	for _, p := range Paths {
		// Snooping would hold back multicast that no node asked for by IGMP or MLD.
		snooping := false
		br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: p.bridge(), HardwareAddr: s.MAC(p)}, MulticastSnooping: &snooping}
		if err := h.LinkAdd(br); err != nil {
			return fmt.Errorf("add %s: %w", p.bridge(), err)
		}
		if err := addAddrs(h, br, s.Addr(p), s.Addr6(p)); err != nil {
			return err
		}
		if err := h.LinkSetUp(br); err != nil {
			return fmt.Errorf("set %s up: %w", p.bridge(), err)
		}
	}
	return nil
}

// addAddrs gives a link its IPv4 /24 and its IPv6 /64, the latter at once: nobody
// else in the lab could have it.
func addAddrs(h *netlink.Handle, link netlink.Link, v4, v6 netip.Addr) error {
	for _, a := range []*netlink.Addr{
		{IPNet: &net.IPNet{IP: v4.AsSlice(), Mask: net.CIDRMask(24, 32)}},
		{IPNet: &net.IPNet{IP: v6.AsSlice(), Mask: net.CIDRMask(64, 128)}, Flags: unix.IFA_F_NODAD},
	} {
		if err := h.AddrAdd(link, a); err != nil {
			return fmt.Errorf("add %s to %s: %w", a.IPNet, link.Attrs().Name, err)
		}
	}
	return nil
}

// port is the switch's end of a node's cable.
func (n *Node) port(p Path) string { return fmt.Sprintf("%s%d", n.name, int(p)) }

// plug makes the node's network anew. A namespace that outlived its node would
// keep the node's addresses, answer ping, and reset connections.
func (n *Node) plug() error {
	if err := n.unplug(); err != nil {
		return err
	}
	if err := n.create(); err != nil {
		return err
	}
	ns, err := netns.GetFromPath(n.NetNS())
	if err != nil {
		return n.gone(err)
	}
	defer ns.Close()
	inside, err := n.Netlink()
	if err != nil {
		return err
	}
	defer inside.Close()
	outside, err := n.lab.Switch.Netlink()
	if err != nil {
		return err
	}
	defer outside.Close()
	for _, p := range Paths {
		if err := n.plugPath(p, ns, inside, outside); err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) plugPath(p Path, ns netns.NsHandle, inside, outside *netlink.Handle) error {
	bridge, err := outside.LinkByName(p.bridge())
	if err != nil {
		return fmt.Errorf("find %s: %w", p.bridge(), err)
	}
	port := netlink.NewVeth(netlink.LinkAttrs{Name: n.port(p), MasterIndex: bridge.Attrs().Index})
	port.PeerName = p.String()
	port.PeerHardwareAddr = n.MAC(p)
	port.PeerNamespace = netlink.NsFd(ns)
	if err := outside.LinkAdd(port); err != nil {
		return fmt.Errorf("add port %s: %w", n.port(p), err)
	}
	if _, err := os.Stat(n.file("cable-down-" + p.String())); errors.Is(err, fs.ErrNotExist) {
		if err := setUp(outside, n.port(p), true); err != nil {
			return err
		}
	}
	eth, err := inside.LinkByName(p.String())
	if err != nil {
		return fmt.Errorf("find %s in node %s: %w", p, n.name, err)
	}
	if err := inside.LinkSetUp(eth); err != nil {
		return fmt.Errorf("set %s up in node %s: %w", p, n.name, err)
	}
	return addAddrs(inside, eth, n.Addr(p), n.Addr6(p))
}

// unplug pulls the cables, both ends with them, and forgets the namespace.
func (n *Node) unplug() error {
	h, err := n.lab.Switch.Netlink()
	if errors.Is(err, ErrOff) {
		return n.remove()
	}
	if err != nil {
		return err
	}
	defer h.Close()
	for _, p := range Paths {
		link, err := h.LinkByName(n.port(p))
		if notFound := (netlink.LinkNotFoundError{}); errors.As(err, &notFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("find port %s: %w", n.port(p), err)
		}
		if err := h.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("delete port %s: %w", n.port(p), err)
		}
	}
	return n.remove()
}

// CableDown pulls one cable: the node's interface loses its carrier, and stays
// without it over reboots and power cycles until CableUp.
func (l *Lab) CableDown(n *Node, p Path) error { return n.cable(p, false) }

// CableUp plugs the cable in again.
func (l *Lab) CableUp(n *Node, p Path) error { return n.cable(p, true) }

func (n *Node) cable(p Path, up bool) error {
	mark := n.file("cable-down-" + p.String())
	if up {
		if err := os.Remove(mark); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	} else if err := os.WriteFile(mark, nil, 0o600); err != nil {
		return err
	}
	h, err := n.lab.Switch.Netlink()
	if err != nil {
		return err
	}
	defer h.Close()
	err = setUp(h, n.port(p), up)
	if notFound := (netlink.LinkNotFoundError{}); errors.As(err, &notFound) {
		return nil // the node is off; plug reads the mark
	}
	return err
}

// End is one side of a cut: a node, or the switch with the clients in it.
type End interface {
	// port is the switch's interface towards a node, empty for the switch itself.
	port(Path) string
}

func (s *Switch) port(Path) string { return "" }

const cutTable = `add table bridge cut
add chain bridge cut forward { type filter hook forward priority 0; }
add chain bridge cut input { type filter hook input priority 0; }
add chain bridge cut output { type filter hook output priority 0; }
`

// CutOneWay silently drops every frame, ARP included, that goes from one end to
// the other on the given paths, all when none is given. The carrier stays. Cuts
// add up, and outlive power cycles, until Heal.
func (l *Lab) CutOneWay(ctx context.Context, from, to End, paths ...Path) error {
	return l.drop(ctx, from, to, "drop", paths)
}

// Lose drops percent of the frames from one end to the other at random, where
// CutOneWay drops all. percent is 1 to 99.
func (l *Lab) Lose(ctx context.Context, from, to End, percent int, paths ...Path) error {
	if percent < 1 || percent > 99 {
		return fmt.Errorf("lose %d %% of frames: want 1 to 99", percent)
	}
	return l.drop(ctx, from, to, fmt.Sprintf("numgen random mod 100 < %d drop", percent), paths)
}

// Heal ends all cuts and losses. Pulled cables stay pulled, frozen nodes frozen.
func (l *Lab) Heal(ctx context.Context) error {
	return l.nft(ctx, "add table bridge cut\ndelete table bridge cut\n")
}

func (l *Lab) drop(ctx context.Context, from, to End, verdict string, paths []Path) error {
	if from == to {
		return errors.New("cut one way: both ends are the same")
	}
	if len(paths) == 0 {
		paths = Paths
	}
	var rules strings.Builder
	rules.WriteString(cutTable)
	for _, p := range paths {
		rules.WriteString("add rule bridge cut ")
		switch in, out := from.port(p), to.port(p); {
		case in == "":
			fmt.Fprintf(&rules, "output oifname %q", out)
		case out == "":
			fmt.Fprintf(&rules, "input iifname %q", in)
		default:
			fmt.Fprintf(&rules, "forward iifname %q oifname %q", in, out)
		}
		fmt.Fprintf(&rules, " %s\n", verdict)
	}
	return l.nft(ctx, rules.String())
}

// silence drops every frame from and to one node, in a table of its own.
func (n *Node) silence(ctx context.Context, on bool) error {
	table := "frozen_" + n.name
	rules := fmt.Sprintf("add table bridge %[1]s\ndelete table bridge %[1]s\n", table)
	if on {
		rules += fmt.Sprintf(`add table bridge %[1]s
add chain bridge %[1]s in { type filter hook prerouting priority 0; }
add chain bridge %[1]s out { type filter hook postrouting priority 0; }
add rule bridge %[1]s in iifname { %[2]q, %[3]q } drop
add rule bridge %[1]s out oifname { %[2]q, %[3]q } drop
`, table, n.port(Eth0), n.port(Eth1))
	}
	return n.lab.nft(ctx, rules)
}

// nft applies rules in the switch, all or none.
func (l *Lab) nft(ctx context.Context, rules string) error {
	nft, err := command("nft")
	if err != nil {
		return err
	}
	return l.Switch.Do(func() error {
		cmd := exec.CommandContext(ctx, nft, "-f", "-")
		cmd.Stdin = strings.NewReader(rules)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("nft: %w: %s", err, tail(out, 10))
		}
		return nil
	})
}
