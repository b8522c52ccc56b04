package wire

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/vrrp"
	"github.com/tanist-ha/tanist/vrrp/internal/netnstest"
	"github.com/tanist-ha/tanist/vrrp/vip"
)

// holder is what a speaker needs of vip.Holder.
type holder interface {
	Hold(lease time.Duration) error
	Release() error
	Close() error
}

const (
	speakerLease = 2 * time.Second
	speakerRenew = 300 * time.Millisecond
	// speakerQueue bounds what waits for the loop; a full queue drops, as a
	// full socket does.
	speakerQueue = 256
)

// speaker is a virtual router on real parts: Router, Conn and Holder. It
// answers every offer with Claim.
type speaker struct {
	t      *testing.T
	router *vrrp.Router
	conn   *Conn
	holder holder
	form   vrrp.ChecksumForm
	start  time.Time
	queue  chan vrrp.Received
	orders chan vrrp.Event

	state    atomic.Uint32
	stop     context.CancelFunc
	done     sync.WaitGroup
	mu       sync.Mutex
	reasons  []vrrp.Reason // of transitions
	goodbyes int           // priority 0 heard
}

func speak(t *testing.T, ns *netnstest.Namespace, path Config, cfg vrrp.Config, prefixes []netip.Prefix, form vrrp.ChecksumForm) *speaker {
	t.Helper()
	router, err := vrrp.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := &speaker{
		t: t, router: router, conn: open(t, ns, path), holder: hold(t, ns, prefixes), form: form,
		start: time.Now(), queue: make(chan vrrp.Received, speakerQueue), orders: make(chan vrrp.Event),
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	s.done.Go(func() {
		if err := s.conn.Run(ctx, s.received); err != nil {
			t.Errorf("receive: %v", err)
		}
	})
	s.done.Go(func() { s.loop(ctx) })
	t.Cleanup(s.crash)
	s.orders <- vrrp.Startup{}
	return s
}

func (s *speaker) received(p Packet) {
	adv, _, err := vrrp.Parse(p.Payload, p.Source, p.Destination)
	if err != nil {
		s.t.Errorf("keepalived sent %x: %v", p.Payload, err)
		return
	}
	select {
	case s.queue <- vrrp.Received{Advertisement: adv, Source: p.Source}:
	default:
		s.conn.Count(vrrp.DropOverflow)
	}
}

func (s *speaker) now() mono.Instant { return mono.Instant(time.Since(s.start)) }

func (s *speaker) loop(ctx context.Context) {
	renew := time.NewTicker(speakerRenew)
	defer renew.Stop()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if deadline, armed := s.router.Deadline(); armed {
			timer.Reset(deadline.Sub(s.now()))
		} else {
			timer.Reset(time.Hour)
		}
		select {
		case <-ctx.Done():
			return
		case ev := <-s.orders:
			s.step(ev)
		case ev := <-s.queue:
			s.step(ev)
		case <-timer.C:
			s.step(vrrp.Tick{})
		case <-renew.C:
			if s.router.State() == vrrp.Active {
				s.check(s.holder.Hold(speakerLease))
			}
		}
	}
}

func (s *speaker) step(ev vrrp.Event) {
	if ev, ok := ev.(vrrp.Received); ok && ev.Advertisement.Priority == 0 {
		s.mu.Lock()
		s.goodbyes++
		s.mu.Unlock()
	}
	for _, eff := range s.router.Step(s.now(), ev, nil) {
		switch eff := eff.(type) {
		case vrrp.Send:
			b, err := eff.Advertisement.AppendTo(nil, s.conn.Local(), s.conn.Peer(), s.form)
			if err == nil {
				err = s.conn.Send(b)
			}
			s.check(err)
		case vrrp.Transition:
			s.moved(eff)
		case vrrp.ActiveDown:
			s.claim()
		case vrrp.Heard, vrrp.WeakerHeard:
		}
	}
}

// claim looks first for an advertisement that has already arrived.
func (s *speaker) claim() {
	s.conn.Drain()
	for {
		select {
		case ev := <-s.queue:
			s.step(ev)
			continue
		default:
		}
		if s.router.State() == vrrp.Backup {
			s.step(vrrp.Claim{})
		}
		return
	}
}

func (s *speaker) moved(tr vrrp.Transition) {
	if tr.To == vrrp.Active {
		s.check(s.holder.Hold(speakerLease))
	} else if tr.From == vrrp.Active {
		s.check(s.holder.Release())
	}
	s.mu.Lock()
	s.reasons = append(s.reasons, tr.Reason)
	s.mu.Unlock()
	s.state.Store(uint32(tr.To))
}

func (s *speaker) check(err error) {
	if err != nil {
		s.t.Errorf("%v", err)
	}
}

func (s *speaker) is(state vrrp.State) bool { return s.state.Load() == uint32(state) }

func (s *speaker) heardGoodbyes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.goodbyes
}

func (s *speaker) last() vrrp.Reason {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reasons[len(s.reasons)-1]
}

// leave says goodbye.
func (s *speaker) leave() {
	s.orders <- vrrp.Shutdown{}
	s.crash()
}

// crash falls silent. The address goes as it goes with a lease that ran out.
func (s *speaker) crash() {
	if s.stop == nil {
		return
	}
	s.stop()
	s.done.Wait()
	s.stop = nil
	s.check(errors.Join(s.holder.Release(), s.holder.Close(), s.conn.Close()))
}

// hold opens a vip.Holder, and where that does not hold IPv6 a plain one.
func hold(t *testing.T, ns *netnstest.Namespace, prefixes []netip.Prefix) (h holder) {
	t.Helper()
	if !prefixes[0].Addr().Is4() {
		return &plainHolder{ns: ns, link: ns.Link(t, heart), prefixes: prefixes}
	}
	err := ns.Do(func() (err error) {
		h, err = vip.Open(vip.Config{Interface: heart, Addresses: prefixes})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

type plainHolder struct {
	ns       *netnstest.Namespace
	link     netlink.Link
	prefixes []netip.Prefix
}

func (h *plainHolder) Hold(lease time.Duration) error {
	return h.each(func(a *netlink.Addr) error {
		a.ValidLft, a.PreferedLft, a.Flags = int(lease/time.Second), int(lease/time.Second), unix.IFA_F_NODAD
		return h.ns.AddrReplace(h.link, a)
	})
}

func (h *plainHolder) Release() error {
	return h.each(func(a *netlink.Addr) error {
		if err := h.ns.AddrDel(h.link, a); !errors.Is(err, unix.EADDRNOTAVAIL) {
			return err
		}
		return nil
	})
}

func (h *plainHolder) Close() error { return nil }

func (h *plainHolder) each(do func(*netlink.Addr) error) error {
	var errs []error
	for _, p := range h.prefixes {
		errs = append(errs, do(&netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}))
	}
	return errors.Join(errs...)
}
