package vip

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/vrrp/internal/netnstest"
)

var (
	selfAddr6 = netip.MustParseAddr("2001:db8::11")
	vipAddr6  = netip.MustParseAddr("2001:db8::100")
	peerAddr6 = netip.MustParseAddr("2001:db8::12")
)

// put6 puts an address on an interface, ready for use.
func put6(t *testing.T, ns *netnstest.Namespace, name, p string) {
	t.Helper()
	addr, err := netlink.ParseAddr(p)
	if err != nil {
		t.Fatal(err)
	}
	addr.Flags = unix.IFA_F_NODAD
	if err := ns.AddrAdd(ns.Link(t, name), addr); err != nil {
		t.Fatal(err)
	}
}

// newLAN6 has both families on every host.
func newLAN6(t *testing.T) lan {
	t.Helper()
	l := newLAN(t)
	put6(t, l.self, "self0", "2001:db8::11/64")
	put6(t, l.peer, "peer0", "2001:db8::12/64")
	put6(t, l.stranger, "stranger0", "2001:db8::13/64")
	return l
}

func TestAskIPv6(t *testing.T) {
	everything := Question{
		VIPs: []netip.Addr{vipAddr6}, PeerOnLink: []netip.Addr{peerAddr6},
		PeerTCP: []netip.AddrPort{netip.AddrPortFrom(peerAddr6, 7511)},
	}
	mixed := Question{VIPs: []netip.Addr{vipAddr, vipAddr6}, PeerOnLink: []netip.Addr{peerAddr, peerAddr6}}
	tcpOnly := Question{PeerTCP: everything.PeerTCP}
	type want struct {
		peer, stranger     []netip.Addr
		host, hostHardware bool
	}
	nothing := func(*testing.T, lan) {}
	gone := func(t *testing.T, l lan) { l.peer.Down(t, "peer0") }
	for _, tt := range []struct {
		name  string
		setUp func(*testing.T, lan)
		q     Question
		want  want
	}{
		{
			name: "the peer holds the VIP", q: everything,
			setUp: func(t *testing.T, l lan) { put6(t, l.peer, "peer0", "2001:db8::100/64") },
			want:  want{peer: []netip.Addr{vipAddr6}, host: true, hostHardware: true},
		},
		{name: "the peer lives without the VIP", q: everything, setUp: nothing, want: want{host: true, hostHardware: true}},
		{name: "the peer is gone", q: everything, setUp: gone},
		{
			name: "a stranger holds the VIP", q: everything,
			setUp: func(t *testing.T, l lan) {
				gone(t, l)
				put6(t, l.stranger, "stranger0", "2001:db8::100/64")
			},
			want: want{stranger: []netip.Addr{vipAddr6}},
		},
		{
			name: "each holds another family", q: mixed,
			setUp: func(t *testing.T, l lan) {
				l.peer.AddAddr(t, "peer0", "192.0.2.100/24")
				put6(t, l.stranger, "stranger0", "2001:db8::100/128")
			},
			want: want{peer: []netip.Addr{vipAddr}, stranger: []netip.Addr{vipAddr6}, host: true, hostHardware: true},
		},
		{
			name: "a neighbour discovery proxy is no holder", q: everything,
			setUp: func(t *testing.T, l lan) {
				gone(t, l)
				l.stranger.Sysctl(t, "ipv6/conf/all/forwarding", "1")
				l.stranger.Sysctl(t, "ipv6/conf/stranger0/proxy_ndp", "1")
				l.stranger.Sysctl(t, "ipv6/neigh/stranger0/proxy_delay", "0")
				err := l.stranger.NeighAdd(&netlink.Neigh{
					LinkIndex: l.stranger.Link(t, "stranger0").Attrs().Index, Family: netlink.FAMILY_V6,
					Flags: netlink.NTF_PROXY, IP: vipAddr6.AsSlice(),
				})
				if err != nil {
					t.Fatal(err)
				}
			},
		},
		{
			name: "a refused connection is life", q: tcpOnly,
			setUp: func(t *testing.T, l lan) {
				l.peer.Sysctl(t, "ipv6/icmp/echo_ignore_all", "1")
				// The kernel repeats its own solicitation only after a second.
				neighbour(t, l.self, "self0", peerAddr6, mac(t, l.peer, "peer0"))
				neighbour(t, l.peer, "peer0", selfAddr6, mac(t, l.self, "self0"))
			},
			want: want{host: true},
		},
		{name: "no connection is no life", q: tcpOnly, setUp: gone},
		{
			name: "neighbours answer where echo is silent", q: Question{PeerOnLink: []netip.Addr{peerAddr6}},
			setUp: func(t *testing.T, l lan) { l.peer.Sysctl(t, "ipv6/icmp/echo_ignore_all", "1") },
			want:  want{host: true, hostHardware: true},
		},
		{
			name: "no address of our own is needed for the VIP", q: everything,
			setUp: func(t *testing.T, l lan) {
				put6(t, l.peer, "peer0", "2001:db8::100/64")
				list, err := l.self.AddrList(l.self.Link(t, "self0"), netlink.FAMILY_V6)
				if err != nil {
					t.Fatal(err)
				}
				for _, a := range list {
					if err := l.self.AddrDel(l.self.Link(t, "self0"), &a); err != nil {
						t.Fatal(err)
					}
				}
			},
			want: want{peer: []netip.Addr{vipAddr6}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLAN6(t)
			tt.setUp(t, l)
			got, err := l.ask(t, tt.q)
			if err != nil {
				t.Fatal(err)
			}
			expected := Answer{Host: tt.want.host}
			for _, a := range tt.want.peer {
				expected.claim(a, mac(t, l.peer, "peer0"))
			}
			for _, a := range tt.want.stranger {
				expected.claim(a, mac(t, l.stranger, "stranger0"))
			}
			if tt.want.hostHardware {
				expected.hostHardware(mac(t, l.peer, "peer0"))
			}
			expected.conclude(nil)
			if diff := cmp.Diff(expected, got, cmpNetip); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
}

// TestAskLeavesDetectionAlone: a peer that is just booting keeps its address,
// although it is asked about while its kernel looks for duplicates.
func TestAskLeavesDetectionAlone(t *testing.T) {
	l := newLAN6(t)
	l.peer.Sysctl(t, "ipv6/conf/peer0/dad_transmits", "4")
	fresh := netip.MustParseAddr("2001:db8::14")
	l.peer.AddAddr(t, "peer0", "2001:db8::14/64")
	if _, err := l.ask(t, Question{PeerOnLink: []netip.Addr{fresh}}); err != nil {
		t.Fatal(err)
	}
	netnstest.Eventually(t, limit, "the peer's kernel to decide", func() bool {
		list, err := l.peer.AddrList(l.peer.Link(t, "peer0"), netlink.FAMILY_V6)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(list, func(a netlink.Addr) bool { return a.IP.Equal(fresh.AsSlice()) })
		if i < 0 || list[i].Flags&unix.IFA_F_DADFAILED != 0 {
			t.Fatal("the peer gave up its address")
		}
		return list[i].Flags&unix.IFA_F_TENTATIVE == 0
	})
}

// TestAskDoesNotHearItself has the VIP on another interface of this host, on the
// same link.
func TestAskDoesNotHearItself(t *testing.T) {
	l := newLAN6(t)
	netnstest.Connect(t, l.self, l.sw, "self1")
	if err := l.sw.LinkSetMaster(l.sw.Link(t, "self1"), l.sw.Link(t, "br0")); err != nil {
		t.Fatal(err)
	}
	netnstest.Eventually(t, limit, "the carrier of self1", func() bool {
		return l.self.Link(t, "self1").Attrs().OperState == netlink.OperUp
	})
	l.self.AddAddr(t, "self1", "192.0.2.100/24")
	put6(t, l.self, "self1", "2001:db8::100/64")
	got, err := l.ask(t, Question{VIPs: []netip.Addr{vipAddr, vipAddr6}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Answer{}, got, cmpNetip); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	// Another host does hear it: the test would show nothing otherwise.
	err = l.stranger.Do(func() (err error) {
		got, err = ask(t.Context(), Question{Interface: "stranger0", VIPs: []netip.Addr{vipAddr, vipAddr6}, Within: ProbeWithin})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Claimants) < 2 {
		t.Errorf("a neighbour heard %v, want a claim of each address", got.Claimants)
	}
}

// TestPeerAgainstStranger: whose answer it is depends on the hardware alone.
func TestPeerAgainstStranger(t *testing.T) {
	vips := []netip.Addr{vipAddr, vipAddr6}
	for _, tt := range []struct {
		name           string
		learn          func(*testing.T, lan, *Peer)
		peerHolds      bool
		strangerHolds  bool
		q              Question
		wantPeer       bool
		wantStrangers  int
		wantHost, link bool
	}{
		{
			name: "learnt, and the peer answers", learn: learnFromTable, q: Question{VIPs: vips},
			peerHolds: true, wantPeer: true,
		},
		{
			name: "learnt, and a stranger answers", learn: learnFromTable, q: Question{VIPs: vips},
			strangerHolds: true, wantStrangers: 2,
		},
		{
			name: "learnt, and both answer", learn: learnFromTable, q: Question{VIPs: vips},
			peerHolds: true, strangerHolds: true, wantPeer: true, wantStrangers: 2,
		},
		{
			name: "nothing was ever learnt", learn: func(*testing.T, lan, *Peer) {}, q: Question{VIPs: vips},
			strangerHolds: true, wantPeer: true,
		},
		{
			name: "learnt in the same breath", learn: func(*testing.T, lan, *Peer) {},
			q:             Question{VIPs: vips, PeerOnLink: []netip.Addr{peerAddr}},
			strangerHolds: true, wantStrangers: 2, wantHost: true, link: true,
		},
		{
			name: "learnt from an earlier question",
			learn: func(t *testing.T, l lan, p *Peer) {
				if _, err := l.ask(t, Question{PeerOnLink: []netip.Addr{peerAddr6}, Peer: p}); err != nil {
					t.Fatal(err)
				}
			},
			q: Question{VIPs: vips}, strangerHolds: true, wantStrangers: 2,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLAN6(t)
			p := openTable(t, l.self).NewPeer("self0", []netip.Addr{peerAddr, peerAddr6, netip.MustParseAddr("203.0.113.1")})
			tt.learn(t, l, p)
			hold := func(is bool, ns *netnstest.Namespace, name string) {
				if is {
					ns.AddAddr(t, name, "192.0.2.100/24")
					put6(t, ns, name, "2001:db8::100/64")
				}
			}
			hold(tt.peerHolds, l.peer, "peer0")
			hold(tt.strangerHolds, l.stranger, "stranger0")
			tt.q.Peer = p
			got, err := l.ask(t, tt.q)
			if err != nil {
				t.Fatal(err)
			}
			if got.PeerClaims() != tt.wantPeer || got.Host != tt.wantHost || got.OnLink() != tt.link {
				t.Errorf("peer claims %v, host answers %v, on link %v; want %v, %v, %v",
					got.PeerClaims(), got.Host, got.OnLink(), tt.wantPeer, tt.wantHost, tt.link)
			}
			strangers := got.Strangers()
			if len(strangers) != tt.wantStrangers {
				t.Errorf("strangers %v, want %d", strangers, tt.wantStrangers)
			}
			for _, s := range strangers {
				if diff := cmp.Diff(mac(t, l.stranger, "stranger0"), s.Hardware); diff != "" {
					t.Errorf("hardware of %v (-want +got):\n%s", s.Address, diff)
				}
			}
		})
	}
}

// learnFromTable talks to the peer, as the heartbeat does, and learns.
func learnFromTable(t *testing.T, l lan, p *Peer) {
	t.Helper()
	err := l.self.Do(func() error {
		c, err := net.Dial("udp4", netip.AddrPortFrom(peerAddr, 9).String())
		if err != nil {
			return err
		}
		_, err = c.Write([]byte{0})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	netnstest.Eventually(t, limit, "the peer's hardware to be learnt", func() bool {
		if err := p.Learn(); err != nil {
			t.Fatal(err)
		}
		return len(p.Hardware()) > 0
	})
	if diff := cmp.Diff([]net.HardwareAddr{mac(t, l.peer, "peer0")}, p.Hardware()); diff != "" {
		t.Fatalf("learnt (-want +got):\n%s", diff)
	}
}

// TestLearn: an entry that nobody answered teaches nothing, nor does a stranger's.
func TestLearn(t *testing.T) {
	l := newLAN6(t)
	p := openTable(t, l.self).NewPeer("self0", []netip.Addr{peerAddr, peerAddr6})
	index := l.self.Link(t, "self0").Attrs().Index
	set := func(a netip.Addr, state int, last byte) net.HardwareAddr {
		t.Helper()
		hw := net.HardwareAddr{2, 0, 0, 0, 0, last}
		family := netlink.FAMILY_V4
		if a.Is6() {
			family = netlink.FAMILY_V6
		}
		err := l.self.NeighSet(&netlink.Neigh{LinkIndex: index, Family: family, State: state, IP: a.AsSlice(), HardwareAddr: hw})
		if err != nil {
			t.Fatal(err)
		}
		return hw
	}
	learn := func(want ...net.HardwareAddr) {
		t.Helper()
		if err := p.Learn(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(append([]net.HardwareAddr{}, want...), p.Hardware()); diff != "" {
			t.Errorf("learnt (-want +got):\n%s", diff)
		}
	}
	set(peerAddr, netlink.NUD_FAILED, 1)
	set(netip.MustParseAddr("192.0.2.13"), netlink.NUD_REACHABLE, 2)
	learn()
	three := set(peerAddr, netlink.NUD_STALE, 3)
	learn(three)
	four := set(peerAddr6, netlink.NUD_REACHABLE, 4)
	learn(four, three)
	// A replaced NIC is learnt, and what it replaced is not forgotten at once.
	five := set(peerAddr, netlink.NUD_REACHABLE, 5)
	learn(four, five, three)
	for i := range byte(2 * maxHardware) {
		p.heard(net.HardwareAddr{2, 0, 0, 0, 1, i})
	}
	if got := len(p.Hardware()); got != maxHardware {
		t.Errorf("%d remembered, want %d", got, maxHardware)
	}
}
