package probe

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/tanist-ha/tanist/internal/doctor"
)

// answerTime is how long a host on the same network may take to answer: its kernel
// does, in well under a millisecond. A first SYN that is lost is sent again after 1 s.
const answerTime = 1200 * time.Millisecond

// TCP connects from an address of this host to a port of the peer, and hangs up.
func TCP(ctx context.Context, p Path, port uint16) (doctor.Connection, error) {
	d := net.Dialer{Timeout: answerTime, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.Local, 0))}
	c, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(p.Peer, port).String())
	var timeout net.Error
	switch {
	case err == nil:
		return doctor.Connected, c.Close()
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return doctor.NotTried, err
	case errors.Is(err, syscall.ECONNREFUSED):
		return doctor.Refused, err
	case errors.Is(err, syscall.ECONNRESET):
		return doctor.Reset, err
	case errors.As(err, &timeout) && timeout.Timeout():
		return doctor.Unanswered, err
	}
	return doctor.Unreachable, err
}

// Echo sends one ICMP echo and returns how long the answer took, and false when none
// came.
func Echo(ctx context.Context, p Path) (time.Duration, bool) {
	network, kind, protocol := "ip4:icmp", icmp.Type(ipv4.ICMPTypeEcho), 1
	if p.Local.Is6() {
		network, kind, protocol = "ip6:ipv6-icmp", ipv6.ICMPTypeEchoRequest, 58
	}
	c, err := icmp.ListenPacket(network, p.Local.String())
	if err != nil {
		return 0, false
	}
	defer func() { _ = c.Close() }()
	text := []byte(rand.Text())
	message, err := (&icmp.Message{Type: kind, Body: &icmp.Echo{ID: os.Getpid() & 0xffff, Seq: 1, Data: text}}).Marshal(nil)
	if err != nil {
		return 0, false
	}
	began := time.Now()
	end := began.Add(answerTime)
	if by, ok := ctx.Deadline(); ok && by.Before(end) {
		end = by
	}
	_ = c.SetDeadline(end) // an open socket takes any
	if _, err := c.WriteTo(message, &net.IPAddr{IP: p.Peer.AsSlice(), Zone: p.Peer.Zone()}); err != nil {
		return 0, false
	}
	return awaitEcho(c, protocol, text, began)
}

// awaitEcho skips what others asked for, until the deadline of the socket.
func awaitEcho(c *icmp.PacketConn, protocol int, text []byte, began time.Time) (time.Duration, bool) {
	buf := make([]byte, 1500)
	for {
		n, _, err := c.ReadFrom(buf)
		if err != nil {
			return 0, false
		}
		m, err := icmp.ParseMessage(protocol, buf[:n])
		if err != nil || m.Type != ipv4.ICMPTypeEchoReply && m.Type != ipv6.ICMPTypeEchoReply {
			continue
		}
		if echo, ok := m.Body.(*icmp.Echo); ok && bytes.Equal(echo.Data, text) {
			return time.Since(began), true
		}
	}
}
