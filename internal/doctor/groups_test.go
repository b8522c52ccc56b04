package doctor

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// groupEnds are both ends of a group on which everything works.
func groupEnds() (here, there Group) {
	us := int64(240)
	clear := Ruling{Certain: true, Tool: "nft"}
	here = Group{
		Sight: Sight{
			Local: netip.MustParseAddr("10.77.0.11"), Peer: netip.MustParseAddr("10.77.0.12"), Group: netip.MustParseAddr("224.0.0.18"),
			Interface: "eth0", Link: "up", PatienceMS: 1750, Sent: 3, Heard: 3, EchoUS: &us, In112: clear, Out112: clear,
		},
		VRIDs: []byte{51}, Instances: []string{"compass"}, Networks: []netip.Prefix{netip.MustParsePrefix("10.77.0.11/24")},
	}
	there = here
	there.Local, there.Peer, there.Instances, there.Networks = here.Peer, here.Local, nil, nil // as it comes over the link
	return here, there
}

// besides is the path between the same addresses without the group.
func besides(heard int) (here, there Sight) {
	here, there = ends()
	a, b := netip.MustParseAddr("10.77.0.11"), netip.MustParseAddr("10.77.0.12")
	here.Local, here.Peer, there.Local, there.Peer = a, b, b, a
	here.Interface, there.Interface, here.Heard, there.Heard = "eth0", "eth0", heard, heard
	return here, there
}

func inIPv6(g *Group) {
	other := map[string]string{"10.77.0.11": "fe80::11", "10.77.0.12": "fe80::12"}
	g.Local, g.Peer = netip.MustParseAddr(other[g.Local.String()]), netip.MustParseAddr(other[g.Peer.String()])
	g.Group = netip.MustParseAddr("ff02::12")
}

func TestGroups(t *testing.T) {
	silent, lately := int64(32000), int64(120)
	const snooping = "only the group is lost: a switch between them snoops IGMP"
	for _, tt := range []struct {
		name    string
		change  func(here, there *Group)
		unicast int    // probes that came without the group; -1: there is no such path, -2: the packet filter drops them
		asked   string // "" both, "alone" the peer could not be asked, "old" its release knows no groups
		peer    Peer
		want    []string
		says    []string
	}{
		{name: "all is well", change: func(_, _ *Group) {}, unicast: 3},
		{
			name: "one way lost, the receiver drops", unicast: 3,
			change: func(_, there *Group) { there.Heard, there.In112 = 0, dropping() },
			want:   []string{"problem proto112_blocked reserve"},
			says: []string{
				"IP protocol 112 does not get through to the group 224.0.0.18 on eth0 from primary to reserve (from 10.77.0.11)", "3 of 3 probes to the group lost",
				"the packet filter of reserve drops it: meta l4proto 112 drop", "fix: nft insert rule inet t in ip saddr 10.77.0.11 meta l4proto 112 accept",
			},
		},
		{
			name: "one way lost, the sender drops", unicast: 3,
			change: func(here, there *Group) { there.Heard, here.Out112 = 0, dropping() },
			want:   []string{"problem proto112_blocked primary"}, says: []string{"fix: nft insert rule inet t in ip daddr 224.0.0.18 meta l4proto 112 accept"},
		},
		{
			name: "one way lost, unicast comes through", unicast: 3,
			change: func(here, _ *Group) { here.Heard = 0 },
			want:   []string{"problem proto112_blocked primary"},
			says: []string{
				"without the group, to the address of primary itself: 3 of 3 probes", snooping,
				"fix: tcpdump -ni eth0 'ip proto 112 and dst 224.0.0.18 and src 10.77.0.12'", "an IGMP querier for this VLAN, or 224.0.0.18 as a static group",
				"mcast_querier 1", "heartbeat: {mode: unicast} for compass on both nodes",
			},
		},
		{
			name: "in IPv6", unicast: -1,
			change: func(here, there *Group) {
				inIPv6(here)
				inIPv6(there)
				there.Heard = 0
			},
			want: []string{"problem proto112_blocked reserve"},
			says: []string{"reserve at fe80::12: ICMP answered", "the hosts reach each other: a switch that snoops", "'ip6 proto 112 and dst ff02::12 and src fe80::11'", "an MLD querier"},
		},
		{
			name: "both ways lost, and the protocol without the group as well", unicast: 0,
			change: func(here, there *Group) { here.Heard, there.Heard = 0, 0 },
			want:   []string{"problem proto112_blocked reserve", "problem proto112_blocked primary"}, says: []string{"without the group it is lost as well: a firewall between the hosts"},
		},
		{
			name: "nothing gets through", unicast: 0,
			change: func(here, there *Group) {
				here.Heard, there.Heard, here.EchoUS, there.EchoUS = 0, 0, nil, nil
			},
			want: []string{"problem proto112_blocked reserve", "problem proto112_blocked primary"}, says: []string{"nothing else gets through on eth0 either", "fix: tcpdump"},
		},
		{
			name: "an interface without multicast", unicast: 3,
			change: func(here, there *Group) {
				here.NoMulticast, here.SendError, there.Heard = true, "network is unreachable", 0
			},
			want: []string{"problem proto112_blocked primary"}, says: []string{"sending fails: network is unreachable", "eth0 of primary has no multicast", "fix: ip link set dev eth0 multicast on"},
		},
		{name: "one that gets through without the flag", unicast: 3, change: func(here, _ *Group) { here.NoMulticast = true }},
		{
			name: "a packet filter lets only the group through, and the group is lost", unicast: -2,
			change: func(_, there *Group) { there.Heard = 0 },
			want:   []string{"problem proto112_blocked reserve"}, says: []string{"the hosts reach each other: a switch that snoops", "an IGMP querier for this VLAN"},
		},
		{
			name: "some lost", unicast: 3, change: func(here, _ *Group) { here.Heard = 2 },
			want: []string{"warning proto112_lossy primary"}, says: []string{"1 of 3 probes", "fix: ip -s link show eth0"},
		},
		{name: "proved by no key of this node's, they got through", unicast: 3, change: func(here, _ *Group) { here.Heard, here.Unproved = 0, 3 }},
		{
			name: "down", unicast: -1, change: func(here, there *Group) { here.Link, here.Heard, there.Heard = "has no carrier", 0, 0 },
			want: []string{"problem path_not_open primary"}, says: []string{"eth0, on whose group 224.0.0.18 instance compass advertises, has no carrier"},
		},
		{
			name: "no address to send from", unicast: -1, change: func(here, there *Group) {
				*here = Group{Sight: Sight{Interface: "eth0", Link: "up", Group: here.Group}}
			},
			want: []string{"problem path_not_open primary"}, says: []string{"eth0 has no IPv4 address of its own"},
		},
		{
			name: "no socket", unicast: 3, change: func(_, there *Group) { there.SocketError = "no buffer space available" },
			want: []string{"problem path_not_open reserve"}, says: []string{"no buffer space available", "ip maddress show dev eth0"},
		},
		{name: "no such interface, which the configuration's findings say", unicast: -1, change: func(here, _ *Group) { here.Link = "" }},

		{name: "the peer cannot be asked and is heard", asked: "alone", change: func(here, _ *Group) { here.HeardMS = &lately }},
		{name: "the peer cannot be asked and is a standby", asked: "alone", change: func(here, _ *Group) { here.HeardMS = &silent }},
		{
			name: "the peer cannot be asked, and holds an address of another instance", asked: "alone", peer: Peer{Holds: []string{"domino"}, Advertises: true},
			change: func(here, _ *Group) { here.HeardMS = &silent },
		},
		{
			name: "the peer cannot be asked, holds the address and is not heard", asked: "alone", peer: Peer{Holds: []string{"compass"}},
			change: func(here, _ *Group) { here.HeardMS, here.Peer = &silent, netip.Addr{} },
			want:   []string{"problem proto112_blocked primary"}, says: []string{"on eth0 from reserve to primary\n", "no advertisement for 32s", "and dst 224.0.0.18'"},
		},
		{
			name: "the peer cannot be asked, and this node drops what it sends itself", asked: "alone",
			change: func(here, _ *Group) { here.Peer, here.Out112 = netip.Addr{}, dropping() },
			want:   []string{"problem proto112_blocked primary"}, says: []string{"not tried", "fix: nft insert rule inet t in ip daddr 224.0.0.18"},
		},
		{
			name: "a release that knows no groups", asked: "old", change: func(here, _ *Group) { here.Peer, here.Sent, here.Heard = netip.Addr{}, 0, 0 },
			want: []string{"warning check_failed primary"}, says: []string{"the VRRP groups were not probed: the release of reserve does not know how", "what is said of eth0 224.0.0.18 is what primary hears"},
		},
		{
			name: "the only end of this node's has no address: the peer was told of none, and says nothing of groups", asked: "old",
			change: func(here, _ *Group) {
				*here = Group{Sight: Sight{Interface: "eth0", Link: "has no carrier", Group: netip.MustParseAddr("ff02::12")}, Instances: here.Instances}
			},
			want: []string{"problem path_not_open primary"},
		},
		{
			name: "the peer does not advertise to the group: it runs another configuration", peer: Peer{Lives: true, Holds: []string{"compass"}},
			unicast: -1, change: func(here, there *Group) {
				here.Peer, here.Sent, here.Heard, here.HeardMS = netip.Addr{}, 0, 0, &silent
				there.VRIDs = []byte{52}
			},
		},
		{
			name: "a release that knows no groups, holds the address and is not heard", asked: "old", peer: Peer{Lives: true, Holds: []string{"compass"}},
			change: func(here, _ *Group) { here.Peer, here.Sent, here.Heard, here.HeardMS = netip.Addr{}, 0, 0, &silent },
			want:   []string{"warning check_failed primary", "problem proto112_blocked primary"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mine, theirs := groupEnds()
			tt.change(&mine, &theirs)
			here, there := View{Groups: []Group{mine}}, &View{Groups: []Group{theirs}}
			if tt.unicast != -1 && tt.asked == "" {
				a, b := besides(max(tt.unicast, 0))
				if tt.unicast == -2 {
					a.In112, b.In112 = dropping(), dropping()
				}
				here.Sights, there.Sights = []Sight{a}, []Sight{b}
			}
			switch tt.asked {
			case "alone":
				there = nil
			case "old":
				there.Groups = nil
			}
			found := Groups(nodes(), here, there, tt.peer)
			if diff := cmp.Diff(tt.want, summary(found)); diff != "" {
				t.Fatalf("(-want +got)\n%s", diff)
			}
			saysAll(t, found, tt.says)
		})
	}
}

// The end that the peer names is believed where it can be on the link, and finds the
// group that both have.
func TestMeet(t *testing.T) {
	end := func(iface, local string, vrids ...byte) GroupEnd {
		e := GroupEnd{Interface: iface, VRIDs: vrids}
		if local != "" {
			e.Local = netip.MustParseAddr(local)
		}
		return e
	}
	flood := slices.Repeat([]GroupEnd{end("eth0", "10.77.0.99", 7)}, MostGroups)
	for _, tt := range []struct {
		name string
		ends []GroupEnd
		want string // of the IPv4 group on eth0, with VRIDs 51 and 52, and of the one on eth1
	}{
		{"none", nil, "- -"},
		{"one VRID in common", []GroupEnd{end("eth0", "10.77.0.12", 52, 53)}, "10.77.0.12 -"},
		{"an interface of another name", []GroupEnd{end("ens3", "10.77.0.12", 51)}, "10.77.0.12 -"},
		{"the same VRID on two interfaces", []GroupEnd{end("eth1", "10.77.1.12", 51), end("eth0", "10.77.0.12", 51)}, "10.77.0.12 10.77.1.12"},
		{"no VRID in common", []GroupEnd{end("eth0", "10.77.0.12", 53)}, "- -"},
		{"no address", []GroupEnd{end("eth0", "", 51)}, "- -"},
		{"this node's own address", []GroupEnd{end("eth0", "10.77.0.11", 51)}, "- -"},
		{"an address that is not on the link", []GroupEnd{end("eth0", "192.0.2.1", 51)}, "- -"},
		{"of another family", []GroupEnd{end("eth0", "fe80::12", 51)}, "- -"},
		{"more than there can be", append(flood, end("eth0", "10.77.0.12", 51)), "- -"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			one, _ := groupEnds()
			one.Peer, one.VRIDs = netip.Addr{}, []byte{51, 52}
			two := one
			two.Interface, two.Local, two.VRIDs = "eth1", netip.MustParseAddr("10.77.1.11"), []byte{51}
			two.Networks = []netip.Prefix{netip.MustParsePrefix("10.77.1.11/24")}
			groups := []Group{one, two}
			Meet(groups, tt.ends)
			var got []string
			for _, g := range groups {
				got = append(got, map[bool]string{true: g.Peer.String(), false: "-"}[g.Peer.IsValid()])
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, " ")); diff != "" {
				t.Error(diff)
			}
		})
	}
	none := Group{Sight: Sight{Interface: "eth0", Group: netip.MustParseAddr("224.0.0.18")}, VRIDs: []byte{51}}
	six, _ := groupEnds()
	inIPv6(&six)
	six.Peer = netip.Addr{}
	families := []Group{none, six}
	Meet(families, []GroupEnd{end("eth0", "fe80::12", 51)})
	if families[0].Peer.IsValid() || !families[1].Peer.IsValid() {
		t.Errorf("an end without an address takes that of the other family: %v, %v", families[0].Peer, families[1].Peer)
	}
	v6, _ := groupEnds()
	inIPv6(&v6)
	for address, want := range map[string]bool{"fe80::12": true, "fe80::12%eth9": true, "2001:db8::12": false, "::ffff:10.77.0.12": false, "::ffff:169.254.0.12": false} {
		v6.Peer = netip.Addr{}
		one := []Group{v6}
		Meet(one, []GroupEnd{end("eth0", address, 51)})
		if got := one[0].Peer.IsValid(); got != want || got && one[0].Peer.Zone() != "" {
			t.Errorf("%s: %v", address, one[0].Peer)
		}
	}
}
