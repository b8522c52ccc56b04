package peer

// The kernel keeps away from the port what is not worth a look: every packet that is
// not from the peer's address, and, when more connections come from that than are
// looked at, new ones from ports that any user of its host can have. A real peer that
// finds no way in dials from one that only its root can have. What is dropped there
// costs about as much as the packet's way through the network.

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	// lookedAt is how many connections a second are looked at for long, of either kind
	// of port, and lookedAtOnce how many at once. A real peer makes a few, and one costs
	// some 40 µs.
	lookedAt     = 200
	lookedAtOnce = 2 * unprovedLimit
	// shutTime is for how long ordinary ports are shut out at a time.
	shutTime = 500 * time.Millisecond
	// backlog is how many connections may wait to be accepted.
	backlog = 128
	// unreserved is the first port that any user can have.
	unreserved = 1024
)

// listener accepts the peer's connections on a local address.
type listener struct {
	*net.TCPListener
	raw      syscall.RawConn
	peer     netip.Addr
	refusals *refusals
	filtered bool // the kernel took the filter

	ordinary, reserved bucket    // of the accepting goroutine
	reopen             time.Time // when ordinary ports are let in again

	mu    sync.Mutex // guards the fields below
	shut  bool
	noted uint32 // of the packets that the kernel has dropped
}

// bind listens on a local address for the peer of its path.
func (p *path) bind(ctx context.Context) (*listener, error) {
	l := &listener{peer: p.peer, refusals: &p.refusals}
	lc := net.ListenConfig{KeepAlive: -1, Control: func(network, address string, c syscall.RawConn) error {
		l.raw = c
		// Without it fromPeer does the same, later.
		l.filtered = l.attach(false) == nil
		return setUp(network, address, c)
	}}
	lc.SetMultipathTCP(false) // a path is one way; the other has a connection of its own
	ln, err := listen(ctx, &lc, p.local, p.link.cfg.Port)
	if err != nil {
		return nil, err
	}
	l.TCPListener = ln
	if l.raw, err = ln.SyscallConn(); err == nil {
		err = control(l.raw, "listen", func(fd int) error { return unix.Listen(fd, backlog) })
	}
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return l, nil
}

// next returns the next connection of the peer that is worth a look.
func (l *listener) next() (*net.TCPConn, error) {
	for {
		conn, err := l.AcceptTCP()
		if !l.reopen.IsZero() && !time.Now().Before(l.reopen) {
			l.reopen = time.Time{}
			l.shutOut(false)
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			continue
		case err != nil:
			return nil, err // it names the address
		}
		reason := l.judge(conn, time.Now())
		if reason == 0 {
			return conn, nil
		}
		l.refusals.note(reason, refuse(reason, "a connection from %v", conn.RemoteAddr()))
		abort(conn)
	}
}

// judge says why a connection is not worth a look.
func (l *listener) judge(conn *net.TCPConn, now time.Time) Reason {
	from, ok := conn.RemoteAddr().(*net.TCPAddr)
	switch {
	case !ok || from.AddrPort().Addr().Unmap().WithZone("") != l.peer.WithZone(""):
		return ReasonStranger
	case from.Port < unreserved && l.reserved.take(now), from.Port >= unreserved && l.ordinary.take(now):
		return 0
	case from.Port >= unreserved && l.reopen.IsZero():
		l.reopen = now.Add(shutTime)
		l.shutOut(true)
	}
	return ReasonCrowded
}

// shutOut lets new connections from ordinary ports in no more, or again, which
// AcceptTCP looks after at its deadline.
func (l *listener) shutOut(shut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.filtered && l.attach(shut) == nil {
		l.shut = shut
	}
	_ = l.SetDeadline(l.reopen) // fails only when closed, which AcceptTCP says
}

// noteDropped counts the packets that the kernel has dropped since the last time: the
// filter's, those that found the queue full, and the ends of connections that were half
// open.
func (l *listener) noteDropped() {
	l.mu.Lock()
	defer l.mu.Unlock()
	var n uint32
	err := control(l.raw, "getsockopt SO_MEMINFO", func(fd int) (err error) {
		n, err = droppedBy(fd)
		return err
	})
	if err != nil {
		return // closed, or a kernel that does not say
	}
	dropped := uint64(n - l.noted) // it may wrap round
	l.refusals.add(ReasonDropped, dropped, refuse(ReasonDropped, "packets that the kernel dropped at the link's port"))
	l.noted = n
}

func (l *listener) attach(shut bool) error {
	program, err := bpf.Assemble(admission(l.peer, shut))
	if err != nil {
		return err
	}
	raw := make([]unix.SockFilter, len(program))
	for i, ins := range program {
		raw[i] = unix.SockFilter{Code: ins.Op, Jt: ins.Jt, Jf: ins.Jf, K: ins.K}
	}
	return control(l.raw, "setsockopt SO_ATTACH_FILTER", func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(raw)), Filter: &raw[0]})
	})
}

// Where a filter of a TCP socket finds what, counted from the TCP header; and from
// networkHeader, the kernel's SKF_NET_OFF, on from the IP header.
const (
	tcpSource = 0
	tcpFlags  = 13
	flagSYN   = 0x02

	networkHeader = 0xfff00000
	ipv4Source    = 12
	ipv6Source    = 8

	wholePacket = 1<<32 - 1
)

// admission is a classic BPF program. The connections inherit it.
func admission(peer netip.Addr, shut bool) []bpf.Instruction {
	var p []bpf.Instruction
	source, offset := peer.AsSlice(), uint32(networkHeader+ipv4Source)
	if !peer.Is4() {
		offset = networkHeader + ipv6Source
	}
	for ; len(source) > 0; source, offset = source[4:], offset+4 {
		p = append(p,
			bpf.LoadAbsolute{Off: offset, Size: 4},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: binary.BigEndian.Uint32(source), SkipTrue: 1},
			bpf.RetConstant{Val: 0})
	}
	if shut {
		p = append(p,
			bpf.LoadAbsolute{Off: tcpSource, Size: 2},
			bpf.JumpIf{Cond: bpf.JumpLessThan, Val: unreserved, SkipTrue: 3},
			bpf.LoadAbsolute{Off: tcpFlags, Size: 1},
			bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: flagSYN, SkipTrue: 1},
			bpf.RetConstant{Val: 0})
	}
	return append(p, bpf.RetConstant{Val: wholePacket})
}

// bucket is filled with lookedAt a second and holds lookedAtOnce.
type bucket struct {
	taken float64 // of what it holds
	at    time.Time
}

func (b *bucket) take(now time.Time) bool {
	b.taken = max(0, b.taken-lookedAt*now.Sub(b.at).Seconds())
	b.at = now
	if b.taken > lookedAtOnce-1 {
		return false
	}
	b.taken++
	return true
}
