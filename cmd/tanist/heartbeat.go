package main

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/node"
	"github.com/tanist-ha/tanist/vrrp"
	"github.com/tanist-ha/tanist/vrrp/wire"
)

// pathRetry is how often a path whose local address is missing is tried again.
const pathRetry = time.Second

// heartbeat carries the advertisements of every instance over every path.
type heartbeat struct {
	paths  []*path
	peer   netip.Addr // primary address of the peer, whatever the path
	routes routes
	log    node.Log
	// deliver takes an advertisement for an instance.
	deliver func(instance string, ev failover.Advertised)
}

// checksum is the form that an instance sends. Left to itself it is the RFC's
// until the peer is heard with the other one, which some peers insist on.
type checksum struct {
	auto bool
	form atomic.Uint32 // a vrrp.ChecksumForm
}

func newChecksum(c config.Checksum) *checksum {
	s := &checksum{auto: c == config.ChecksumAuto}
	if c == config.ChecksumKeepalived {
		s.form.Store(uint32(vrrp.ChecksumPseudoHeader))
	}
	return s
}

// path is one pair of addresses. Its socket can be missing for a while.
type path struct {
	cfg  wire.Config
	conn atomic.Pointer[wire.Conn]
}

func newHeartbeat(local, peer []netip.Addr, log node.Log) *heartbeat {
	h := &heartbeat{peer: peer[0], log: log, routes: routes{byVRID: map[uint8]route{}}}
	for i := range local {
		h.paths = append(h.paths, &path{cfg: wire.Config{Local: local[i], Peer: peer[i]}})
	}
	return h
}

var errNoPath = errors.New("no heartbeat path is open")

// Send sends over every path that is up. It fails only if none took it.
func (h *heartbeat) Send(s failover.Send) error {
	a := s.Advertisement
	var errs []error
	sent := false
	var buf [2048]byte
	form := vrrp.ChecksumRFC
	if c := h.routes.of(a.VRID).checksum; c != nil {
		form = vrrp.ChecksumForm(c.form.Load())
	}
	for _, p := range h.paths {
		c := p.conn.Load()
		if c == nil {
			continue
		}
		b, err := a.AppendTo(buf[:0], p.cfg.Local, p.cfg.Peer, form)
		if err == nil {
			err = c.Send(b)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		sent = true
	}
	switch {
	case sent:
		return nil
	case len(errs) == 0:
		return errNoPath
	}
	return errors.Join(errs...)
}

// Drain delivers everything that has arrived on any path.
func (h *heartbeat) Drain() {
	for _, p := range h.paths {
		if c := p.conn.Load(); c != nil {
			c.Drain()
		}
	}
}

// run keeps the paths open until ctx ends.
func (h *heartbeat) run(ctx context.Context) error {
	done := make(chan struct{}, len(h.paths))
	for _, p := range h.paths {
		go func() {
			h.runPath(ctx, p)
			done <- struct{}{}
		}()
	}
	for range h.paths {
		<-done
	}
	return nil
}

func (h *heartbeat) runPath(ctx context.Context, p *path) {
	said := false
	for ctx.Err() == nil {
		c, err := wire.Listen(p.cfg)
		if err != nil {
			missing := errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.ENETUNREACH)
			if !said || !missing {
				h.log.Trouble("", "open a heartbeat path, trying on", err)
				said = true
			}
			if !sleep(ctx, pathRetry) {
				return
			}
			continue
		}
		said = false
		p.conn.Store(c)
		if err := c.Run(ctx, h.received); err != nil && ctx.Err() == nil {
			h.log.Trouble("", "read a heartbeat path, opening it again", err)
		}
		p.conn.Store(nil)
		_ = c.Close()
		sleep(ctx, pathRetry)
	}
}

func (h *heartbeat) received(pkt wire.Packet) {
	a, form, err := vrrp.Parse(pkt.Payload, pkt.Source, pkt.Destination)
	if err != nil {
		h.log.Trouble("", "read an advertisement of "+pkt.Source.String(), err)
		return
	}
	to := h.routes.of(a.VRID)
	if to.name == "" {
		return
	}
	if to.checksum.auto {
		to.checksum.form.Store(uint32(form))
	}
	h.deliver(to.name, failover.Advertised{Advertisement: a, Source: h.peer})
}

// sleep waits and reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// onLink returns those of the peer's addresses that an interface's subnets reach.
func onLink(prefixes []netip.Prefix, peer []netip.Addr) []netip.Addr {
	var reached []netip.Addr
	for _, a := range peer {
		if slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Masked().Contains(a) }) {
			reached = append(reached, a)
		}
	}
	return reached
}
