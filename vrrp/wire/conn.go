// Package wire carries VRRP packets over one heartbeat path: a raw socket
// (protocol 112) between one local address and one peer, or between one
// interface and the VRRP group of its link, shared by all virtual routers of
// the host.
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
	// receiveLimit is more packets than receiveBuffer holds.
	receiveLimit = 4096
	// turnLimit bounds how many Run reads under the lock, for which whoever calls Drain
	// waits: some 0.2 ms of a flood.
	turnLimit = 64
)

// Config names a path. Its addresses are of one family, IPv4 or IPv6.
type Config struct {
	// Local is the address that packets come from. It has to be on an interface
	// of this host; to a group it should be PrimaryAddress.
	Local netip.Addr
	// Peer is the other host's address, or vrrp.Group(Local) for everybody on
	// the link of Interface.
	Peer netip.Addr
	// Interface is the link that packets go over and come from. A group and
	// link-local addresses need it; empty leaves it to the routes.
	Interface string
	// VRIDs are the virtual routers whose packets a group delivers: others on
	// its link belong to others. Empty delivers all. A path to a peer delivers
	// all that it sends.
	VRIDs []uint8
}

func (c Config) group() bool { return c.Peer.WithZone("") == vrrp.Group(c.Local) }

func (c Config) validate() error {
	linkLocal := c.Local.Is6() && (c.Local.IsLinkLocalUnicast() || c.Peer.IsLinkLocalUnicast())
	switch {
	case !c.Local.IsValid() || !c.Peer.IsValid() || c.Local.Is4In6() || c.Peer.Is4In6() || c.Local.Is4() != c.Peer.Is4():
		return errors.New("not two addresses of one family")
	case c.Local.WithZone("") == c.Peer.WithZone("") || c.Local.IsMulticast() || c.Peer.IsMulticast() && !c.group():
		return errors.New("not between two hosts, nor to the VRRP group")
	case c.Interface == "" && (linkLocal || c.group()):
		return errors.New("no interface")
	}
	return nil
}

// Packet is one received packet that went the path's way with TTL or hop limit
// 255.
type Packet struct {
	Source, Destination netip.Addr // without zones
	TTL                 int
	Payload             []byte // valid until deliver returns
}

// Conn is one open path. Its methods are safe for concurrent use.
type Conn struct {
	cfg         Config
	local, peer netip.Addr    // without zones
	group       unix.Sockaddr // where Send sends; nil when connected
	file        *os.File
	raw         syscall.RawConn
	link        *link // nil without an interface

	// mu is held from a recvmmsg until its packets are delivered, so that whoever
	// holds it knows that no packet is in between. It guards deliver, in, control.
	mu      sync.Mutex
	deliver func(Packet)
	in      *batch
	control []unix.SocketControlMessage // in in

	// What RawConn calls is made once: a function made for each call costs an
	// allocation for each packet.
	drainNow func(fd uintptr)
	sendNow  func(fd uintptr) // with sending held

	sending sync.Mutex // guards payload and sendErr
	payload []byte     // what sendNow sends
	sendErr error      // what came of it

	drops   [dropReasons]atomic.Uint64
	sieve   atomic.Pointer[Sieve] // of the latest SetFilter
	unknown atomic.Uint64
}

const dropReasons = int(vrrp.DropOverflow) + 1

// Listen opens the path. It needs CAP_NET_RAW. The error wraps EADDRNOTAVAIL
// while the local address does not exist or is still tentative, ENODEV while
// the interface does not exist, and ENETUNREACH while there is no route to the
// peer: all may go away, so the owner can try again.
func Listen(cfg Config) (*Conn, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("open heartbeat path %v to %v: %w", cfg.Local, cfg.Peer, err)
	}
	c := &Conn{cfg: cfg, in: newBatch(!cfg.Local.Is4()), local: cfg.Local.WithZone(""), peer: cfg.Peer.WithZone("")}
	if err := c.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("open heartbeat path %v to %v: %w", cfg.Local, cfg.Peer, err), c.closeLink())
	}
	return c, nil
}

func (c *Conn) open() (err error) {
	index := 0
	if c.cfg.Interface != "" {
		if c.link, err = openLink(c.cfg.Interface); err != nil {
			return err
		}
		index = c.link.index
	}
	fd, err := openSocket(c.cfg, index)
	if err != nil {
		return err
	}
	if c.cfg.group() {
		c.group = sockaddr(c.peer, index)
	}
	c.file = os.NewFile(uintptr(fd), "vrrp "+c.cfg.Local.String())
	if c.raw, err = c.file.SyscallConn(); err != nil {
		return errors.Join(err, c.file.Close())
	}
	c.sendNow = func(fd uintptr) { c.sendErr = c.send(int(fd), c.payload) }
	c.drainNow = func(fd uintptr) { _, _ = c.receiveQueued(int(fd), queued(int(fd))) } // the same error ends Run
	return nil
}

func (c *Conn) closeLink() error {
	if c.link == nil {
		return nil
	}
	return c.link.close()
}

// Local returns the local address of the path, without a zone.
func (c *Conn) Local() netip.Addr { return c.local }

// Peer returns the peer's address on the path, or the group, without a zone.
func (c *Conn) Peer() netip.Addr { return c.peer }

// SetFilter changes what the kernel lets through to Run. On a group vrids are in place
// of Config.VRIDs; on a path to a peer they mean nothing.
//
// A sieve that is on is for a flood of what is refused anyway: it lets through what it
// knows, and of all else one packet of SampleOf, by chance. What it keeps out is counted
// nowhere.
//
// After an error there is no filter.
func (c *Conn) SetFilter(vrids []uint8, s Sieve) error {
	cfg := c.cfg
	cfg.VRIDs = vrids
	c.sieve.Store(&s)
	var attachErr error
	err := c.raw.Control(func(fd uintptr) { attachErr = attachFilter(int(fd), cfg, s) })
	if err := errors.Join(closed(err), attachErr); err != nil {
		return fmt.Errorf("filter packets from %v: %w", c.peer, err)
	}
	return nil
}

// Dropped returns how many packets were discarded for reason. The path itself
// finds DropTTL, DropSource, DropOwn, DropLength, and DropOverflow, which the
// kernel counts and reports with the next packet; Count adds the rest.
func (c *Conn) Dropped(reason vrrp.DropReason) uint64 {
	if int(reason) >= dropReasons {
		return 0
	}
	return c.drops[reason].Load()
}

// Unknown returns how many packets the path itself discarded that the sieve of SetFilter
// does not know.
func (c *Conn) Unknown() uint64 { return c.unknown.Load() }

// Count counts a packet that was delivered and then dropped for reason, by
// vrrp.Parse or Config.Check, so that one place has all counts of the path.
func (c *Conn) Count(reason vrrp.DropReason) {
	if int(reason) < dropReasons {
		c.drops[reason].Add(1)
	}
}

// Send sends one VRRP message to the peer or the group and never blocks: a full queue is
// EAGAIN or ENOBUFS. What the peer answers by ICMP while its daemon is down
// fails no Send; the kernel leaves it to the receiving side, which ignores it.
func (c *Conn) Send(payload []byte) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	c.payload, c.sendErr = payload, nil
	err := c.raw.Control(c.sendNow)
	c.payload = nil
	if err := errors.Join(closed(err), os.NewSyscallError("send", c.sendErr)); err != nil {
		return fmt.Errorf("send advertisement to %v: %w", c.cfg.Peer, err)
	}
	return nil
}

func (c *Conn) send(fd int, payload []byte) error {
	if c.group == nil {
		return unix.Send(fd, payload, unix.MSG_DONTWAIT)
	}
	return unix.Sendto(fd, payload, unix.MSG_DONTWAIT, c.group)
}

// closed names what a raw descriptor reports without a type: besides the
// deadline, its only error is that the file was closed.
func closed(err error) error {
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return os.ErrClosed
}

// Run delivers the path's packets until ctx ends, and then returns nil. What
// the network does to the socket (a link that goes down, ICMP) does not end it.
// When the interface of the path is gone or was created anew it returns an
// error that wraps ENODEV: the owner closes the path and tries Listen again.
// Only one Run may be active.
//
// deliver is called with a lock held: it must not call Drain, nor wait for
// somebody who does.
func (c *Conn) Run(ctx context.Context, deliver func(Packet)) error {
	if err := c.start(deliver); err != nil {
		return err
	}
	defer c.stop()
	running, cancel := context.WithCancelCause(ctx)
	stopWatching := c.watchLink(cancel)
	defer stopWatching()
	woken := make(chan struct{})
	stopWaking := context.AfterFunc(running, func() {
		defer close(woken)
		c.interrupt()
	})
	defer func() {
		if !stopWaking() {
			<-woken
		}
	}()
	for running.Err() == nil {
		if err := c.receiveReadable(); err != nil && running.Err() == nil {
			return fmt.Errorf("receive from %v: %w", c.cfg.Peer, err)
		}
	}
	if ctx.Err() == nil {
		return fmt.Errorf("receive from %v: %w", c.cfg.Peer, context.Cause(running))
	}
	return nil
}

// watchLink cancels when the interface is gone. The function it returns ends
// the watch.
func (c *Conn) watchLink(cancel context.CancelCauseFunc) (stop func()) {
	if c.link == nil {
		return func() { cancel(nil) }
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if gone := c.link.wait(); gone != nil {
			cancel(gone)
		}
	}()
	return func() {
		cancel(nil)
		c.link.interrupt()
		<-done
	}
}

func (c *Conn) start(deliver func(Packet)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deliver != nil {
		return fmt.Errorf("receive from %v: already running", c.cfg.Peer)
	}
	err := c.file.SetReadDeadline(time.Time{})
	if err == nil && c.link != nil {
		err = c.link.resume()
	}
	if err != nil {
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
		more, receiveErr = c.receiveQueued(int(fd), turnLimit)
		return more || receiveErr != nil
	})
	return errors.Join(closed(err), receiveErr)
}

// Drain delivers, before it returns, every packet that had arrived when it was
// called, and of a flood few that came since. Without a Run there is nobody to deliver to, and it does nothing.
func (c *Conn) Drain() {
	_ = c.raw.Control(c.drainNow) // fails only when closed
}

// Close closes the path and ends Run with an error that wraps os.ErrClosed.
func (c *Conn) Close() error {
	if err := errors.Join(c.file.Close(), c.closeLink()); err != nil {
		return fmt.Errorf("close heartbeat path %v to %v: %w", c.cfg.Local, c.cfg.Peer, err)
	}
	return nil
}
