package wire

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/vrrp"
)

// Layout of an IPv4 header (RFC 791 §3.1). A raw IPv4 socket receives it with
// every packet, so TTL and addresses need no control messages.
const (
	ipv4MinHeader = 20
	ipv4TTL       = 8
	ipv4Source    = 12
	ipv4Dest      = 16
)

// Of an IPv6 packet a raw socket receives the payload alone; the header is in
// control messages: an int, and a struct in6_pktinfo that begins with the
// destination. The filter knows where the source is.
const (
	ipv6Source     = 8
	ipv6AddressLen = 16
)

// leastCharge is no more than what a kernel charges for a packet. One of 64 bits: a struct
// sk_buff of 256 bytes, a struct skb_shared_info of 320, and 64 for what it keeps free
// before the data; Linux 6.18 charges 832 for a short packet. Where pointers have half the
// size the three are some 500.
const leastCharge = 320 << (^uint(0) >> 63)

// queued returns how many packets are in the queue at most. What has arrived is charged
// before it can be read.
func queued(fd int) int {
	meminfo, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_MEMINFO)
	if err != nil {
		return receiveLimit
	}
	charged := binary.NativeEndian.Uint32(binary.NativeEndian.AppendUint64(nil, meminfo)) // SK_MEMINFO_RMEM_ALLOC comes first
	return min(int(charged+leastCharge-1)/leastCharge, receiveLimit)
}

// receiveQueued delivers what the kernel has queued, at most limit packets. more is
// true when there may be further ones.
func (c *Conn) receiveQueued(fd, limit int) (more bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deliver == nil {
		return false, nil
	}
	for limit > 0 {
		n, err := c.in.read(fd, limit)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return false, nil
		case isSocketBroken(err):
			return false, os.NewSyscallError("recvmmsg", err)
		case err != nil:
			limit-- // a pending error, which recvmmsg has cleared
			continue
		}
		for i := range n {
			c.take(c.in.at(i))
		}
		limit -= n
	}
	return true, nil
}

func (c *Conn) take(r received) {
	c.readControl(r.control)
	c.noteOverflow(c.control)
	packet, reason := c.accept(r, c.control)
	if reason != 0 {
		c.Count(reason)
		if s := c.sieve.Load(); s == nil || !s.knows(r.b) {
			c.unknown.Add(1)
		}
		return
	}
	c.deliver(packet)
}

// readControl fills c.control. When it is not understood there is none, and the packet
// is dropped for want of a hop limit.
func (c *Conn) readControl(b []byte) {
	c.control = c.control[:0]
	for len(b) > 0 {
		header, data, rest, err := unix.ParseOneSocketControlMessage(b)
		if err != nil {
			c.control = c.control[:0]
			return
		}
		c.control = append(c.control, unix.SocketControlMessage{Header: header, Data: data})
		b = rest
	}
}

// isSocketBroken tells the errors that say something about the descriptor from
// those that the network left on the socket.
func isSocketBroken(err error) bool {
	for _, broken := range []error{unix.EBADF, unix.ENOTSOCK, unix.EINVAL, unix.EFAULT, unix.ENOTCONN} {
		if errors.Is(err, broken) {
			return true
		}
	}
	return false
}

// accept checks what RFC 9568 §7.1 wants checked of the IP header. Addresses
// are checked although the socket is connected: between socket(2) and
// connect(2) it receives from everybody.
func (c *Conn) accept(r received, control []unix.SocketControlMessage) (Packet, vrrp.DropReason) {
	if r.flags&unix.MSG_TRUNC != 0 {
		return Packet{}, vrrp.DropLength
	}
	var p Packet
	var ok bool
	if c.cfg.Local.Is4() {
		p, ok = splitIPv4(r.b)
	} else {
		p, ok = joinIPv6(r, control)
	}
	switch {
	case !ok:
		return Packet{}, vrrp.DropLength
	case p.Source == c.local:
		return Packet{}, vrrp.DropOwn
	case !c.between(p.Source, p.Destination):
		return Packet{}, vrrp.DropSource
	case p.TTL != vrrp.TTL:
		return Packet{}, vrrp.DropTTL
	}
	return p, 0
}

// between reports whether a packet went the way that the path is for.
func (c *Conn) between(src, dst netip.Addr) bool {
	if c.cfg.group() {
		return dst == c.peer && !src.IsUnspecified() && !src.IsMulticast()
	}
	return src == c.peer && dst == c.local
}

func splitIPv4(b []byte) (Packet, bool) {
	if len(b) < ipv4MinHeader {
		return Packet{}, false
	}
	header := int(b[0]&0x0f) * 4
	if header < ipv4MinHeader || header > len(b) {
		return Packet{}, false
	}
	return Packet{
		Source:      netip.AddrFrom4([4]byte(b[ipv4Source:])),
		Destination: netip.AddrFrom4([4]byte(b[ipv4Dest:])),
		TTL:         int(b[ipv4TTL]),
		Payload:     b[header:],
	}, true
}

// joinIPv6 leaves TTL 0 and Destination invalid when the kernel did not say.
func joinIPv6(r received, control []unix.SocketControlMessage) (Packet, bool) {
	if r.source.Family != unix.AF_INET6 {
		return Packet{}, false
	}
	p := Packet{Source: netip.AddrFrom16(r.source.Addr), Payload: r.b}
	for _, m := range control {
		switch {
		case m.Header.Level != unix.IPPROTO_IPV6:
		case m.Header.Type == unix.IPV6_HOPLIMIT && len(m.Data) >= 4:
			p.TTL = int(binary.NativeEndian.Uint32(m.Data))
		case m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= ipv6AddressLen:
			p.Destination = netip.AddrFrom16([16]byte(m.Data))
		}
	}
	return p, true
}

func (c *Conn) noteOverflow(control []unix.SocketControlMessage) {
	for _, m := range control {
		if n, ok := overflow(m); ok {
			c.drops[vrrp.DropOverflow].Store(n)
		}
	}
}
