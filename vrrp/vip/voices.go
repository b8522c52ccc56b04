package vip

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"golang.org/x/net/bpf"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

const (
	// hearLimit bounds the packets taken from one socket in one turn.
	hearLimit = 256
	maxPacket = 2048
	// hearBuffer is the SO_RCVBUF asked for, of which a short frame takes some 768
	// bytes: the answers for hundreds of addresses come in one burst, and so do
	// those that others asked for.
	hearBuffer = 1 << 20
)

// neighbours asks who is on the link: by ARP, or by neighbour solicitation.
type neighbours struct {
	question Question
	own      []net.HardwareAddr // of this host
	parse    func(frame []byte) (claim, bool)
	probes   [][]byte
	fd       int
	buf      [maxPacket]byte
}

// openARP asks for the IPv4 addresses.
func openARP(q Question, ifi *net.Interface, own []net.HardwareAddr) (*neighbours, error) {
	n := &neighbours{question: q, own: own, parse: parseARP}
	unknown := make(net.HardwareAddr, ethernetAddressLength)
	for _, target := range slices.Concat(q.VIPs, q.PeerOnLink) {
		if !target.Is4() {
			continue
		}
		// A probe (RFC 5227 §2.1.1) has no sender address: it changes nobody's
		// cache, and a router with proxy ARP does not answer it.
		probe, err := broadcastARP(arp.OperationRequest, ifi.HardwareAddr, netip.IPv4Unspecified(), unknown, target)
		if err != nil {
			return nil, err
		}
		n.probes = append(n.probes, probe)
	}
	var err error
	n.fd, err = openPacketSocket(ifi.Index, ethernet.EtherTypeARP, nil)
	return n, err
}

// openSolicitations asks for the IPv6 addresses. The peer's own are asked from
// source only, and not at all without one: see solicitation.
func openSolicitations(q Question, ifi *net.Interface, own []net.HardwareAddr, source netip.Addr) (*neighbours, error) {
	n := &neighbours{question: q, own: own, parse: parseNeighbour}
	ask := func(from, target netip.Addr) error {
		if !target.Is6() || !from.IsValid() {
			return nil
		}
		probe, err := solicitation(ifi.HardwareAddr, from, target)
		n.probes = append(n.probes, probe)
		return err
	}
	for _, target := range q.VIPs {
		if err := ask(netip.IPv6Unspecified(), target); err != nil {
			return nil, err
		}
	}
	for _, target := range q.PeerOnLink {
		if err := ask(source, target); err != nil {
			return nil, err
		}
	}
	var err error
	n.fd, err = openPacketSocket(ifi.Index, ethernet.EtherTypeIPv6, neighbourFilter())
	return n, err
}

// neighbourFilter lets no other IPv6 in than the two messages about neighbours.
func neighbourFilter() []bpf.Instruction {
	const ethernetHeader, nextHeader = 14, 6
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: ethernetHeader + nextHeader, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_ICMPV6, SkipTrue: 3},
		bpf.LoadAbsolute{Off: ethernetHeader + ipv6.HeaderLen, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(ipv6.ICMPTypeNeighborSolicitation), SkipTrue: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(ipv6.ICMPTypeNeighborAdvertisement), SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: maxPacket},
	}
}

// openPacketSocket receives nothing before it has its filter.
func openPacketSocket(index int, kind ethernet.EtherType, filter []bpf.Instruction) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if filter != nil {
		err = attachFilter(fd, filter)
	}
	// It goes beyond net.core.rmem_max with CAP_NET_ADMIN; without, the default has to do.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, hearBuffer)
	if err == nil {
		protocol := binary.BigEndian.AppendUint16(nil, uint16(kind))
		err = os.NewSyscallError("bind", unix.Bind(fd,
			&unix.SockaddrLinklayer{Protocol: binary.NativeEndian.Uint16(protocol), Ifindex: index}))
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

func attachFilter(fd int, filter []bpf.Instruction) error {
	raw, err := bpf.Assemble(filter)
	if err != nil {
		return fmt.Errorf("assemble packet filter: %w", err)
	}
	program := make([]unix.SockFilter, len(raw))
	for i, in := range raw {
		program[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	return os.NewSyscallError("setsockopt SO_ATTACH_FILTER", unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET,
		unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}))
}

func (n *neighbours) ask() error {
	for _, probe := range n.probes {
		if err := unix.Send(n.fd, probe, unix.MSG_DONTWAIT); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return fmt.Errorf("ask the neighbours: %w", err)
		}
	}
	return nil
}

func (n *neighbours) listening() []unix.PollFd {
	return []unix.PollFd{{Fd: int32(n.fd), Events: unix.POLLIN}}
}

// hear does not take this host's own voice for an answer: another of its
// interfaces may be on the same link.
func (n *neighbours) hear(fd int, answer *Answer) {
	receive(fd, n.buf[:], func(b []byte, _ netip.Addr) {
		c, ok := n.parse(b)
		if !ok || slices.ContainsFunc(n.own, func(hw net.HardwareAddr) bool { return bytes.Equal(hw, c.hardware) }) {
			return
		}
		if slices.Contains(n.question.VIPs, c.addr) {
			answer.claim(c.addr, c.hardware)
		}
		if slices.Contains(n.question.PeerOnLink, c.addr) {
			answer.hostHardware(c.hardware)
		}
	})
}

// close does not wait: the kernel closes a packet socket only after all CPUs
// have passed it, some 10 ms, and a takeover is waiting.
func (n *neighbours) close() error {
	go func() { _ = unix.Close(n.fd) }() // the descriptor is gone whatever it returns
	return nil
}

// receive hands over what a socket has, in the buffer b: take keeps nothing of it.
func receive(fd int, b []byte, take func(b []byte, from netip.Addr)) {
	for range hearLimit {
		n, from, err := unix.Recvfrom(fd, b, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			return
		}
		if err != nil {
			continue // an error pending on the socket, cleared by reading it
		}
		take(b[:n], sourceOf(from))
	}
}

func sourceOf(from unix.Sockaddr) netip.Addr {
	switch from := from.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(from.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(from.Addr)
	}
	return netip.Addr{}
}

// sockaddr is where to send to. A link-local address needs the interface.
func sockaddr(to netip.AddrPort, index int) unix.Sockaddr {
	if to.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}
	}
	sa := &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}
	if to.Addr().IsLinkLocalUnicast() {
		sa.ZoneId = uint32(index)
	}
	return sa
}
