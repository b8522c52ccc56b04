// Package wire carries VRRP packets over one heartbeat path: a raw IPv4 socket
// (protocol 112) between one local address and one peer, shared by all virtual
// routers of the host.
package wire

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/vrrp"
)

const (
	// receiveBuffer is the SO_RCVBUF asked for. The kernel doubles it and
	// charges about 768 bytes for a short packet, so it holds some 2,700.
	receiveBuffer = 1 << 20
	// receiveLimit bounds how many packets one turn reads under the lock: more
	// than receiveBuffer holds, so a turn empties what was queued at its start,
	// and a flood cannot keep it going.
	receiveLimit = 4096
	// tosNetworkControl is DSCP CS6, the class of routing protocols.
	tosNetworkControl = 0xc0
)

// Config names the two ends of a path. Both are IPv4 unicast addresses.
type Config struct {
	Local netip.Addr // has to be on an interface of this host
	Peer  netip.Addr
}

// Packet is one received packet that came from the peer with TTL 255.
type Packet struct {
	Source, Destination netip.Addr
	TTL                 int
	Payload             []byte // owned by the receiver
}

// Conn is one open path. Its methods are safe for concurrent use.
type Conn struct {
	cfg  Config
	file *os.File
	raw  syscall.RawConn

	// mu is held from a recvmsg until its packet is delivered, so that whoever
	// holds it knows that no packet is in between. It guards deliver and buf.
	mu      sync.Mutex
	deliver func(Packet)
	buf     [4096]byte

	drops [dropReasons]atomic.Uint64
}

const dropReasons = int(vrrp.DropOverflow) + 1

// Listen opens the path. It needs CAP_NET_RAW. The error wraps EADDRNOTAVAIL
// while the local address does not exist, and ENETUNREACH while there is no
// route to the peer: both may go away, so the owner can try again.
func Listen(cfg Config) (*Conn, error) {
	if !cfg.Local.Is4() || !cfg.Peer.Is4() || cfg.Local == cfg.Peer {
		return nil, fmt.Errorf("open heartbeat path %v to %v: not two IPv4 addresses", cfg.Local, cfg.Peer)
	}
	fd, err := openSocket(cfg)
	if err != nil {
		return nil, fmt.Errorf("open heartbeat path %v to %v: %w", cfg.Local, cfg.Peer, err)
	}
	c := &Conn{cfg: cfg, file: os.NewFile(uintptr(fd), "vrrp "+cfg.Local.String())}
	if c.raw, err = c.file.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("open heartbeat path %v to %v: %w", cfg.Local, cfg.Peer, err), c.file.Close())
	}
	return c, nil
}

func openSocket(cfg Config) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, vrrp.Protocol)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := setUpSocket(fd, cfg); err != nil {
		return -1, errors.Join(err, os.NewSyscallError("close", unix.Close(fd)))
	}
	return fd, nil
}

// setUpSocket binds and connects fd: the kernel then hands it only packets from
// the peer to the local address.
func setUpSocket(fd int, cfg Config) error {
	for _, o := range []struct {
		name              string
		level, opt, value int
	}{
		{name: "IP_TTL", level: unix.IPPROTO_IP, opt: unix.IP_TTL, value: vrrp.TTL},
		{name: "IP_TOS", level: unix.IPPROTO_IP, opt: unix.IP_TOS, value: tosNetworkControl},
		{name: "SO_RXQ_OVFL", level: unix.SOL_SOCKET, opt: unix.SO_RXQ_OVFL, value: 1},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.opt, o.value); err != nil {
			return os.NewSyscallError("setsockopt "+o.name, err)
		}
	}
	// The forced form goes beyond net.core.rmem_max but needs CAP_NET_ADMIN.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer); err != nil {
			return os.NewSyscallError("setsockopt SO_RCVBUF", err)
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: cfg.Local.As4()}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	return os.NewSyscallError("connect", unix.Connect(fd, &unix.SockaddrInet4{Addr: cfg.Peer.As4()}))
}

// Local returns the local address of the path.
func (c *Conn) Local() netip.Addr { return c.cfg.Local }

// Peer returns the peer's address on the path.
func (c *Conn) Peer() netip.Addr { return c.cfg.Peer }

// Dropped returns how many packets were discarded for reason: DropTTL,
// DropSource, DropLength, and DropOverflow, which the kernel counts and reports
// with the next packet.
func (c *Conn) Dropped(reason vrrp.DropReason) uint64 {
	if int(reason) >= dropReasons {
		return 0
	}
	return c.drops[reason].Load()
}

// Send sends one VRRP message to the peer and never blocks: a full queue is
// EAGAIN or ENOBUFS. What the peer answers by ICMP while its daemon is down
// fails no Send; the kernel leaves it to the receiving side, which ignores it.
func (c *Conn) Send(payload []byte) error {
	var sendErr error
	err := c.raw.Control(func(fd uintptr) {
		sendErr = os.NewSyscallError("send", unix.Send(int(fd), payload, unix.MSG_DONTWAIT))
	})
	if err := errors.Join(closed(err), sendErr); err != nil {
		return fmt.Errorf("send advertisement to %v: %w", c.cfg.Peer, err)
	}
	return nil
}

// closed names what a raw descriptor reports without a type: besides the
// deadline, its only error is that the file was closed.
func closed(err error) error {
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return os.ErrClosed
}

// Run delivers the peer's packets until ctx ends, and then returns nil. What
// the network does to the socket (a link that goes down, ICMP) does not end it.
// Only one Run may be active.
//
// deliver is called with a lock held: it must not call Drain, nor wait for
// somebody who does.
func (c *Conn) Run(ctx context.Context, deliver func(Packet)) error {
	if err := c.start(deliver); err != nil {
		return err
	}
	defer c.stop()
	woken := make(chan struct{})
	stopWaking := context.AfterFunc(ctx, func() {
		defer close(woken)
		c.interrupt()
	})
	defer func() {
		if !stopWaking() {
			<-woken
		}
	}()
	for ctx.Err() == nil {
		if err := c.receiveReadable(); err != nil && ctx.Err() == nil {
			return fmt.Errorf("receive from %v: %w", c.cfg.Peer, err)
		}
	}
	return nil
}

func (c *Conn) start(deliver func(Packet)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deliver != nil {
		return fmt.Errorf("receive from %v: already running", c.cfg.Peer)
	}
	if err := c.file.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("receive from %v: %w", c.cfg.Peer, err)
	}
	c.deliver = deliver
	return nil
}

func (c *Conn) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deliver = nil
}

// interrupt makes a waiting Read return. The deadline lies in the past, so no
// clock is read.
func (c *Conn) interrupt() {
	_ = c.file.SetReadDeadline(time.Unix(1, 0)) // fails only when closed, which interrupts as well
}

// receiveReadable waits until something can be read, and reads it.
func (c *Conn) receiveReadable() error {
	var receiveErr error
	err := c.raw.Read(func(fd uintptr) bool {
		var more bool
		more, receiveErr = c.receiveQueued(int(fd))
		return more || receiveErr != nil
	})
	return errors.Join(closed(err), receiveErr)
}

// Drain delivers, before it returns, every packet that had arrived when it was
// called. Without a Run there is nobody to deliver to, and it does nothing.
func (c *Conn) Drain() {
	_ = c.raw.Control(func(fd uintptr) { // fails only when closed
		_, _ = c.receiveQueued(int(fd)) // the same error ends Run
	})
}

// Close closes the path and ends Run with an error that wraps os.ErrClosed.
func (c *Conn) Close() error {
	if err := c.file.Close(); err != nil {
		return fmt.Errorf("close heartbeat path %v to %v: %w", c.cfg.Local, c.cfg.Peer, err)
	}
	return nil
}
