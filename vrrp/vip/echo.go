package vip

import (
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// echo asks the host by ICMP of one family, which passes where switches inspect
// ARP.
type echo struct {
	targets []netip.Addr
	index   int
	message []byte
	fd      int
	buf     [maxPacket]byte
}

// openEcho asks on a device, or with none named on whichever the routes lead to.
// index is the interface of link-local targets.
func openEcho(device string, index, family int, targets []netip.Addr) (*echo, error) {
	kind, protocol := icmp.Type(ipv4.ICMPTypeEcho), unix.IPPROTO_ICMP
	if family == unix.AF_INET6 {
		kind, protocol = ipv6.ICMPTypeEchoRequest, unix.IPPROTO_ICMPV6
	}
	// Text is a random one, so that nobody's other answer is taken for ours. The
	// checksum of ICMPv6 is the kernel's to fill in.
	message, err := (&icmp.Message{
		Type: kind,
		Body: &icmp.Echo{ID: os.Getpid() & 0xffff, Seq: 1, Data: []byte(rand.Text())},
	}).Marshal(nil)
	if err != nil {
		return nil, fmt.Errorf("encode ICMP: %w", err)
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if device != "" {
		if err := unix.BindToDevice(fd, device); err != nil {
			return nil, errors.Join(os.NewSyscallError("bind to "+device, err), unix.Close(fd))
		}
	}
	return &echo{targets: targets, index: index, message: message, fd: fd}, nil
}

// ask tolerates errors: without an address on the interface, or a route, there is
// no way to send, and somebody else asks the same.
func (e *echo) ask() error {
	for _, target := range e.targets {
		_ = unix.Sendto(e.fd, e.message, unix.MSG_DONTWAIT, sockaddr(netip.AddrPortFrom(target, 0), e.index))
	}
	return nil
}

func (e *echo) listening() []unix.PollFd {
	return []unix.PollFd{{Fd: int32(e.fd), Events: unix.POLLIN}}
}

// hear takes any ICMP from the peer for life, errors included: its kernel sent it.
func (e *echo) hear(fd int, answer *Answer) {
	receive(fd, e.buf[:], func(_ []byte, from netip.Addr) {
		if slices.Contains(e.targets, from) {
			answer.Host = true
		}
	})
}

func (e *echo) close() error { return os.NewSyscallError("close", unix.Close(e.fd)) }

// ports asks by TCP connections, new ones to each port in every round: one from where
// the routes say, and one from where the peer expects it.
type ports struct {
	targets []netip.AddrPort
	from    []netip.Addr // of the targets, or nil
	index   int
	pending []int
}

// Of the ports that only root may have, those that no service is known for; as in the
// peer link.
const firstReserved, lastReserved = 1001, 1022

// ask tolerates errors, which say that there is no way to the peer.
func (p *ports) ask() error {
	for i, target := range p.targets {
		if err := p.connect(target, netip.AddrPort{}); err != nil {
			return err
		}
		if len(p.from) == 0 {
			continue
		}
		from := uint16(firstReserved + mathrand.IntN(lastReserved-firstReserved+1)) //nolint:gosec // no secret
		if err := p.connect(target, netip.AddrPortFrom(p.from[i], from)); err != nil {
			return err
		}
	}
	return nil
}

// connect asks from an address and port, or any. Where the port is taken any other is
// better than none.
func (p *ports) connect(target, from netip.AddrPort) error {
	family := unix.AF_INET
	if target.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	if from.IsValid() {
		if err = unix.Bind(fd, sockaddr(from, p.index)); err != nil {
			err = unix.Bind(fd, sockaddr(netip.AddrPortFrom(from.Addr(), 0), p.index))
		}
	}
	if err == nil {
		err = unix.Connect(fd, sockaddr(target, p.index))
	}
	if err == nil || errors.Is(err, unix.EINPROGRESS) {
		p.pending = append(p.pending, fd)
		return nil
	}
	_ = unix.Close(fd) // nothing was written
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
