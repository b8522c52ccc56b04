package heartbeat

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/vrrp"
	"github.com/tanist-ha/tanist/vrrp/auth"
	"github.com/tanist-ha/tanist/vrrp/wire"
)

const (
	// retryInterval is how often a path that cannot be opened is tried again.
	retryInterval = time.Second
	// addressInterval is how often a path on a group looks whether the interface
	// still has the address that its packets come from.
	addressInterval = 5 * time.Second
	// vridOffset is where the VRID is in an advertisement (RFC 9568 §5.1).
	vridOffset = 1
)

// path is one socket, which can be missing for a while.
type path struct {
	route       *Route
	local, peer netip.Addr // invalid on a group, which looks them up
	conn        atomic.Pointer[wire.Conn]
	heard       atomic.Int64 // a mono.Instant; 0: never
	sendErr     atomic.Pointer[error]
	proof       [auth.ReasonPaths + 1]atomic.Uint64
	foreign     atomic.Uint64 // refused, and no key of ours can have sealed it
	sieved      atomic.Bool   // the kernel keeps most of that out
	flood       flood         // guarded by route.changing

	mu     sync.Mutex                    // guards the fields below
	past   [vrrp.DropOverflow + 1]uint64 // of sockets that are closed
	told   [vrrp.DropOverflow + 1]uint64
	opened netip.Addr // the last local address
	err    error      // why there is no socket
}

// name says between which ends, for the log.
func (p *path) name() string {
	if p.route.group == "" {
		return fmt.Sprintf("%v to %v", p.local, p.peer)
	}
	if p.route.ipv6 {
		return p.route.group + " to the IPv6 group"
	}
	return p.route.group + " to the IPv4 group"
}

// ends says between which addresses, as the host is now.
func (p *path) ends() (wire.Config, error) {
	r := p.route
	if r.group == "" {
		return wire.Config{Local: p.local, Peer: p.peer}, nil
	}
	local, err := r.heartbeat.groupAddress(r.group, r.ipv6)
	if err != nil {
		return wire.Config{}, err
	}
	return wire.Config{Interface: r.group, Local: local, Peer: vrrp.Group(local), VRIDs: r.vrids()}, nil
}

// groupAddress is this node's address on the interface, as the other node knows
// it, or else the interface's own; in IPv6 always its link-local one (RFC 9568
// §5.1.2.1).
func (h *Heartbeat) groupAddress(group string, ipv6 bool) (netip.Addr, error) {
	if !ipv6 {
		i, err := net.InterfaceByName(group)
		if err != nil {
			return netip.Addr{}, fmt.Errorf("look up interface %s: %w: %w", group, err, syscall.ENODEV)
		}
		list, err := i.Addrs()
		if err != nil {
			return netip.Addr{}, fmt.Errorf("list addresses of %s: %w", group, err)
		}
		for _, local := range h.cfg.Local {
			has := func(a net.Addr) bool {
				p, err := netip.ParsePrefix(a.String())
				return err == nil && p.Addr() == local
			}
			if local.Is4() && slices.ContainsFunc(list, has) {
				return local, nil
			}
		}
	}
	return wire.PrimaryAddress(group, ipv6, h.virtual())
}

// missing are the errors of a path that may come by itself.
var missing = []error{syscall.EADDRNOTAVAIL, syscall.ENETUNREACH, syscall.ENETDOWN, syscall.ENODEV}

// run keeps the path open until ctx ends.
func (p *path) run(ctx context.Context) {
	log, said := p.route.heartbeat.cfg.Log, false
	for ctx.Err() == nil {
		c, err := p.open()
		if err != nil {
			expected := slices.ContainsFunc(missing, func(m error) bool { return errors.Is(err, m) })
			if !said || !expected {
				log.Trouble("", "open the heartbeat path "+p.name()+", trying on", err)
				said = true
			}
			sleep(ctx, retryInterval)
			continue
		}
		said = false
		if err := p.carry(ctx, c); err != nil && ctx.Err() == nil {
			log.Trouble("", "read the heartbeat path "+p.name()+", opening it again", err)
		}
		p.close(c)
		sleep(ctx, retryInterval)
	}
}

func (p *path) open() (*wire.Conn, error) {
	cfg, err := p.ends()
	var c *wire.Conn
	if err == nil {
		c, err = wire.Listen(cfg)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err = err; err != nil {
		return nil, err
	}
	p.told = p.past // each socket counts from 0
	p.opened = c.Local()
	p.conn.Store(c)
	return c, nil
}

func (p *path) close(c *wire.Conn) {
	p.tellSilentDrops()
	p.route.changing.Lock() // no filter goes onto a socket that is closed
	defer p.route.changing.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn.Store(nil)
	p.sieved.Store(false)
	for _, reason := range vrrp.DropReasons() {
		p.past[reason] += c.Dropped(reason)
	}
	p.foreign.Add(c.Unknown())
	p.err = errNotOpen
	_ = c.Close()
}

var errNotOpen = errors.New("not open")

// carry receives until ctx ends or the socket is of no more use.
func (p *path) carry(ctx context.Context, c *wire.Conn) error {
	p.route.refilter() // an instance may have come since the socket was made
	running, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel(nil)
	if p.route.group != "" {
		watch.Go(func() { p.watchAddress(running, c, cancel) })
	}
	err := c.Run(running, func(pkt wire.Packet) { p.received(c, pkt) })
	if cause := context.Cause(running); err == nil && ctx.Err() == nil {
		err = cause
	}
	return err
}

// watchAddress cancels when the group's packets would have to come from another
// address.
func (p *path) watchAddress(ctx context.Context, c *wire.Conn, cancel context.CancelCauseFunc) {
	for sleep(ctx, addressInterval) {
		cfg, err := p.ends()
		if err == nil && cfg.Local != c.Local() {
			err = fmt.Errorf("%s sends from %v now", p.route.group, cfg.Local)
		}
		if err != nil {
			cancel(err)
			return
		}
	}
}

// noteSend keeps the last error of sending for the status.
func (p *path) noteSend(err error) {
	if err != nil {
		p.sendErr.Store(ptr(err))
	} else if p.sendErr.Load() != nil {
		p.sendErr.Store(nil)
	}
}

// received is called for every packet that went the path's way.
func (p *path) received(c *wire.Conn, pkt wire.Packet) {
	var in *instance
	if len(pkt.Payload) > vridOffset {
		in = p.route.find(pkt.Payload[vridOffset])
	}
	if in != nil {
		in.receive(p, c, pkt)
		return
	}
	p.foreign.Add(1)
	if _, ok := vrrp.ParseProbe(auth.Strip(pkt.Payload)); ok {
		return // whoever asked for it listens by a socket of its own
	}
	_, _, err := vrrp.Parse(auth.Strip(pkt.Payload), pkt.Source, pkt.Destination)
	var reason vrrp.DropReason
	if !errors.As(err, &reason) {
		c.Count(vrrp.DropUnknownVRID) // somebody else's business
		return
	}
	c.Count(reason)
	p.route.heartbeat.tellDrop("", pkt.Source, reason)
}

func (p *path) noteHeard(now mono.Instant) { p.heard.Store(int64(now)) }

// silent are the reasons that a socket finds by itself.
var silent = []vrrp.DropReason{vrrp.DropLength, vrrp.DropTTL, vrrp.DropSource, vrrp.DropOwn, vrrp.DropOverflow}

// tellSilentDrops tells of what the socket dropped by itself since the last call.
func (p *path) tellSilentDrops() {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.conn.Load()
	if c == nil {
		return
	}
	for _, reason := range silent {
		n := p.past[reason] + c.Dropped(reason)
		if n > p.told[reason] {
			p.route.heartbeat.told.tell(tale{doing: "drop advertisements", reason: reason}, whence{path: p}, int(n-p.told[reason]))
		}
		p.told[reason] = n
	}
}

// dropped returns the counts of the path by the names of the reasons.
func (p *path) dropped() map[string]uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	counts := map[string]uint64{}
	c := p.conn.Load()
	for _, reason := range vrrp.DropReasons() {
		n := p.past[reason]
		if c != nil {
			n += c.Dropped(reason)
		}
		counts[reason.String()] = n
	}
	for _, reason := range auth.Reasons() {
		counts[reason.String()] = p.proof[reason].Load()
	}
	return counts
}
