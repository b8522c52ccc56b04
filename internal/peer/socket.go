package peer

// How the kernel is to treat a connection whose messages are worth nothing a
// second later.

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	dialTime = 500 * time.Millisecond
	// unacknowledgedTime is when the kernel gives a connection up that gets no
	// answer.
	unacknowledgedTime = 2 * time.Second
	// unsentBytes is how much the kernel may hold that it has not sent: as little
	// as it accepts, so that the outbox decides what goes out next.
	unsentBytes = 1
)

// setUp is the Control of a socket. TCP_NODELAY is Go's default. Thin linear
// timeouts retransmit every RTO and not ever more seldom, so a path that was
// gone for a second carries messages again at once.
func setUp(_, _ string, c syscall.RawConn) error {
	var set error
	err := c.Control(func(fd uintptr) {
		for _, o := range []struct {
			name       string
			opt, value int
		}{
			{name: "TCP_USER_TIMEOUT", opt: unix.TCP_USER_TIMEOUT, value: int(unacknowledgedTime.Milliseconds())},
			{name: "TCP_NOTSENT_LOWAT", opt: unix.TCP_NOTSENT_LOWAT, value: unsentBytes},
			{name: "TCP_THIN_LINEAR_TIMEOUTS", opt: unix.TCP_THIN_LINEAR_TIMEOUTS, value: 1},
		} {
			if err := unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, o.opt, o.value); err != nil {
				set = os.NewSyscallError("setsockopt "+o.name, err)
				return
			}
		}
	})
	if err != nil {
		return err
	}
	return set
}

func network(a netip.Addr) string {
	if a.Is4() {
		return "tcp4"
	}
	return "tcp6"
}

// dial connects from a local address to the peer's port.
func dial(ctx context.Context, local, peer netip.Addr, port uint16) (*net.TCPConn, error) {
	d := net.Dialer{
		Timeout:   dialTime,
		LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0)),
		KeepAlive: -1, // somebody speaks all the time
		Control:   setUp,
	}
	conn, err := d.DialContext(ctx, network(peer), netip.AddrPortFrom(peer, port).String())
	if err != nil {
		return nil, err
	}
	return tcp(conn)
}

// bind listens on a local address.
func bind(ctx context.Context, local netip.Addr, port uint16) (*net.TCPListener, error) {
	lc := net.ListenConfig{KeepAlive: -1, Control: setUp}
	lc.SetMultipathTCP(false) // a path is one way; the other has a connection of its own
	ln, err := lc.Listen(ctx, network(local), netip.AddrPortFrom(local, port).String())
	if err != nil {
		return nil, err
	}
	if tl, ok := ln.(*net.TCPListener); ok {
		return tl, nil
	}
	return nil, fmt.Errorf("listen on %v: %T is not TCP", local, ln)
}

func tcp(conn net.Conn) (*net.TCPConn, error) {
	if tc, ok := conn.(*net.TCPConn); ok {
		return tc, nil
	}
	return nil, fmt.Errorf("connection to %v: %T is not TCP", conn.RemoteAddr(), conn)
}

// abort closes a connection at once: what the kernel still holds of it is void.
func abort(c *net.TCPConn) {
	// A connection that is gone already has nothing to discard.
	_ = c.SetLinger(0)
	_ = c.Close()
}
