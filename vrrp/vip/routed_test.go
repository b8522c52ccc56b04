package vip

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/vrrp/internal/netnstest"
)

var (
	pathPeer  = netip.MustParseAddr("198.51.100.12")
	pathPeer6 = netip.MustParseAddr("2001:db8:1::12")
)

// secondPath joins who asks and the peer once more, without a switch.
func (l lan) secondPath(t *testing.T) {
	t.Helper()
	netnstest.Connect(t, l.self, l.peer, "path1")
	l.self.AddAddr(t, "path1", "198.51.100.11/24")
	l.peer.AddAddr(t, "path1", "198.51.100.12/24")
	put6(t, l.self, "path1", "2001:db8:1::11/64")
	put6(t, l.peer, "path1", "2001:db8:1::12/64")
	// The link's own traffic keeps the neighbours of a path known; the kernel
	// repeats a solicitation only after a second.
	ours, its := mac(t, l.self, "path1"), mac(t, l.peer, "path1")
	for from, to := range map[string]netip.Addr{"198.51.100.11": pathPeer, "2001:db8:1::11": pathPeer6} {
		neighbour(t, l.self, "path1", to, its)
		neighbour(t, l.peer, "path1", netip.MustParseAddr(from), ours)
	}
}

// muteEcho keeps the peer from answering an echo.
func muteEcho(t *testing.T, l lan) {
	l.peer.Sysctl(t, "ipv4/icmp_echo_ignore_all", "1")
	l.peer.Sysctl(t, "ipv6/icmp/echo_ignore_all", "1")
}

// muteTCP drops every TCP segment that the peer sends, as a firewall would.
func muteTCP(t *testing.T, l lan) {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rule := netlink.NewRule()
		rule.Family, rule.Priority, rule.IPProto, rule.Type = family, 1, unix.IPPROTO_TCP, unix.RTN_BLACKHOLE
		if err := l.peer.RuleAdd(rule); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAskOnTheSecondPath: the first path is cut, and each of the two ways to ask on
// the other is enough. It says nothing of the link.
func TestAskOnTheSecondPath(t *testing.T) {
	cut := func(t *testing.T, l lan) { l.peer.Down(t, "path1") }
	for _, family := range []struct {
		name   string
		onLink netip.Addr
		path   netip.Addr
		vip    netip.Addr
	}{
		{"IPv4", peerAddr, pathPeer, vipAddr},
		{"IPv6", peerAddr6, pathPeer6, vipAddr6},
	} {
		for _, tt := range []struct {
			name  string
			setUp []func(*testing.T, lan)
			host  bool
		}{
			{name: "the echo answers, the port is filtered", setUp: []func(*testing.T, lan){muteTCP}, host: true},
			{name: "the port answers, the echo is filtered", setUp: []func(*testing.T, lan){muteEcho}, host: true},
			{name: "both are filtered", setUp: []func(*testing.T, lan){muteTCP, muteEcho}},
			{name: "the second path is cut as well", setUp: []func(*testing.T, lan){cut}},
		} {
			t.Run(family.name+", "+tt.name, func(t *testing.T) {
				l := newLAN6(t)
				l.secondPath(t)
				l.peer.Down(t, "peer0")
				for _, setUp := range tt.setUp {
					setUp(t, l)
				}
				got, err := l.ask(t, Question{
					VIPs: []netip.Addr{family.vip}, PeerOnLink: []netip.Addr{family.onLink},
					PeerTCP: []netip.AddrPort{netip.AddrPortFrom(family.onLink, 7511), netip.AddrPortFrom(family.path, 7511)},
				})
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(Answer{Host: tt.host}, got, cmpNetip); diff != "" || got.OnLink() {
					t.Errorf("on the link %v, answer (-want +got):\n%s", got.OnLink(), diff)
				}
			})
		}
	}
}

// TestAskFromWhereThePeerExpectsIt: what the peer's kernel drops of other addresses, or
// of ports that any user has, it does not drop of that.
func TestAskFromWhereThePeerExpectsIt(t *testing.T) {
	for _, family := range []struct {
		name            string
		peer, usual, us netip.Addr
		bits            string
	}{
		{"IPv4", pathPeer, netip.MustParseAddr("198.51.100.11"), netip.MustParseAddr("198.51.100.21"), "/24"},
		{"IPv6", pathPeer6, netip.MustParseAddr("2001:db8:1::11"), netip.MustParseAddr("2001:db8:1::21"), "/64"},
	} {
		for _, tt := range []struct {
			name string
			from []netip.Addr
			host bool
		}{
			{"from anywhere", nil, false},
			{"from where the peer expects it", []netip.Addr{family.us}, true},
			{"from an address that is gone", []netip.Addr{family.us.Next()}, false},
		} {
			t.Run(family.name+", "+tt.name, func(t *testing.T) {
				l := newLAN6(t)
				l.secondPath(t)
				l.peer.Down(t, "peer0")
				muteEcho(t, l)
				if family.us.Is4() {
					l.self.AddAddr(t, "path1", family.us.String()+family.bits)
				} else {
					put6(t, l.self, "path1", family.us.String()+family.bits)
				}
				neighbour(t, l.peer, "path1", family.us, mac(t, l.self, "path1"))
				// Answered is nothing to an ordinary port, nothing to the usual address.
				for _, narrow := range []func(*netlink.Rule){
					func(r *netlink.Rule) { r.Dport = netlink.NewRulePortRange(1024, 65534) },
					func(r *netlink.Rule) {
						r.Dst = &net.IPNet{IP: family.usual.AsSlice(), Mask: net.CIDRMask(family.usual.BitLen(), family.usual.BitLen())}
					},
				} {
					rule := netlink.NewRule()
					rule.Family, rule.Priority, rule.IPProto, rule.Type = netlink.FAMILY_V4, 1, unix.IPPROTO_TCP, unix.RTN_BLACKHOLE
					if family.us.Is6() {
						rule.Family = netlink.FAMILY_V6
					}
					narrow(rule)
					if err := l.peer.RuleAdd(rule); err != nil {
						t.Fatal(err)
					}
				}
				got, err := l.ask(t, Question{PeerTCP: []netip.AddrPort{netip.AddrPortFrom(family.peer, 7511)}, PeerTCPFrom: tt.from})
				if err != nil {
					t.Fatal(err)
				}
				if got.Host != tt.host {
					t.Errorf("the host answers: %v, want %v", got.Host, tt.host)
				}
			})
		}
	}
}

// TestAskTogetherAsksEachPathOnce: many instances on several interfaces cost the
// other path what one does.
func TestAskTogetherAsksEachPathOnce(t *testing.T) {
	l := newLAN6(t)
	l.secondPath(t)
	netnstest.Connect(t, l.self, l.sw, "self1")
	var qs []Question
	for i := range 255 {
		qs = append(qs, Question{
			Interface: fmt.Sprintf("self%d", i%2), VIPs: []netip.Addr{netip.AddrFrom4([4]byte{203, 0, 113, byte(i)})},
			PeerTCP: []netip.AddrPort{netip.AddrPortFrom(pathPeer, 7511), netip.AddrPortFrom(pathPeer, 7512)}, Within: ProbeWithin,
		})
	}
	before := l.peerEchoes(t)
	err := l.self.Do(func() error {
		for i, r := range AskTogether(t.Context(), qs) {
			if r.Err != nil || !r.Answer.Host || r.Answer.OnLink() {
				t.Errorf("question %d: host %v, on the link %v, error %v", i, r.Answer.Host, r.Answer.OnLink(), r.Err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if asked := l.peerEchoes(t) - before; asked != askRounds {
		t.Errorf("the peer was sent %d echoes, want %d", asked, askRounds)
	}
}

// peerEchoes is how many echoes the peer's kernel got over IPv4.
func (l lan) peerEchoes(t *testing.T) (n int) {
	t.Helper()
	err := l.peer.Do(func() error {
		b, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return err
		}
		var names []string
		for line := range strings.Lines(string(b)) {
			fields := strings.Fields(line)
			switch {
			case fields[0] != "Icmp:":
			case names == nil:
				names = fields
			default:
				_, err = fmt.Sscan(fields[slices.Index(names, "InEchos")], &n)
				return err
			}
		}
		return fmt.Errorf("no ICMP counters in %q", b)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestLinkLocalPortsAreOfOneLink: elsewhere they would be another host's.
func TestLinkLocalPortsAreOfOneLink(t *testing.T) {
	ask := func(iface string, ports ...string) (q Question) {
		q.Interface = iface
		for _, p := range ports {
			q.PeerTCP = append(q.PeerTCP, netip.MustParseAddrPort(p))
		}
		return q
	}
	const routable, local = "[2001:db8::12]:7511", "[fe80::12]:7511"
	for _, tt := range []struct {
		name string
		a, b Question
		want bool
	}{
		{"the same ports from two interfaces", ask("eth0", routable), ask("eth1", routable), true},
		{"a link-local one among them", ask("eth0", routable, local), ask("eth1", routable, local), false},
		{"link-local ones on one interface", ask("eth0", local), ask("eth0", local), true},
		{"other ports", ask("eth0", local), ask("eth0", routable), false},
	} {
		if got := tt.a.sharesRoutes(tt.b); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
