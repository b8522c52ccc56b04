package vip

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

const (
	// hearLimit bounds the packets taken from one socket in one turn.
	hearLimit = 256
	maxPacket = 2048
)

// neighbours asks by ARP.
type neighbours struct {
	question Question
	hardware net.HardwareAddr // our own
	probes   [][]byte
	fd       int
}

func openARP(q Question) (*neighbours, error) {
	ifi, err := carrier(q.Interface)
	if err != nil {
		return nil, err
	}
	n := &neighbours{question: q, hardware: ifi.HardwareAddr}
	unknown := make(net.HardwareAddr, ethernetAddressLength)
	for _, target := range slices.Concat(q.VIPs, q.PeerOnLink) {
		// A probe (RFC 5227 §2.1.1) has no sender address: it changes nobody's
		// cache, and a router with proxy ARP does not answer it.
		probe, err := broadcastARP(arp.OperationRequest, ifi.HardwareAddr, netip.IPv4Unspecified(), unknown, target)
		if err != nil {
			return nil, err
		}
		n.probes = append(n.probes, probe)
	}
	n.fd, err = openPacketSocket(ifi.Index)
	if err != nil {
		return nil, err
	}
	return n, nil
}

// carrier returns the interface if somebody could hear us on it.
func carrier(name string) (*net.Interface, error) {
	k, err := openKernel(answerTimeout)
	if err != nil {
		return nil, err
	}
	ifi, err := k.ethernet(name)
	if err == nil && ifi.Flags&net.FlagRunning == 0 {
		err = ErrNoCarrier
	}
	if err := errors.Join(err, k.close()); err != nil {
		return nil, err
	}
	return ifi, nil
}

func openPacketSocket(index int) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	protocol := binary.BigEndian.AppendUint16(nil, uint16(ethernet.EtherTypeARP))
	err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: binary.NativeEndian.Uint16(protocol), Ifindex: index})
	if err != nil {
		return -1, errors.Join(os.NewSyscallError("bind", err), unix.Close(fd))
	}
	return fd, nil
}

func (n *neighbours) ask() error {
	for _, probe := range n.probes {
		if err := unix.Send(n.fd, probe, unix.MSG_DONTWAIT); err != nil {
			return fmt.Errorf("send ARP probe: %w", err)
		}
	}
	return nil
}

func (n *neighbours) listening() []unix.PollFd {
	return []unix.PollFd{{Fd: int32(n.fd), Events: unix.POLLIN}}
}

// hear takes every ARP packet for a claim, not only replies: whoever sends a
// request with an address as its own has that address.
func (n *neighbours) hear(fd int, answer *Answer) {
	receive(fd, func(b []byte, _ netip.Addr) {
		var frame ethernet.Frame
		var p arp.Packet
		if frame.UnmarshalBinary(b) != nil || p.UnmarshalBinary(frame.Payload) != nil {
			return
		}
		if bytes.Equal(p.SenderHardwareAddr, n.hardware) {
			return
		}
		if slices.Contains(n.question.VIPs, p.SenderIP) {
			answer.claim(p.SenderIP, p.SenderHardwareAddr)
		}
		if slices.Contains(n.question.PeerOnLink, p.SenderIP) {
			answer.hostHardware(p.SenderHardwareAddr)
		}
	})
}

// close does not wait: the kernel closes a packet socket only after all CPUs
// have passed it, some 10 ms, and a takeover is waiting.
func (n *neighbours) close() error {
	go func() { _ = unix.Close(n.fd) }() // the descriptor is gone whatever it returns
	return nil
}

// receive hands over what a socket has, each time in a buffer of its own.
func receive(fd int, take func(b []byte, from netip.Addr)) {
	for range hearLimit {
		b := make([]byte, maxPacket)
		n, from, err := unix.Recvfrom(fd, b, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			return
		}
		if err != nil {
			continue // an error pending on the socket, cleared by reading it
		}
		var source netip.Addr
		if in, ok := from.(*unix.SockaddrInet4); ok {
			source = netip.AddrFrom4(in.Addr)
		}
		take(b[:n], source)
	}
}

// echo asks by ICMP, which passes where switches inspect ARP.
type echo struct {
	targets []netip.Addr
	message []byte
	fd      int
}

func openEcho(q Question) (*echo, error) {
	// Text is a random one, so that nobody's other answer is taken for ours.
	message, err := (&icmp.Message{
		Type: ipv4.ICMPTypeEcho,
		Body: &icmp.Echo{ID: os.Getpid() & 0xffff, Seq: 1, Data: []byte(rand.Text())},
	}).Marshal(nil)
	if err != nil {
		return nil, fmt.Errorf("encode ICMP: %w", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.BindToDevice(fd, q.Interface); err != nil {
		return nil, errors.Join(os.NewSyscallError("bind to "+q.Interface, err), unix.Close(fd))
	}
	return &echo{targets: q.PeerOnLink, message: message, fd: fd}, nil
}

// ask tolerates errors: without an IPv4 address on the interface there is no
// way to send, and ARP has asked the same.
func (e *echo) ask() error {
	for _, target := range e.targets {
		_ = unix.Sendto(e.fd, e.message, unix.MSG_DONTWAIT, &unix.SockaddrInet4{Addr: target.As4()})
	}
	return nil
}

func (e *echo) listening() []unix.PollFd {
	return []unix.PollFd{{Fd: int32(e.fd), Events: unix.POLLIN}}
}

// hear takes any ICMP from the peer for life, errors included: its kernel sent it.
func (e *echo) hear(fd int, answer *Answer) {
	receive(fd, func(_ []byte, from netip.Addr) {
		if slices.Contains(e.targets, from) {
			answer.Host = true
		}
	})
}

func (e *echo) close() error { return os.NewSyscallError("close", unix.Close(e.fd)) }

// ports asks by TCP connections, a new one to each port in every round.
type ports struct {
	targets []netip.AddrPort
	pending []int
}

// ask tolerates errors, which say that there is no way to the peer.
func (p *ports) ask() error {
	for _, target := range p.targets {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		err = unix.Connect(fd, &unix.SockaddrInet4{Addr: target.Addr().As4(), Port: int(target.Port())})
		if err == nil || errors.Is(err, unix.EINPROGRESS) {
			p.pending = append(p.pending, fd)
			continue
		}
		_ = unix.Close(fd) // nothing was written
	}
	return nil
}

func (p *ports) listening() []unix.PollFd {
	fds := make([]unix.PollFd, len(p.pending))
	for i, fd := range p.pending {
		fds[i] = unix.PollFd{Fd: int32(fd), Events: unix.POLLOUT}
	}
	return fds
}

// hear takes a connection and a refusal for life: a kernel sent either.
func (p *ports) hear(fd int, answer *Answer) {
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil {
		switch unix.Errno(code) {
		case 0, unix.ECONNREFUSED, unix.ECONNRESET:
			answer.Host = true
		}
	}
	p.pending = slices.DeleteFunc(p.pending, func(open int) bool { return open == fd })
	_ = unix.Close(fd) // nothing was written
}

func (p *ports) close() error {
	for _, fd := range p.pending {
		_ = unix.Close(fd) // nothing was written
	}
	p.pending = nil
	return nil
}
