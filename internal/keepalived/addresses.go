package keepalived

import (
	"net/netip"
	"slices"
)

// maxPaths bounds the addresses of a node, maxVIPs those of an instance.
const (
	maxPaths = 8
	maxVIPs  = 255
)

// path is the two ends of one way between the hosts; what is not known is invalid.
type path [2]netip.Addr

func (w path) complete() bool { return w[0].IsValid() && w[1].IsValid() }

// four reports the family of a path, by what is known of it or by an address that is
// to be advertised on it.
func (w path) four(vip netip.Addr) bool {
	for _, a := range w {
		if a.IsValid() {
			return a.Is4()
		}
	}
	return vip.Is4()
}

// paths finds the nodes' addresses: each host's own, or what the other calls its peer.
func (p *pair) paths() {
	var ways []path
	var unknown []path
	var families []bool // of unknown: IPv4
	for _, u := range p.units {
		w := u.way()
		first := netip.Addr{}
		if in := u.first(); len(in.addresses) > 0 {
			first = in.addresses[0].prefix.Addr()
		}
		switch used := func(x path) bool { return x[0] == w[0] || x[1] == w[1] }; {
		case !w.complete():
			unknown, families = append(unknown, w), append(families, w.four(first))
		case !slices.ContainsFunc(ways, used) && w[0] != w[1] && w[0].Is4() == w[1].Is4() && len(ways) < maxPaths:
			ways = append(ways, w)
		}
	}
	for i, w := range unknown {
		covered := func(x path) bool { return p.units[0].multicast || x.four(netip.Addr{}) == families[i] }
		if !slices.ContainsFunc(ways, covered) && len(ways) < maxPaths {
			ways = append(ways, w)
		}
	}
	if len(ways) == 0 {
		ways = []path{{}}
	}
	for _, w := range ways {
		for i, a := range w {
			text := a.String()
			if !a.IsValid() {
				text = p.lacks("ADDRESS-OF-" + p.labels[i])
			}
			p.addresses[i] = append(p.addresses[i], text)
		}
	}
}

// way is the path that an instance's advertisements take.
func (u *unit) way() path {
	var w path
	for i, in := range u.here {
		if in == nil {
			continue
		}
		if node(in.source) {
			w[i] = in.source
		} else if in.source.IsValid() {
			u.note(in.at, "%s cannot be a node's address: use a global one", in.source)
		}
		if len(in.peers) > 1 {
			u.note(in.at, "there is more than one unicast_peer; a pair has two nodes, and %s is taken for the other", in.peers[0])
		}
	}
	for i, in := range u.here {
		if in != nil && len(in.peers) > 0 && !w[1-i].IsValid() && node(in.peers[0]) {
			w[1-i] = in.peers[0]
		}
	}
	return w
}

// virtual settles the virtual addresses: one interface, each address once, IPv4 first
// where version 2 advertises.
func (p *pair) virtual() {
	seen := map[netip.Addr]string{}
	for _, u := range p.units {
		in := u.first()
		var four, six []string
		firstSix := false
		for _, a := range in.addresses {
			addr := a.prefix.Addr()
			other, twice := seen[addr]
			why := unusable(a.prefix)
			switch {
			case a.dev != "" && a.dev != u.iface:
				u.note(a.at, "%s dev %s: an instance has the addresses of one interface: give this one an instance and a VRID of its own", a.prefix, a.dev)
			case why != "":
				u.note(a.at, "%s %s", a.prefix, why)
			case twice:
				u.note(a.at, "%s is in instance %s already", a.prefix, other)
			case slices.Contains(p.addresses[0], addr.String()) || slices.Contains(p.addresses[1], addr.String()):
				u.note(a.at, "%s is the address of a node, not a virtual one", a.prefix)
			case len(four)+len(six) == maxVIPs:
				u.note(a.at, "%s: an instance has at most %d addresses", a.prefix, maxVIPs)
			default:
				seen[addr] = u.name
				if addr.Is4() {
					four = append(four, a.prefix.String())
				} else {
					firstSix = firstSix || len(four) == 0 && len(six) == 0
					six = append(six, a.prefix.String())
				}
				if a.excluded && addr.Is4() == in.addresses[0].prefix.Addr().Is4() {
					u.note(a.at, "%s is not advertised by keepalived and is by Tanist: before hosts of both run side by side, move it to virtual_ipaddress on both", a.prefix)
				}
			}
		}
		if u.vips = append(four, six...); firstSix && len(in.members) == 0 {
			u.vips = append(six, four...)
		}
		switch {
		case len(u.vips) == 0:
			u.vips = []string{p.lacks("THE-VIRTUAL-ADDRESS")}
		case netip.MustParsePrefix(u.vips[0]).Addr().Is6():
			u.version = 3 // as keepalived does
			p.speaks(u, false)
		default:
			p.speaks(u, true)
		}
	}
}

// speaks sees to it that unicast advertisements have an address to come from.
func (p *pair) speaks(u *unit, four bool) {
	if u.multicast {
		return
	}
	for i := range p.addresses {
		has := slices.ContainsFunc(p.addresses[i], func(s string) bool {
			a, err := netip.ParseAddr(s)
			return err != nil || a.Is4() == four
		})
		if !has && len(p.addresses[i]) < maxPaths {
			for j := range p.addresses {
				p.addresses[j] = append(p.addresses[j], p.lacks("ADDRESS-OF-"+p.labels[j]+map[bool]string{true: "-IPV4", false: "-IPV6"}[four]))
			}
			return
		}
	}
}

// unusable says why Tanist does not take a virtual address, empty when it does.
func unusable(p netip.Prefix) string {
	a := p.Addr()
	switch {
	case a.Is4In6() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || p.Bits() == 0 || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "is not the address of a host"
	case a.Is4() && p.Bits() < 31 && p.Masked().Addr() == a, a.Is6() && p.Bits() < 127 && p.Masked().Addr() == a:
		return "is the name of its network: use an address in it"
	case a.Is4() && p.Bits() < 31 && broadcast(p) == a:
		return "is the broadcast address of its network"
	}
	return ""
}

func broadcast(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(b)
}
