package vip

import (
	"context"
	"errors"
	"math/bits"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/vrrp/internal/netnstest"
)

var (
	selfAddr = netip.MustParseAddr("192.0.2.11")
	vipAddr  = netip.MustParseAddr("192.0.2.100")
	peerAddr = netip.MustParseAddr("192.0.2.12")
)

// lan is three hosts on a switch: who asks, the peer, and a stranger. Each has
// an interface of its own name.
type lan struct {
	self, peer, stranger, sw *netnstest.Namespace
}

func newLAN(t *testing.T) lan {
	t.Helper()
	sw := netnstest.New(t)
	if err := sw.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}); err != nil {
		t.Fatal(err)
	}
	sw.Up(t, "br0")
	connect := func(name string) *netnstest.Namespace {
		ns := netnstest.New(t)
		netnstest.Connect(t, ns, sw, name)
		if err := sw.LinkSetMaster(sw.Link(t, name), sw.Link(t, "br0")); err != nil {
			t.Fatal(err)
		}
		return ns
	}
	l := lan{self: connect("self0"), peer: connect("peer0"), stranger: connect("stranger0"), sw: sw}
	l.self.AddAddr(t, "self0", "192.0.2.11/24")
	l.peer.AddAddr(t, "peer0", "192.0.2.12/24")
	l.stranger.AddAddr(t, "stranger0", "192.0.2.13/24")
	// A frame that is lost before the switch carries is repeated after a second.
	carries := func(ns *netnstest.Namespace, name string) {
		netnstest.Eventually(t, limit, "the carrier of "+name, func() bool {
			return ns.Link(t, name).Attrs().OperState == netlink.OperUp
		})
	}
	for name, ns := range map[string]*netnstest.Namespace{"self0": l.self, "peer0": l.peer, "stranger0": l.stranger} {
		carries(ns, name)
		carries(sw, name)
	}
	carries(sw, "br0")
	return l
}

func mac(t *testing.T, ns *netnstest.Namespace, name string) net.HardwareAddr {
	t.Helper()
	return ns.Link(t, name).Attrs().HardwareAddr
}

func (l lan) ask(t *testing.T, q Question) (Answer, error) {
	t.Helper()
	if q.Interface == "" {
		q.Interface = "self0"
	}
	q.Within = 300 * time.Millisecond // a noisy machine answers late
	var answer Answer
	err := l.self.Do(func() (err error) {
		answer, err = ask(t.Context(), q)
		return err
	})
	return answer, err
}

func TestAsk(t *testing.T) {
	everything := Question{
		VIPs: []netip.Addr{vipAddr}, PeerOnLink: []netip.Addr{peerAddr},
		PeerTCP: []netip.AddrPort{netip.AddrPortFrom(peerAddr, 7511)},
	}
	tcpOnly := Question{VIPs: []netip.Addr{vipAddr}, PeerTCP: everything.PeerTCP}
	arpAndEcho := Question{PeerOnLink: []netip.Addr{peerAddr}}
	type want struct{ claimedByPeer, claimedByStranger, host, hostHardware bool }
	for _, tt := range []struct {
		name  string
		setUp func(*testing.T, lan)
		q     Question
		want  want
	}{
		{
			name: "the peer holds the VIP", q: everything,
			setUp: func(t *testing.T, l lan) { l.peer.AddAddr(t, "peer0", "192.0.2.100/24") },
			want:  want{claimedByPeer: true, host: true, hostHardware: true},
		},
		{
			name: "the peer lives without the VIP", q: everything,
			setUp: func(*testing.T, lan) {},
			want:  want{host: true, hostHardware: true},
		},
		{
			name: "the peer is gone", q: everything,
			setUp: func(t *testing.T, l lan) { l.peer.Down(t, "peer0") },
		},
		{
			name: "a stranger holds the VIP", q: everything,
			setUp: func(t *testing.T, l lan) {
				l.peer.Down(t, "peer0")
				l.stranger.AddAddr(t, "stranger0", "192.0.2.100/24")
			},
			want: want{claimedByStranger: true},
		},
		{
			name: "two hold the VIP", q: everything,
			setUp: func(t *testing.T, l lan) {
				l.peer.AddAddr(t, "peer0", "192.0.2.100/24")
				l.stranger.AddAddr(t, "stranger0", "192.0.2.100/24")
			},
			want: want{claimedByPeer: true, claimedByStranger: true, host: true, hostHardware: true},
		},
		{
			name: "a proxy ARP router is no holder", q: everything,
			setUp: func(t *testing.T, l lan) {
				l.peer.Down(t, "peer0")
				proxyARP(t, l.stranger, "stranger0")
			},
		},
		{
			name: "a refused connection is life", q: tcpOnly,
			setUp: func(t *testing.T, l lan) { l.peer.Sysctl(t, "ipv4/icmp_echo_ignore_all", "1") },
			want:  want{host: true},
		},
		{
			name: "an accepted connection is life", q: tcpOnly,
			setUp: func(t *testing.T, l lan) {
				l.peer.Sysctl(t, "ipv4/icmp_echo_ignore_all", "1")
				listenTCP(t, l.peer)
			},
			want: want{host: true},
		},
		{
			name: "no connection is no life", q: tcpOnly,
			setUp: func(t *testing.T, l lan) { l.peer.Down(t, "peer0") },
		},
		{
			name: "no route is no life", q: Question{PeerTCP: []netip.AddrPort{netip.MustParseAddrPort("198.51.100.1:7511")}},
			setUp: func(*testing.T, lan) {},
		},
		{
			name: "echo answers where ARP is silent", q: arpAndEcho,
			setUp: func(t *testing.T, l lan) {
				l.peer.Sysctl(t, "ipv4/conf/peer0/arp_ignore", "8")
				neighbour(t, l.self, "self0", peerAddr, mac(t, l.peer, "peer0"))
				neighbour(t, l.peer, "peer0", selfAddr, mac(t, l.self, "self0"))
			},
			want: want{host: true},
		},
		{
			name: "ARP answers where echo is silent", q: arpAndEcho,
			setUp: func(t *testing.T, l lan) { l.peer.Sysctl(t, "ipv4/icmp_echo_ignore_all", "1") },
			want:  want{host: true, hostHardware: true},
		},
		{
			name: "no address of our own is needed", q: everything,
			setUp: func(t *testing.T, l lan) {
				l.peer.AddAddr(t, "peer0", "192.0.2.100/24")
				addr, err := netlink.ParseAddr("192.0.2.11/24")
				if err != nil {
					t.Fatal(err)
				}
				if err := l.self.AddrDel(l.self.Link(t, "self0"), addr); err != nil {
					t.Fatal(err)
				}
			},
			want: want{claimedByPeer: true, host: true, hostHardware: true},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLAN(t)
			tt.setUp(t, l)
			got, err := l.ask(t, tt.q)
			if err != nil {
				t.Fatal(err)
			}
			peerMAC := mac(t, l.peer, "peer0")
			expected := Answer{Host: tt.want.host}
			if tt.want.claimedByPeer {
				expected.claim(vipAddr, peerMAC)
			}
			if tt.want.claimedByStranger {
				expected.claim(vipAddr, mac(t, l.stranger, "stranger0"))
			}
			if tt.want.hostHardware {
				expected.hostHardware(peerMAC)
			}
			expected.conclude(nil)
			if diff := cmp.Diff(expected, got, cmpNetip); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
}

// neighbour tells ns a hardware address, so that it has nothing to resolve.
func neighbour(t *testing.T, ns *netnstest.Namespace, name string, addr netip.Addr, hw net.HardwareAddr) {
	t.Helper()
	family := netlink.FAMILY_V4
	if addr.Is6() {
		family = netlink.FAMILY_V6
	}
	err := ns.NeighSet(&netlink.Neigh{
		LinkIndex: ns.Link(t, name).Attrs().Index, Family: family, State: netlink.NUD_PERMANENT,
		IP: addr.AsSlice(), HardwareAddr: hw,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// proxyARP makes ns a router that answers an ordinary request for the VIP.
func proxyARP(t *testing.T, ns *netnstest.Namespace, name string) {
	t.Helper()
	netnstest.Connect(t, ns, netnstest.New(t), "behind0")
	err := ns.RouteAdd(&netlink.Route{
		LinkIndex: ns.Link(t, "behind0").Attrs().Index,
		Dst:       &net.IPNet{IP: vipAddr.AsSlice(), Mask: net.CIDRMask(32, 32)},
	})
	if err != nil {
		t.Fatal(err)
	}
	ns.Sysctl(t, "ipv4/ip_forward", "1")
	ns.Sysctl(t, "ipv4/conf/"+name+"/proxy_arp", "1")
	ns.Sysctl(t, "ipv4/neigh/"+name+"/proxy_delay", "0")
}

func listenTCP(t *testing.T, ns *netnstest.Namespace) {
	t.Helper()
	var l net.Listener
	err := ns.Do(func() (err error) {
		l, err = net.Listen("tcp4", "192.0.2.12:7511")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
}

func TestAskWhereNobodyCanHear(t *testing.T) {
	l := newLAN(t)
	q := Question{VIPs: []netip.Addr{vipAddr}}
	q.Interface = "absent0"
	if _, err := l.ask(t, q); !errors.Is(err, unix.ENODEV) {
		t.Errorf("no interface: %v, want ENODEV", err)
	}
	q.Interface = "lo"
	if _, err := l.ask(t, q); !errors.Is(err, ErrNoARP) {
		t.Errorf("loopback: %v, want %v", err, ErrNoARP)
	}
	q.Interface = "self0"
	l.self.Down(t, "self0")
	if _, err := l.ask(t, q); !errors.Is(err, ErrNoCarrier) {
		t.Errorf("link down: %v, want %v", err, ErrNoCarrier)
	}
}

func TestAskEndsWithContext(t *testing.T) {
	l := newLAN(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := l.self.Do(func() error {
		_, err := ask(ctx, Question{Interface: "self0", VIPs: []netip.Addr{vipAddr}, Within: time.Hour})
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}

func TestAskRefuses(t *testing.T) {
	for name, q := range map[string]Question{
		"invalid":     {VIPs: []netip.Addr{{}}},
		"unspecified": {PeerOnLink: []netip.Addr{netip.IPv6Unspecified()}},
		"multicast":   {PeerTCP: []netip.AddrPort{netip.MustParseAddrPort("224.0.0.18:1")}},
	} {
		q.Interface = "lo"
		if _, err := Ask(t.Context(), q); err == nil || errors.Is(err, ErrNoARP) {
			t.Errorf("%s: error %v, want one about the address", name, err)
		}
	}
}

func TestAnswerIsSorted(t *testing.T) {
	low, high := net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	var a Answer
	for _, hw := range []net.HardwareAddr{high, low, high} {
		a.claim(vipAddr, hw)
		a.claim(peerAddr, hw)
		a.hostHardware(hw)
	}
	a.conclude(nil)
	want := Answer{
		Claimants: []Claimant{
			{peerAddr, low, true}, {peerAddr, high, true}, {vipAddr, low, true}, {vipAddr, high, true},
		},
		Host:         true,
		HostHardware: []net.HardwareAddr{low, high},
	}
	if diff := cmp.Diff(want, a, cmpNetip); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
}

// A host that is heard now and then only does not prove that it has no VIP.
func TestOnLinkNeedsAllRoundsButOne(t *testing.T) {
	for mask := range uint8(1 << askRounds) {
		var a Answer
		for round := range uint8(askRounds) {
			if a.round = round; mask&(1<<round) != 0 {
				a.hostHardware(net.HardwareAddr{2, 0, 0, 0, 0, 1})
			}
		}
		if want := bits.OnesCount8(mask) >= 4; a.OnLink() != want || a.Host != (mask != 0) {
			t.Errorf("answered in rounds %05b: on link %v, host %v", mask, a.OnLink(), a.Host)
		}
	}
}

func BenchmarkAskOverhead(b *testing.B) {
	ns, _ := host(b)
	err := ns.Do(func() error {
		for b.Loop() {
			if _, err := Ask(b.Context(), Question{Interface: nic, VIPs: []netip.Addr{vipAddr}, PeerOnLink: []netip.Addr{peerAddr}, Within: time.Millisecond}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}
