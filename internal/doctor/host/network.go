package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/internal/doctor"
	"github.com/tanist-ha/tanist/vrrp/vip"
	"github.com/tanist-ha/tanist/vrrp/wire"
)

// Interfaces are the interfaces of this host as of one moment.
type Interfaces struct{ list []iface }

type iface struct {
	name     string
	index    int
	hardware string
	prefixes []netip.Prefix
	state    string // up, or what is wrong in words
	groups   bool   // it has multicast
}

// ReadInterfaces lists them.
func ReadInterfaces() (Interfaces, error) {
	all, err := net.Interfaces()
	if err != nil {
		return Interfaces{}, fmt.Errorf("list interfaces: %w", err)
	}
	var n Interfaces
	for _, i := range all {
		own := iface{name: i.Name, index: i.Index, hardware: i.HardwareAddr.String(), state: stateOf(i), groups: i.Flags&net.FlagMulticast != 0}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it went meanwhile
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				own.prefixes = append(own.prefixes, p)
			}
		}
		n.list = append(n.list, own)
	}
	return n, nil
}

func stateOf(i net.Interface) string {
	switch {
	case i.Flags&net.FlagUp == 0:
		return "is down"
	case i.Flags&net.FlagRunning == 0:
		carrier, err := os.ReadFile("/sys/class/net/" + i.Name + "/carrier")
		if err == nil && strings.TrimSpace(string(carrier)) == "0" {
			return "has no carrier"
		}
	}
	return "up"
}

// Hardware lists the hardware addresses of the host.
func (n Interfaces) Hardware() []string {
	var all []string
	for _, i := range n.list {
		if i.hardware != "" {
			all = append(all, i.hardware)
		}
	}
	return all
}

// Has reports whether an interface has an address.
func (n Interfaces) Has(name string, a netip.Addr) bool {
	return slices.ContainsFunc(n.list, func(i iface) bool { return i.name == name && i.has(a) })
}

func (i iface) has(a netip.Addr) bool {
	return slices.ContainsFunc(i.prefixes, func(p netip.Prefix) bool { return p.Addr() == a.WithZone("") })
}

// Describe fills in what is known of the near end of a path: its interface, and
// whether the peer's address is on its link.
func (n Interfaces) Describe(s *doctor.Sight) {
	for _, i := range n.list {
		if i.has(s.Local) {
			s.Interface, s.Link = i.name, i.state
			s.OnLink = i.hardware != "" && slices.ContainsFunc(i.prefixes, func(p netip.Prefix) bool { return p.Contains(s.Peer.WithZone("")) })
			return
		}
	}
}

// DescribeGroup fills in what is known of the near end of a group, whose interface it
// names: as the heartbeat does it sends from an address of own, or else from the first
// one that is not virtual, in IPv6 from the link-local one.
func (n Interfaces) DescribeGroup(g *doctor.Group, own, virtual []netip.Addr) {
	at := slices.IndexFunc(n.list, func(i iface) bool { return i.name == g.Interface })
	if at < 0 {
		return
	}
	i := n.list[at]
	g.Link, g.NoMulticast, g.Networks = i.state, !i.groups, i.prefixes
	if g.Group.Is4() {
		if first := slices.IndexFunc(own, func(a netip.Addr) bool { return a.Is4() && i.has(a) }); first >= 0 {
			g.Local = own[first]
			return
		}
	}
	g.Local, _ = wire.PrimaryAddress(g.Interface, g.Group.Is6(), virtual) // without one it stays invalid
}

// Ask asks the network, by ARP and neighbour solicitation, who has the peer's own
// addresses and the virtual ones that this host does not hold, and fills in what
// answered.
func (n Interfaces) Ask(ctx context.Context, sights []doctor.Sight, claims []doctor.Claim) {
	wanted := map[string][]netip.Addr{}
	for i := range sights { // no copy: others fill in what is not read here
		if s := &sights[i]; s.OnLink && s.Link == "up" {
			wanted[s.Interface] = append(wanted[s.Interface], s.Peer)
		}
	}
	for _, c := range claims {
		if !c.Held {
			wanted[c.Interface] = append(wanted[c.Interface], c.Address)
		}
	}
	var questions []vip.Question
	for name, addresses := range wanted {
		questions = append(questions, vip.Question{Interface: name, VIPs: addresses, Within: vip.ProbeWithin})
	}
	replies := vip.AskTogether(ctx, questions)
	for i, q := range questions {
		n.note(q.Interface, replies[i], sights, claims)
	}
}

func (n Interfaces) note(name string, r vip.Reply, sights []doctor.Sight, claims []doctor.Claim) {
	text := ""
	if r.Err != nil {
		text = r.Err.Error()
	}
	answers := func(a netip.Addr) []string {
		var all []string
		for _, c := range r.Answer.Claimants {
			if c.Address == a {
				all = append(all, c.Hardware.String())
			}
		}
		return all
	}
	var peer []string
	for i := range sights {
		if s := &sights[i]; s.Interface == name {
			s.Hardware, s.AskError = answers(s.Peer), text
			peer = append(peer, s.Hardware...)
		}
	}
	for i := range claims {
		if c := &claims[i]; c.Interface == name && !c.Held {
			c.Answers, c.AskError, c.Peer = answers(c.Address), text, peer
		}
	}
}

// Neighbours fills in where the neighbour table sends what is for virtual addresses.
func (n Interfaces) Neighbours(claims []doctor.Claim) error {
	var errs []error
	for i := range claims {
		c := &claims[i]
		at := slices.IndexFunc(n.list, func(f iface) bool { return f.name == c.Interface })
		if at < 0 || c.Held {
			continue
		}
		family := netlink.FAMILY_V4
		if c.Address.Is6() {
			family = netlink.FAMILY_V6
		}
		list, err := netlink.NeighList(n.list[at].index, family)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			errs = append(errs, fmt.Errorf("list neighbours on %s: %w", c.Interface, err))
			continue
		}
		const answered = unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE | unix.NUD_PERMANENT
		for _, e := range list {
			if a, ok := netip.AddrFromSlice(e.IP); ok && a.Unmap() == c.Address && e.State&answered != 0 && len(e.HardwareAddr) > 0 {
				c.Neighbour, c.Permanent = e.HardwareAddr.String(), e.State&unix.NUD_PERMANENT != 0
			}
		}
	}
	return errors.Join(errs...)
}
