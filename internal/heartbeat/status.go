package heartbeat

import (
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/vrrp"
	"github.com/tanist-ha/tanist/vrrp/auth"
)

// Status is how the heartbeat does, as of now.
type Status struct {
	Paths     []PathStatus
	Instances []InstanceStatus // by name
}

// PathStatus is one path.
type PathStatus struct {
	Interface   string     // of a group; empty on an address pair
	Local, Peer netip.Addr // on a group, Local is invalid until it was up once
	Up          bool       // the socket is open
	Err         error      // why it is not, or why nothing can be sent; nil
	Heard       bool       // ever
	Silent      time.Duration
	// Sieved says that the kernel keeps a flood out. Of what the cluster key cannot have
	// sealed one packet of wire.SampleOf comes in meanwhile, and is counted as one.
	Sieved  bool
	Dropped map[string]uint64 // every vrrp.DropReason and auth.Reason, also at 0
}

// InstanceStatus is one instance.
type InstanceStatus struct {
	Name  string
	Group string // interface of the VRRP group; empty for unicast
	Auth  auth.Mode
	// Checksum is the form that this node sends.
	Checksum vrrp.ChecksumForm
	// Heard says that an advertisement was ever accepted; what follows is about
	// the last one.
	Heard         bool
	Silent        time.Duration
	Proved        bool
	Doubt         auth.Reason // why it was not proved; 0 in mode None
	SecondKey     bool        // the peer does not sign with this node's first key
	PeerChecksum  vrrp.ChecksumForm
	Mismatch      vrrp.Mismatch
	Dropped       Drops  // as of a path, without what only paths know
	AcceptedDoubt Doubts // accepted without proof in mode Permissive
}

// Drops counts what was dropped, by reason.
type Drops struct {
	packets [vrrp.DropOverflow + 1]uint64
	doubts  Doubts
}

// Doubts counts what was not proved, by reason.
type Doubts [auth.ReasonPaths + 1]uint64

// All yields every vrrp.DropReason and auth.Reason, also at 0.
func (d *Drops) All() iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		for _, reason := range vrrp.DropReasons() {
			if !yield(reason.String(), d.packets[reason]) {
				return
			}
		}
		d.doubts.All()(yield)
	}
}

// ByName returns All as a map.
func (d *Drops) ByName() map[string]uint64 { return maps.Collect(d.All()) }

// All yields every auth.Reason, also at 0.
func (d *Doubts) All() iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		for _, reason := range auth.Reasons() {
			if !yield(reason.String(), d[reason]) {
				return
			}
		}
	}
}

// Of returns the status of an instance, nil where there is none of the name.
func (s *Status) Of(name string) *InstanceStatus {
	i, found := slices.BinarySearchFunc(s.Instances, name, func(in InstanceStatus, name string) int { return strings.Compare(in.Name, name) })
	if !found {
		return nil
	}
	return &s.Instances[i]
}

// Status takes a snapshot.
func (h *Heartbeat) Status() Status {
	now := h.cfg.Clock()
	var s Status
	for _, p := range h.paths() {
		s.Paths = append(s.Paths, p.status(now))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s.Instances = make([]InstanceStatus, 0, len(h.byName))
	for _, in := range h.byName {
		s.Instances = append(s.Instances, in.status(now))
	}
	slices.SortFunc(s.Instances, func(a, b InstanceStatus) int { return strings.Compare(a.Name, b.Name) })
	return s
}

func (p *path) status(now mono.Instant) PathStatus {
	s := PathStatus{Interface: p.route.group, Local: p.local, Peer: p.peer, Sieved: p.sieved.Load(), Dropped: p.dropped()}
	if at := mono.Instant(p.heard.Load()); at != 0 {
		s.Heard, s.Silent = true, now.Sub(at)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Up, s.Err = p.conn.Load() != nil, p.err
	if s.Err == nil {
		if err := p.sendErr.Load(); err != nil {
			s.Err = *err
		}
	}
	if p.route.group != "" {
		s.Local, s.Peer = p.opened, vrrp.Group(p.route.familyOf())
	}
	return s
}

// familyOf returns some address of the route's family.
func (r *Route) familyOf() netip.Addr {
	if r.ipv6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

func (in *instance) status(now mono.Instant) InstanceStatus {
	in.mu.Lock()
	defer in.mu.Unlock()
	s := InstanceStatus{
		Name: in.name, Group: in.cfg.Group, Auth: in.cfg.Auth, Checksum: in.form,
		Dropped: Drops{in.drops, in.refused}, AcceptedDoubt: in.accepted,
	}
	if in.heard != 0 {
		s.Heard, s.Silent = true, now.Sub(in.heard)
		s.Proved, s.Doubt, s.SecondKey = in.last.proved, in.last.doubt, in.last.secondKey
		s.PeerChecksum, s.Mismatch = in.last.form, in.last.mismatch
	}
	if in.cfg.Router.Version == vrrp.Version2 || !in.cfg.Router.Addresses[0].Is4() {
		s.Checksum, s.PeerChecksum = vrrp.ChecksumRFC, vrrp.ChecksumRFC // there is one form
	}
	return s
}
