package heartbeat

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/vrrp"
)

// Route is the paths that some instances share: what one of them sends goes over
// all of them, and a node that drains it hears all its instances.
type Route struct {
	heartbeat *Heartbeat
	group     string // interface of the group; empty on the nodes' address pairs
	ipv6      bool
	paths     []*path

	// changing is held while the table changes, or a flood begins or ends, so that
	// the filters of the sockets follow in order.
	changing sync.Mutex
	table    atomic.Pointer[table]
}

// table finds instances by VRID. It is never changed, only replaced.
type table [256]*instance

// route returns the route of an instance: the one that is there, or a new one
// that is not among h.routes yet.
func (h *Heartbeat) route(cfg Instance) *Route {
	ipv6 := !cfg.Router.Addresses[0].Is4()
	for _, r := range h.routes {
		if r.group == cfg.Group && r.ipv6 == ipv6 {
			return r
		}
	}
	r := &Route{heartbeat: h, group: cfg.Group, ipv6: ipv6}
	r.table.Store(&table{})
	if cfg.Group != "" {
		r.paths = []*path{{route: r}}
		return r
	}
	for i, local := range h.cfg.Local {
		if local.Is4() == !ipv6 {
			r.paths = append(r.paths, &path{route: r, local: local, peer: h.cfg.Peer[i]})
		}
	}
	return r
}

// Open reports whether any of the paths is open.
func (r *Route) Open() bool {
	for _, p := range r.paths {
		if p.conn.Load() != nil {
			return true
		}
	}
	return false
}

func (r *Route) find(vrid uint8) *instance { return r.table.Load()[vrid] }

func (r *Route) set(vrid uint8, in *instance) {
	r.changing.Lock()
	defer r.changing.Unlock()
	t := *r.table.Load()
	t[vrid] = in
	r.table.Store(&t)
	for _, p := range r.paths {
		p.filter()
	}
}

func (r *Route) empty() bool { return *r.table.Load() == table{} }

func (r *Route) vrids() []uint8 {
	var all []uint8
	for vrid, in := range r.table.Load() {
		if in != nil {
			all = append(all, uint8(vrid))
		}
	}
	return all
}

var (
	// ErrNoPath says that no path is open, so that nothing was sent.
	ErrNoPath = errors.New("no heartbeat path is open")
	// ErrNoInstance says that the instance was removed, or never there.
	ErrNoInstance = errors.New("no instance has this VRID")
)

// Send sends an advertisement of an instance over every path that is open,
// sealed if the instance authenticates. It fails only if none took it, and never
// blocks.
func (r *Route) Send(s failover.Send) error {
	in := r.find(s.Advertisement.VRID)
	if in == nil {
		return ErrNoInstance
	}
	buf, ok := r.heartbeat.buffers.Get().(*[]byte)
	if !ok {
		buf = new([]byte)
	}
	defer r.heartbeat.buffers.Put(buf)
	sequence := in.nextSequence()
	var errs []error
	sent := false
	for _, p := range r.paths {
		c := p.conn.Load()
		if c == nil {
			continue
		}
		b, err := in.seal((*buf)[:0], c.Local(), c.Peer(), s, sequence)
		*buf = b
		if err == nil {
			err = c.Send(b)
		}
		p.noteSend(err)
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
		return ErrNoPath
	}
	return errors.Join(errs...)
}

// Drain delivers everything that had arrived on any path before the call.
func (r *Route) Drain() {
	for _, p := range r.paths {
		if c := p.conn.Load(); c != nil {
			c.Drain()
		}
	}
}

// sender returns the address by which an advertisement's priority is compared.
// On the nodes' address pairs the peer has one, whatever the path. On a group
// the packet's is compared with the one that this node's packets come from, and
// the answer put in terms of Heartbeat.Local.
func (r *Route) sender(local, source netip.Addr) netip.Addr {
	h := r.heartbeat
	if r.group != "" {
		group := vrrp.Group(local)
		if local.Less(source) {
			return group.Next()
		}
		return group.Prev()
	}
	preferred := slices.IndexFunc(h.cfg.Local, func(a netip.Addr) bool { return a.Is4() == source.Is4() })
	return h.cfg.Peer[preferred]
}
