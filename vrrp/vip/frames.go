package vip

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// What says on Ethernet who has an address: ARP for IPv4 (RFC 826), neighbour
// solicitations and advertisements for IPv6 (RFC 4861).

const (
	ethernetAddressLength = 6
	// neighbourHopLimit shows that no router forwarded it (RFC 4861 §7.1).
	neighbourHopLimit = 255
	icmpv6Header      = 4
)

// claim is a frame's statement that its sender has an address.
type claim struct {
	addr     netip.Addr
	hardware net.HardwareAddr
}

// broadcastARP returns an Ethernet frame to everybody.
func broadcastARP(op arp.Operation, srcHW net.HardwareAddr, src netip.Addr, dstHW net.HardwareAddr, dst netip.Addr) ([]byte, error) {
	p, err := arp.NewPacket(op, srcHW, src, dstHW, dst)
	if err != nil {
		return nil, fmt.Errorf("encode ARP: %w", err)
	}
	payload, err := p.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("encode ARP: %w", err)
	}
	return encodeFrame(ethernet.Broadcast, srcHW, ethernet.EtherTypeARP, payload)
}

// gratuitousARP are a request and a reply that announce addr (RFC 5944 §4.6):
// some neighbours learn from only one of them.
func gratuitousARP(hw net.HardwareAddr, addr netip.Addr) ([][]byte, error) {
	request, err := broadcastARP(arp.OperationRequest, hw, addr, make(net.HardwareAddr, ethernetAddressLength), addr)
	if err != nil {
		return nil, err
	}
	reply, err := broadcastARP(arp.OperationReply, hw, addr, hw, addr)
	return [][]byte{request, reply}, err
}

// parseARP takes requests for a claim as well: whoever sends one with an address
// as its own has that address. A probe (RFC 5227 §2.1.1) claims nothing.
func parseARP(frame []byte) (claim, bool) {
	var f ethernet.Frame
	var p arp.Packet
	if f.UnmarshalBinary(frame) != nil || f.EtherType != ethernet.EtherTypeARP || p.UnmarshalBinary(f.Payload) != nil {
		return claim{}, false
	}
	if !p.SenderIP.Is4() || p.SenderIP.IsUnspecified() || len(p.SenderHardwareAddr) != ethernetAddressLength {
		return claim{}, false
	}
	return claim{addr: p.SenderIP, hardware: p.SenderHardwareAddr}, true
}

// advertisement is an unsolicited neighbour advertisement of addr to all nodes,
// which overrides what they had (RFC 4861 §7.2.6). It comes from the address
// itself. A host that routes has to say so, or it is taken for one that ceased to.
func advertisement(hw net.HardwareAddr, addr netip.Addr, router bool) ([]byte, error) {
	return neighbourFrame(hw, addr, netip.IPv6LinkLocalAllNodes(), &ndp.NeighborAdvertisement{
		Router: router, Override: true, TargetAddress: addr,
		Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: hw}},
	})
}

// solicitation asks who has target. With the unspecified address as its source
// it is the one of duplicate address detection (RFC 4862 §5.4.2): it changes
// nobody's cache, but an address that is itself being detected is given up for
// it. (So a host that boots is asked from an address.)
func solicitation(hw net.HardwareAddr, src, target netip.Addr) ([]byte, error) {
	group, err := ndp.SolicitedNodeMulticast(target)
	if err != nil {
		return nil, fmt.Errorf("solicited-node group of %v: %w", target, err)
	}
	m := &ndp.NeighborSolicitation{TargetAddress: target}
	if !src.IsUnspecified() {
		m.Options = []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: hw}}
	}
	return neighbourFrame(hw, src, group, m)
}

func neighbourFrame(hw net.HardwareAddr, src, group netip.Addr, m ndp.Message) ([]byte, error) {
	message, err := ndp.MarshalMessageChecksum(m, src, group)
	if err != nil {
		return nil, fmt.Errorf("encode neighbour discovery: %w", err)
	}
	b := binary.BigEndian.AppendUint32(nil, ipv6.Version<<28)
	b = binary.BigEndian.AppendUint16(b, uint16(len(message)))
	b = append(b, unix.IPPROTO_ICMPV6, neighbourHopLimit)
	b = append(append(b, src.AsSlice()...), group.AsSlice()...)
	g := group.As16()
	to := net.HardwareAddr{0x33, 0x33, g[12], g[13], g[14], g[15]} // RFC 2464 §7
	return encodeFrame(to, hw, ethernet.EtherTypeIPv6, append(b, message...))
}

func encodeFrame(dst, src net.HardwareAddr, kind ethernet.EtherType, payload []byte) ([]byte, error) {
	b, err := (&ethernet.Frame{Destination: dst, Source: src, EtherType: kind, Payload: payload}).MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("encode Ethernet: %w", err)
	}
	return b, nil
}

// parseNeighbour takes an advertisement and, as for ARP, a solicitation with an
// address as its source. An advertisement without the override flag is a
// proxy's or one of several hosts with an anycast address (RFC 4861 §7.2.7,
// §7.2.8), and claims nothing.
func parseNeighbour(frame []byte) (claim, bool) {
	var f ethernet.Frame
	if f.UnmarshalBinary(frame) != nil || f.EtherType != ethernet.EtherTypeIPv6 {
		return claim{}, false
	}
	src, message, ok := neighbourMessage(f.Payload)
	if !ok {
		return claim{}, false
	}
	m, err := ndp.ParseMessage(message)
	if err != nil {
		return claim{}, false
	}
	switch m := m.(type) {
	case *ndp.NeighborAdvertisement:
		return claim{addr: m.TargetAddress, hardware: linkLayer(m.Options, ndp.Target, f.Source)}, m.Override && unicast(m.TargetAddress)
	case *ndp.NeighborSolicitation:
		return claim{addr: src, hardware: linkLayer(m.Options, ndp.Source, f.Source)}, unicast(src)
	}
	return claim{}, false
}

// neighbourMessage validates a packet by RFC 4861 §7.1 and returns its ICMPv6 part.
func neighbourMessage(b []byte) (src netip.Addr, message []byte, ok bool) {
	h, err := ipv6.ParseHeader(b)
	if err != nil || h.Version != ipv6.Version || h.NextHeader != unix.IPPROTO_ICMPV6 || h.HopLimit != neighbourHopLimit {
		return netip.Addr{}, nil, false
	}
	b = b[ipv6.HeaderLen:]
	if h.PayloadLen < icmpv6Header || h.PayloadLen > len(b) {
		return netip.Addr{}, nil, false
	}
	message = b[:h.PayloadLen] // the rest pads a short frame
	if message[1] != 0 || checksum(append(icmp.IPv6PseudoHeader(h.Src, h.Dst), message...), len(message)) != 0 {
		return netip.Addr{}, nil, false
	}
	src, ok = netip.AddrFromSlice(h.Src)
	return src, message, ok
}

// checksum is zero over what carries its own (RFC 8200 §8.1). The pseudo header
// of the icmp package leaves the length to be filled in.
func checksum(b []byte, length int) uint16 {
	binary.BigEndian.PutUint32(b[2*net.IPv6len:], uint32(length))
	var sum uint32
	for len(b) > 1 {
		sum += uint32(b[0])<<8 | uint32(b[1])
		b = b[2:]
	}
	if len(b) > 0 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// unicast reports whether one host can have the address.
func unicast(a netip.Addr) bool {
	return a.Is6() && !a.Is4In6() && !a.IsUnspecified() && !a.IsMulticast()
}

// linkLayer is the address in the option, or the one of the frame.
func linkLayer(options []ndp.Option, direction ndp.Direction, frame net.HardwareAddr) net.HardwareAddr {
	for _, o := range options {
		if l, ok := o.(*ndp.LinkLayerAddress); ok && l.Direction == direction {
			return l.Addr
		}
	}
	return frame
}
