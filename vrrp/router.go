// Package vrrp is one VRRP virtual router (RFC 9568, version 3, and RFC 3768,
// version 2) without a clock, a socket or an address: events and instants go
// in, effects come out.
//
// It differs from RFC 9568 in one place. When the Active_Down_Timer fires in
// Backup the router does not become Active: it emits ActiveDown and waits for
// its owner to answer with Claim, because Tanist asks a gate before it takes
// over a service.
package vrrp

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/tanist-ha/tanist/internal/mono"
)

// OwnerPriority is the priority of the router that owns the addresses (RFC
// 9568 §5.2.4). Such a router offers to become Active at Startup.
const OwnerPriority = 255

// State is the state of a virtual router (RFC 9568 §6.4).
type State uint8

// The three states of RFC 9568 §6.4.
const (
	Initialize State = iota
	Backup
	Active
)

// String returns the RFC's word for s.
func (s State) String() string {
	switch s {
	case Initialize:
		return "Initialize"
	case Backup:
		return "Backup"
	case Active:
		return "Active"
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// Config describes one virtual router (RFC 9568 §6.1).
type Config struct {
	Version  Version      // zero is Version3
	VRID     uint8        // 1..255
	Priority uint8        // 1..255, OwnerPriority included
	Interval Centiseconds // Advertisement_Interval, 1..4095; in version 2 whole seconds to 25,500
	Preempt  bool         // Preempt_Mode: take over from a weaker Active
	// Addresses are the virtual addresses, at most 255 of one family. IPv4 and
	// IPv6 may mix, and one election decides over all: advertisements carry
	// those of the first one's family, the others ride along unseen by other
	// routers. Of IPv6 addresses the link-local ones are advertised first.
	Addresses []netip.Addr
	// Local is this router's primary address, which breaks ties between equal
	// priorities, in the family of the first of Addresses. With several
	// heartbeat paths it is still one address, the same in every comparison;
	// see Received.
	Local netip.Addr
}

// Validate returns an error for the first thing in c that no router can run with.
func (c Config) Validate() error {
	if c.Priority == 0 {
		return fmt.Errorf("virtual router %d: priority 0 is reserved for a router that leaves", c.VRID)
	}
	if len(c.Addresses) > 0 && !sameFamily(c.Local, c.Addresses[0]) {
		return fmt.Errorf("virtual router %d: local address %v is not of the family of %v, the first address", c.VRID, c.Local, c.Addresses[0])
	}
	for i, a := range c.Addresses {
		if family(a) == 0 || a.Zone() != "" {
			return fmt.Errorf("virtual router %d: address %v is neither IPv4 nor IPv6 without a zone", c.VRID, a)
		}
		if slices.Contains(c.Addresses[:i], a) {
			return fmt.Errorf("virtual router %d: address %v is listed twice", c.VRID, a)
		}
	}
	if err := c.advertisement().validate(); err != nil {
		return fmt.Errorf("virtual router %d: %w", c.VRID, err)
	}
	return nil
}

func (c Config) advertisement() Advertisement {
	return Advertisement{
		Version:           c.Version.known(),
		VRID:              c.VRID,
		Priority:          c.Priority,
		MaxAdvertInterval: c.Interval,
		Addresses:         c.Carried(),
	}
}

// Carried returns those of the addresses that advertisements carry, in their
// order: of the first one's family, IPv6 link-local ones before the others (RFC
// 9568 §5.2.9). The caller must not change the result.
func (c Config) Carried() []netip.Addr {
	if c.carriesAll() {
		return c.Addresses
	}
	var first, rest []netip.Addr
	for _, a := range c.Addresses {
		switch {
		case !sameFamily(a, c.Addresses[0]):
		case a.Is6() && a.IsLinkLocalUnicast():
			first = append(first, a)
		default:
			rest = append(rest, a)
		}
	}
	return append(first, rest...)
}

// carriesAll reports whether Carried would be the addresses as they stand.
func (c Config) carriesAll() bool {
	for i, a := range c.Addresses {
		if !sameFamily(a, c.Addresses[0]) || i > 0 && a.Is6() && a.IsLinkLocalUnicast() {
			return false
		}
	}
	return true
}

// Check returns why a, which Parse accepted, is none for this virtual router,
// and 0 when it is one.
func (c Config) Check(a Advertisement) DropReason {
	switch {
	case a.VRID != c.VRID:
		return DropUnknownVRID
	case a.Version.known() != c.Version.known():
		return DropVersion
	case c.Version.checkInterval(a.MaxAdvertInterval) != nil:
		return DropInterval
	case len(a.Addresses) > 0 && !sameFamily(a.Addresses[0], c.Local):
		return DropFamily
	}
	return 0
}

// Router is the state machine of one virtual router on one host. It is not
// safe for concurrent use.
type Router struct {
	cfg                 Config // Addresses are the carried ones
	state               State
	activeAdverInterval time.Duration // learnt from the Active
	mismatch            Mismatch      // of the advertisement heard last

	// timer is the Active_Down_Timer in Backup and the Adver_Timer in Active;
	// armed is false when neither runs.
	timer mono.Instant
	armed bool

	// weakerUntil is when the last discarded weaker Active counts as gone.
	weakerUntil mono.Instant
}

// New returns a router in Initialize, or an error if cfg is not valid.
func New(cfg Config) (*Router, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.Addresses = slices.Clone(cfg.Carried())
	return &Router{cfg: cfg, activeAdverInterval: cfg.Interval.Duration()}, nil
}

// State returns the current state.
func (r *Router) State() State { return r.state }

// Priority returns the configured priority.
func (r *Router) Priority() uint8 { return r.cfg.Priority }

// VRID returns the virtual router's identifier.
func (r *Router) VRID() uint8 { return r.cfg.VRID }

// ActiveAdverInterval returns the advertisement interval of the Active: the
// router's own until another is learnt (RFC 9568 §6.1).
func (r *Router) ActiveAdverInterval() time.Duration { return r.activeAdverInterval }

// SkewTime returns the current Skew_Time (RFC 9568 §6.1).
func (r *Router) SkewTime() time.Duration {
	return r.cfg.Version.SkewTime(r.cfg.Priority, r.activeAdverInterval)
}

// ActiveDownInterval returns the current Active_Down_Interval (RFC 9568 §6.1).
func (r *Router) ActiveDownInterval() time.Duration {
	return r.cfg.Version.ActiveDownInterval(r.cfg.Priority, r.activeAdverInterval)
}

// Mismatch returns in what the advertisement heard last, of another router, did
// not fit to this one's configuration; empty before the first.
func (r *Router) Mismatch() Mismatch { return r.mismatch }

// Advertisement returns what this router says while it is Active. The caller
// must not change Addresses.
func (r *Router) Advertisement() Advertisement { return r.cfg.advertisement() }

// Weaker reports whether an Active that received ev would stay Active: the
// sender has the lower priority, or the same and a lower address (RFC 9568
// §6.4.3).
func (r *Router) Weaker(ev Received) bool {
	p := ev.Advertisement.Priority
	return p < r.cfg.Priority || p == r.cfg.Priority && !r.cfg.Local.Less(ev.Source)
}

// Deadline returns when Step wants a Tick, and false when no timer runs. The
// Adver_Timer always runs in Active.
func (r *Router) Deadline() (mono.Instant, bool) { return r.timer, r.armed }

// Step handles ev at now and appends to out what the owner has to do, in
// order. An event that means nothing in the current state changes nothing.
func (r *Router) Step(now mono.Instant, ev Event, out []Effect) []Effect {
	switch r.state {
	case Initialize:
		return r.stepInitialize(now, ev, out)
	case Backup:
		return r.stepBackup(now, ev, out)
	case Active:
		return r.stepActive(now, ev, out)
	}
	return out
}

// stepInitialize is RFC 9568 §6.4.1.
func (r *Router) stepInitialize(now mono.Instant, ev Event, out []Effect) []Effect {
	if _, ok := ev.(Startup); !ok {
		return out
	}
	out = r.becomeBackup(now, r.cfg.Interval.Duration(), ReasonStartup, out)
	if r.cfg.Priority == OwnerPriority {
		r.armed = false
		out = append(out, ActiveDown{})
	}
	return out
}

// stepBackup is RFC 9568 §6.4.2, with Claim in the place of the timer.
func (r *Router) stepBackup(now mono.Instant, ev Event, out []Effect) []Effect {
	switch ev := ev.(type) {
	case Shutdown:
		return r.becomeInitialize(out)
	case Tick:
		if r.due(now) {
			return r.activeDown(now, out)
		}
	case Claim:
		return r.becomeActive(now, out)
	case Received:
		if r.concerns(ev.Advertisement) {
			return r.hearInBackup(now, ev, out)
		}
	case Startup, Yield:
	}
	return out
}

// stepActive is RFC 9568 §6.4.3.
func (r *Router) stepActive(now mono.Instant, ev Event, out []Effect) []Effect {
	switch ev := ev.(type) {
	case Shutdown:
		out = r.becomeInitialize(out)
		leaving := r.Advertisement()
		leaving.Priority = 0
		return append(out, Send{Advertisement: leaving})
	case Yield:
		return r.becomeBackup(now, r.cfg.Interval.Duration(), ReasonYielded, out)
	case Tick:
		if r.due(now) {
			return r.advertise(now, out)
		}
	case Received:
		if r.concerns(ev.Advertisement) {
			return r.hearInActive(now, ev, out)
		}
	case Startup, Claim:
	}
	return out
}

// concerns also keeps out what Parse would have dropped: an interval of 0
// would let the timer fire for ever.
func (r *Router) concerns(a Advertisement) bool { return r.cfg.Check(a) == 0 }

func (r *Router) due(now mono.Instant) bool { return r.armed && !now.Before(r.timer) }

// activeDown offers the role to the owner. A weaker Active that is still alive
// stays on watch: its death has to be noticed even when the owner declines the
// offer, so the timer runs on until that Active counts as gone.
func (r *Router) activeDown(now mono.Instant, out []Effect) []Effect {
	preempting := now.Before(r.weakerUntil)
	r.timer, r.armed = r.weakerUntil, preempting
	return append(out, ActiveDown{Preempting: preempting})
}

func (r *Router) hearInBackup(now mono.Instant, ev Received, out []Effect) []Effect {
	adv := ev.Advertisement
	heard := Heard{Priority: adv.Priority, Source: ev.Source}
	r.compare(ev)
	switch {
	case adv.Priority == 0:
		r.weakerUntil = 0
		r.arm(now, r.SkewTime())
		return out
	case r.cfg.Preempt && adv.Priority < r.cfg.Priority:
		heard.Weaker = true
		r.weakerUntil = now.Add(r.cfg.Version.ActiveDownInterval(r.cfg.Priority, adv.MaxAdvertInterval.Duration()))
		if !r.armed {
			r.timer, r.armed = r.weakerUntil, true
		}
	default:
		r.weakerUntil = 0
		r.activeAdverInterval = adv.MaxAdvertInterval.Duration()
		r.arm(now, r.ActiveDownInterval())
	}
	return append(out, heard)
}

// compare keeps what does not fit. Our own packet always would but for the owner.
func (r *Router) compare(ev Received) {
	if ev.Source != r.cfg.Local {
		r.mismatch = r.cfg.Compare(ev.Advertisement)
	}
}

func (r *Router) hearInActive(now mono.Instant, ev Received, out []Effect) []Effect {
	adv := ev.Advertisement
	r.compare(ev)
	switch {
	case ev.Source == r.cfg.Local:
		// Our own packet came back, or the peer has our address. Answering it
		// would be answered in turn, without end.
		return out
	case adv.Priority == 0:
		return r.advertise(now, out)
	case adv.Priority > r.cfg.Priority:
		return r.becomeBackup(now, adv.MaxAdvertInterval.Duration(), ReasonHigherPriority, out)
	case !r.Weaker(ev):
		return r.becomeBackup(now, adv.MaxAdvertInterval.Duration(), ReasonHigherAddress, out)
	}
	return append(out, Send{Advertisement: r.Advertisement()}, WeakerHeard{Priority: adv.Priority, Source: ev.Source})
}

func (r *Router) becomeInitialize(out []Effect) []Effect {
	from := r.state
	r.state, r.armed = Initialize, false
	return append(out, Transition{From: from, To: Initialize, Reason: ReasonShutdown})
}

func (r *Router) becomeBackup(now mono.Instant, interval time.Duration, why Reason, out []Effect) []Effect {
	from := r.state
	r.state = Backup
	r.activeAdverInterval = interval
	r.weakerUntil = 0
	r.arm(now, r.ActiveDownInterval())
	return append(out, Transition{From: from, To: Backup, Reason: why})
}

func (r *Router) becomeActive(now mono.Instant, out []Effect) []Effect {
	r.state = Active
	out = r.advertise(now, out)
	return append(out, Transition{From: Backup, To: Active, Reason: ReasonClaimed})
}

// advertise sends, and arms the Adver_Timer for the next multiple of the interval
// on the clock: the routers of a host that have one interval then have one wake-up.
// An interval is so never longer than Advertisement_Interval, the first one after a
// claim can be shorter, and a late timer sends no burst.
func (r *Router) advertise(now mono.Instant, out []Effect) []Effect {
	interval := r.cfg.Interval.Duration()
	r.arm(now, interval-now.Sub(0)%interval)
	return append(out, Send{Advertisement: r.Advertisement()})
}

func (r *Router) arm(now mono.Instant, d time.Duration) { r.timer, r.armed = now.Add(d), true }
