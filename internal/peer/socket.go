package peer

// How the kernel is to treat a connection whose messages are worth nothing a
// second later.

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"

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
	for _, o := range []struct {
		name       string
		opt, value int
	}{
		{name: "TCP_USER_TIMEOUT", opt: unix.TCP_USER_TIMEOUT, value: int(unacknowledgedTime.Milliseconds())},
		{name: "TCP_NOTSENT_LOWAT", opt: unix.TCP_NOTSENT_LOWAT, value: unsentBytes},
		{name: "TCP_THIN_LINEAR_TIMEOUTS", opt: unix.TCP_THIN_LINEAR_TIMEOUTS, value: 1},
	} {
		set := func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, o.opt, o.value) }
		if err := control(c, "setsockopt "+o.name, set); err != nil {
			return err
		}
	}
	return nil
}

// control calls the kernel about a socket.
func control(c syscall.RawConn, call string, f func(fd int) error) error {
	var callErr error
	if err := c.Control(func(fd uintptr) { callErr = f(int(fd)) }); err != nil {
		return err
	}
	return os.NewSyscallError(call, callErr)
}

func network(a netip.Addr) string {
	if a.Is4() {
		return "tcp4"
	}
	return "tcp6"
}

// Of the ports that only root may have, those that no service is known for (RFC 4727
// gives the last two to experiments). A daemon that cannot have one does without.
const (
	firstReserved = 1001
	lastReserved  = 1022
	reservedTries = 4
)

// dial connects from a local address to the peer's port. From a reserved port it does
// so if it can have one.
func dial(ctx context.Context, local, peer netip.Addr, port uint16, reserved bool) (*net.TCPConn, error) {
	for range reservedTries {
		if !reserved {
			break
		}
		from := uint16(firstReserved + rand.IntN(lastReserved-firstReserved+1)) //nolint:gosec // no secret
		conn, err := dialFrom(ctx, netip.AddrPortFrom(local, from), netip.AddrPortFrom(peer, port))
		switch {
		case errors.Is(err, syscall.EACCES):
			reserved = false
		case !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, syscall.EADDRNOTAVAIL):
			return conn, err
		}
	}
	return dialFrom(ctx, netip.AddrPortFrom(local, 0), netip.AddrPortFrom(peer, port))
}

func dialFrom(ctx context.Context, local, peer netip.AddrPort) (*net.TCPConn, error) {
	d := net.Dialer{
		Timeout:   dialTime,
		LocalAddr: net.TCPAddrFromAddrPort(local),
		KeepAlive: -1, // somebody speaks all the time
		Control:   setUp,
	}
	conn, err := d.DialContext(ctx, network(peer.Addr()), peer.String())
	if err != nil {
		return nil, err
	}
	return tcp(conn)
}

func listen(ctx context.Context, lc *net.ListenConfig, local netip.Addr, port uint16) (*net.TCPListener, error) {
	ln, err := lc.Listen(ctx, network(local), netip.AddrPortFrom(local, port).String())
	if err != nil {
		return nil, err
	}
	if tl, ok := ln.(*net.TCPListener); ok {
		return tl, nil
	}
	return nil, fmt.Errorf("listen on %v: %T is not TCP", local, ln)
}

// droppedBy is how many packets the kernel has dropped that were for a socket: the
// filter's, and those that found its queue full.
func droppedBy(fd int) (uint32, error) {
	const drops = 8 // SK_MEMINFO_DROPS
	var info [drops + 1]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0) //nolint:gosec // the kernel fills in what size says
	if errno != 0 {
		return 0, errno
	}
	return info[drops], nil
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
