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

// receiveQueued delivers what the kernel has queued, at most receiveLimit
// packets. more is true when there may be further ones.
func (c *Conn) receiveQueued(fd int) (more bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deliver == nil {
		return false, nil
	}
	for range receiveLimit {
		var oob [64]byte
		n, oobn, flags, _, err := unix.Recvmsg(fd, c.buf[:], oob[:], unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return false, nil
		case isSocketBroken(err):
			return false, os.NewSyscallError("recvmsg", err)
		case err != nil:
			continue // a pending error, which recvmsg has cleared
		}
		c.noteOverflow(oob[:oobn])
		packet, reason := c.accept(c.buf[:n], flags)
		if reason != 0 {
			c.drops[reason].Add(1)
			continue
		}
		c.deliver(packet)
	}
	return true, nil
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

// accept checks what RFC 9568 §7.1 wants checked of the IPv4 header. The
// addresses are checked although the socket is connected: between socket(2)
// and connect(2) it receives from everybody.
func (c *Conn) accept(b []byte, flags int) (Packet, vrrp.DropReason) {
	if len(b) < ipv4MinHeader || flags&unix.MSG_TRUNC != 0 {
		return Packet{}, vrrp.DropLength
	}
	header := int(b[0]&0x0f) * 4
	if header < ipv4MinHeader || header > len(b) {
		return Packet{}, vrrp.DropLength
	}
	p := Packet{
		Source:      netip.AddrFrom4([4]byte(b[ipv4Source:])),
		Destination: netip.AddrFrom4([4]byte(b[ipv4Dest:])),
		TTL:         int(b[ipv4TTL]),
	}
	switch {
	case p.Source != c.cfg.Peer || p.Destination != c.cfg.Local:
		return Packet{}, vrrp.DropSource
	case p.TTL != vrrp.TTL:
		return Packet{}, vrrp.DropTTL
	}
	p.Payload = append([]byte(nil), b[header:]...)
	return p, 0
}

// noteOverflow keeps the kernel's count of packets that found the queue full.
func (c *Conn) noteOverflow(oob []byte) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return
	}
	for _, m := range msgs {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_RXQ_OVFL && len(m.Data) >= 4 {
			c.drops[vrrp.DropOverflow].Store(uint64(binary.NativeEndian.Uint32(m.Data)))
		}
	}
}
