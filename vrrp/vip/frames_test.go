package vip

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/vrrp/internal/netnstest"
)

var hardware1 = net.HardwareAddr{2, 0, 0, 0, 0, 1}

// listenNeighbours returns a function that waits for the next frame about IPv6
// neighbours in ns.
func listenNeighbours(t *testing.T, ns *netnstest.Namespace, name string) func() []byte {
	t.Helper()
	fd := -1
	err := ns.Do(func() (err error) {
		ifi, err := net.InterfaceByName(name)
		if err == nil {
			fd, err = openPacketSocket(ifi.Index, ethernet.EtherTypeIPv6, neighbourFilter())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return func() []byte {
		t.Helper()
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, int(limit.Milliseconds())); err != nil && !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
		b := make([]byte, maxPacket)
		n, _, err := unix.Recvfrom(fd, b, unix.MSG_DONTWAIT)
		if err != nil {
			t.Fatalf("wait for neighbour discovery: %v", err)
		}
		return b[:n]
	}
}

// TestAnnounceIPv6 reads the advertisement as a neighbour gets it: RFC 4861
// §7.2.6, and what §7.1.2 requires of one.
func TestAnnounceIPv6(t *testing.T) {
	for _, router := range []bool{false, true} {
		ns, peer := host(t)
		if router {
			ns.Sysctl(t, "ipv6/conf/eth0/forwarding", "1")
		}
		addPermanent(t, ns, "2001:db8::11/64") // no detection is on the way any more
		h := open(t, ns, Config{Addresses: prefixes("2001:db8::100/64")})
		next := listenNeighbours(t, peer, nic)
		if err := ns.Do(h.Announce); err != nil {
			t.Fatal(err)
		}
		mac := ns.Link(t, nic).Attrs().HardwareAddr
		for {
			b := next()
			src, message, ok := neighbourMessage(b[14:])
			if !ok {
				t.Fatalf("an invalid message: %x", b)
			}
			m, err := ndp.ParseMessage(message)
			if err != nil {
				t.Fatal(err)
			}
			got, ok := m.(*ndp.NeighborAdvertisement)
			if !ok || got.TargetAddress != vipAddr6 {
				continue // the kernel's own
			}
			want := &ndp.NeighborAdvertisement{
				Router: router, Override: true, TargetAddress: vipAddr6,
				Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: mac}},
			}
			if diff := cmp.Diff(want, got, cmpNetip); diff != "" {
				t.Errorf("router %v (-want +got):\n%s", router, diff)
			}
			addresses := []any{net.HardwareAddr(b[:6]).String(), net.HardwareAddr(b[6:12]).String(), src.String(), b[14+7]}
			if diff := cmp.Diff([]any{"33:33:00:00:00:01", mac.String(), vipAddr6.String(), byte(255)}, addresses); diff != "" {
				t.Errorf("frame's destination and source, packet's source and hop limit (-want +got):\n%s", diff)
			}
			break
		}
	}
}

// TestAnnounceMovesNeighboursIPv6 needs the override flag: the neighbour has
// another hardware address for it.
func TestAnnounceMovesNeighboursIPv6(t *testing.T) {
	ns, peer := host(t)
	addPermanent(t, peer, "2001:db8::12/64")
	index := peer.Link(t, nic).Attrs().Index
	err := peer.NeighSet(&netlink.Neigh{
		LinkIndex: index, Family: netlink.FAMILY_V6, State: netlink.NUD_STALE, IP: vipAddr6.AsSlice(), HardwareAddr: hardware1,
	})
	if err != nil {
		t.Fatal(err)
	}
	h := open(t, ns, Config{Addresses: prefixes("192.0.2.100/24", "2001:db8::100/64")})
	if err := ns.Do(h.Announce); err != nil {
		t.Fatal(err)
	}
	want := ns.Link(t, nic).Attrs().HardwareAddr.String()
	netnstest.Eventually(t, limit, "the neighbour to learn the new hardware address", func() bool {
		list, err := peer.NeighList(index, netlink.FAMILY_V6)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range list {
			if n.IP.Equal(vipAddr6.AsSlice()) {
				return n.HardwareAddr.String() == want
			}
		}
		return false
	})
}

// TestParseNeighbour: what RFC 4861 §7.1 says to discard, and what is no claim.
func TestParseNeighbour(t *testing.T) {
	na := func(m ndp.NeighborAdvertisement) []byte {
		m.TargetAddress = vipAddr6
		b, err := neighbourFrame(hardware1, peerAddr6, netip.IPv6LinkLocalAllNodes(), &m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good := na(ndp.NeighborAdvertisement{Override: true})
	changed := func(at int, to byte) []byte {
		b := bytes.Clone(good)
		b[at] = to
		return b
	}
	ns, err := solicitation(hardware1, vipAddr6, peerAddr6)
	if err != nil {
		t.Fatal(err)
	}
	probe, err := solicitation(hardware1, netip.IPv6Unspecified(), vipAddr6)
	if err != nil {
		t.Fatal(err)
	}
	const header, icmp = 14, 14 + 40
	for _, tt := range []struct {
		name  string
		frame []byte
		want  bool
	}{
		{"advertisement", good, true},
		{"padded", append(bytes.Clone(good), 0, 0), true},
		{"7.1.1/a solicitation from the address", ns, true},
		{"RFC 4862 5.4.3/a probe claims nothing", probe, false},
		{"7.2.8/a proxy's, without override", na(ndp.NeighborAdvertisement{Solicited: true}), false},
		{"7.1.2/hop limit 254", changed(header+7, 254), false},
		{"7.1.2/checksum", changed(icmp+2, good[icmp+2]+1), false},
		{"7.1.2/code", changed(icmp+1, 1), false},
		{"7.1.2/multicast target", changed(icmp+8, 0xff), false},
		{"another protocol", changed(header+6, unix.IPPROTO_UDP), false},
		{"version 5", changed(header, 0x50), false},
		{"longer than the frame", changed(header+4, 1), false},
		{"cut off", good[:len(good)-1], false},
		{"only a header", good[:icmp], false},
		{"ARP", changed(13, 0x06), false},
	} {
		c, ok := parseNeighbour(tt.frame)
		if ok != tt.want {
			t.Errorf("%s: claim %v, want %v", tt.name, ok, tt.want)
		}
		if ok && (c.addr != vipAddr6 || !bytes.Equal(c.hardware, hardware1)) {
			t.Errorf("%s: %+v", tt.name, c)
		}
	}
}

// FuzzParseNeighbour compares each claim with itself, encoded and parsed again.
func FuzzParseNeighbour(f *testing.F) {
	for _, router := range []bool{false, true} {
		b, err := advertisement(hardware1, vipAddr6, router)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, true)
	}
	for _, src := range []netip.Addr{peerAddr6, netip.IPv6Unspecified()} {
		b, err := solicitation(hardware1, src, vipAddr6)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, true)
	}
	f.Fuzz(func(t *testing.T, b []byte, repair bool) {
		if repair { // or hardly any input gets beyond the checksum
			b = repaired(b)
		}
		c, ok := parseNeighbour(b)
		if !ok {
			return
		}
		if !unicast(c.addr) || len(c.hardware) != ethernetAddressLength {
			t.Fatalf("claim %+v", c)
		}
		again, err := advertisement(c.hardware, c.addr, false)
		if err != nil {
			t.Fatal(err)
		}
		same, ok := parseNeighbour(again)
		if !ok || same.addr != c.addr || !bytes.Equal(same.hardware, c.hardware) {
			t.Fatalf("%+v came back as %+v, %v", c, same, ok)
		}
	})
}

// repaired gives a frame the protocol, hop limit, length and checksum of a good one.
func repaired(b []byte) []byte {
	const header, message = 14, 14 + 40
	if len(b) < message+icmpv6Header {
		return b
	}
	b = bytes.Clone(b)
	b[header] = 0x60
	b[header+6], b[header+7] = unix.IPPROTO_ICMPV6, neighbourHopLimit
	length := len(b) - message
	binary.BigEndian.PutUint16(b[header+4:], uint16(length))
	b[message+1], b[message+2], b[message+3] = 0, 0, 0
	pseudo := append(bytes.Clone(b[header+8:message]), 0, 0, 0, 0, 0, 0, 0, unix.IPPROTO_ICMPV6)
	binary.BigEndian.PutUint16(b[message+2:], checksum(append(pseudo, b[message:]...), length))
	return b
}

// FuzzParseARP compares each claim with itself, encoded and parsed again.
func FuzzParseARP(f *testing.F) {
	frames, err := gratuitousARP(hardware1, vipAddr)
	if err != nil {
		f.Fatal(err)
	}
	probe, err := broadcastARP(arp.OperationRequest, hardware1, netip.IPv4Unspecified(), make(net.HardwareAddr, 6), vipAddr)
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range append(frames, probe, frames[0][:20]) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, ok := parseARP(b)
		if !ok {
			return
		}
		again, err := gratuitousARP(c.hardware, c.addr)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range again {
			same, ok := parseARP(b)
			if !ok || same.addr != c.addr || !bytes.Equal(same.hardware, c.hardware) {
				t.Fatalf("%+v came back as %+v, %v", c, same, ok)
			}
		}
	})
}

func TestParseARPProbeClaimsNothing(t *testing.T) {
	probe, err := broadcastARP(arp.OperationRequest, hardware1, netip.IPv4Unspecified(), make(net.HardwareAddr, 6), vipAddr)
	if err != nil {
		t.Fatal(err)
	}
	if c, ok := parseARP(probe); ok {
		t.Errorf("claim %+v, want none", c)
	}
}
