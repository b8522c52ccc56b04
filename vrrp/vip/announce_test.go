package vip

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/vrrp/internal/netnstest"
)

// heardARP is one ARP packet as a neighbour saw it.
type heardARP struct {
	Destination net.HardwareAddr
	Packet      arp.Packet
}

// listenARP returns a function that waits for the next ARP packet in ns.
func listenARP(t *testing.T, ns *netnstest.Namespace) func() heardARP {
	t.Helper()
	var conn *packet.Conn
	err := ns.Do(func() error {
		ifi, err := net.InterfaceByName(nic)
		if err != nil {
			return err
		}
		conn, err = packet.Listen(ifi, packet.Raw, int(ethernet.EtherTypeARP), nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return func() heardARP {
		t.Helper()
		if err := conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, maxPacket)
		n, _, err := conn.ReadFrom(b)
		if err != nil {
			t.Fatalf("wait for ARP: %v", err)
		}
		var frame ethernet.Frame
		var p arp.Packet
		if err := errors.Join(frame.UnmarshalBinary(b[:n]), p.UnmarshalBinary(frame.Payload)); err != nil {
			t.Fatal(err)
		}
		return heardARP{Destination: frame.Destination, Packet: p}
	}
}

// TestAnnounce needs no address on the interface.
func TestAnnounce(t *testing.T) {
	ns, peer := host(t)
	next := listenARP(t, peer)
	h := open(t, ns, Config{Addresses: prefixes("192.0.2.100/24", "198.51.100.7/32")})
	if err := ns.Do(h.Announce); err != nil {
		t.Fatal(err)
	}
	mac := ns.Link(t, nic).Attrs().HardwareAddr
	for _, p := range h.cfg.Addresses {
		for _, form := range []struct {
			op     arp.Operation
			target net.HardwareAddr
		}{
			{arp.OperationRequest, make(net.HardwareAddr, 6)},
			{arp.OperationReply, mac},
		} {
			want := heardARP{Destination: ethernet.Broadcast, Packet: arp.Packet{
				HardwareType: 1, ProtocolType: 0x0800, HardwareAddrLength: 6, IPLength: 4, Operation: form.op,
				SenderHardwareAddr: mac, SenderIP: p.Addr(), TargetHardwareAddr: form.target, TargetIP: p.Addr(),
			}}
			if diff := cmp.Diff(want, next(), cmpNetip); diff != "" {
				t.Errorf("%v %v (-want +got):\n%s", p, form.op, diff)
			}
		}
	}
}

func TestAnnounceMovesNeighbours(t *testing.T) {
	ns, peer := host(t)
	peer.AddAddr(t, nic, "192.0.2.12/24")
	addr := netip.MustParseAddr("192.0.2.100")
	index := peer.Link(t, nic).Attrs().Index
	stale := &netlink.Neigh{
		LinkIndex: index, Family: netlink.FAMILY_V4, State: netlink.NUD_STALE,
		IP: addr.AsSlice(), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1},
	}
	if err := peer.NeighSet(stale); err != nil {
		t.Fatal(err)
	}
	h := open(t, ns, Config{Addresses: prefixes("192.0.2.100/24")})
	if err := ns.Do(h.Announce); err != nil {
		t.Fatal(err)
	}
	mac := ns.Link(t, nic).Attrs().HardwareAddr.String()
	netnstest.Eventually(t, limit, "the neighbour to learn the new hardware address", func() bool {
		list, err := peer.NeighList(index, netlink.FAMILY_V4)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range list {
			if n.IP.Equal(addr.AsSlice()) {
				return n.HardwareAddr.String() == mac
			}
		}
		return false
	})
}

// TestAnnounceAfterLinkDown requires that the first Announce on a link that is
// up again succeeds: no error of the time before is left on the socket.
func TestAnnounceAfterLinkDown(t *testing.T) {
	ns, peer := host(t)
	h := open(t, ns, Config{Addresses: prefixes("192.0.2.100/24")})
	if err := ns.Do(h.Announce); err != nil {
		t.Fatal(err)
	}
	ns.Down(t, nic)
	if err := ns.Do(h.Announce); !errors.Is(err, unix.ENETDOWN) {
		t.Errorf("on a link that is down: %v, want ENETDOWN", err)
	}
	ns.Up(t, nic)
	ns.Down(t, nic) // so that nothing was sent since
	ns.Up(t, nic)
	next := listenARP(t, peer)
	if err := ns.Do(h.Announce); err != nil {
		t.Error(err)
	}
	if got := next().Packet.SenderIP; got != h.cfg.Addresses[0].Addr() {
		t.Errorf("announced %v, want %v", got, h.cfg.Addresses[0].Addr())
	}
}

// TestAnnounceUsesNewHardwareAddress changes it between two announcements.
func TestAnnounceUsesNewHardwareAddress(t *testing.T) {
	ns, peer := host(t)
	h := open(t, ns, Config{Addresses: prefixes("192.0.2.100/24")})
	if err := ns.Do(h.Announce); err != nil {
		t.Fatal(err)
	}
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 0x77}
	if err := ns.LinkSetHardwareAddr(ns.Link(t, nic), mac); err != nil {
		t.Fatal(err)
	}
	next := listenARP(t, peer)
	if err := ns.Do(h.Announce); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(mac, next().Packet.SenderHardwareAddr); diff != "" {
		t.Errorf("hardware address (-want +got):\n%s", diff)
	}
}

func TestAnnounceWithoutARP(t *testing.T) {
	ns := netnstest.New(t)
	h := open(t, ns, Config{Interface: "lo", Addresses: prefixes("192.0.2.100/32")})
	if err := ns.Do(h.Announce); !errors.Is(err, ErrNoARP) {
		t.Errorf("on loopback: %v, want %v", err, ErrNoARP)
	}
}
