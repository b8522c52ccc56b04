// Package heartbeat carries the advertisements of every instance over every
// path to the peer, sealed and checked. Instances that go the same way share a
// Route: the address pairs of the two nodes, or the VRRP group on one interface.
package heartbeat

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/vrrp"
	"github.com/tanist-ha/tanist/vrrp/auth"
)

// Log takes what an operator should read. It must not block.
type Log interface {
	Trouble(instance, doing string, err error)
}

// Config is what all instances share.
type Config struct {
	// Local and Peer are the addresses of the two nodes, pair by pair, preferred
	// first. The two of a pair are of one family.
	Local, Peer []netip.Addr
	// Keys seal and open, 1 or 2; none when no instance authenticates.
	Keys []auth.Key
	// StateFile keeps the identities of both daemons' runs over a restart.
	StateFile string
	Clock     func() mono.Instant // CLOCK_BOOTTIME
	Log       Log
}

// Instance is one virtual router as the heartbeat sees it.
type Instance struct {
	Name string
	// Router is what advertisements are checked against. Its Local is
	// Heartbeat.Local.
	Router vrrp.Config
	// Group is the interface of the VRRP group; empty for unicast.
	Group string
	Auth  auth.Mode
	// Checksum is the form that is sent; both are accepted.
	Checksum vrrp.ChecksumForm
	// FollowChecksum sends the form in which the peer was heard last instead:
	// some peers accept no other.
	FollowChecksum bool
}

// Heartbeat owns the paths. Its methods are safe for concurrent use.
type Heartbeat struct {
	cfg     Config
	boot    uint64
	store   *store
	told    *teller
	buffers sync.Pool // of *[]byte, for one advertisement each
	changed chan struct{}
	deliver atomic.Pointer[func(string, failover.Advertised)]

	mu     sync.Mutex // guards the fields below
	keys   []auth.Key
	routes []*Route
	byName map[string]*instance
	past   map[auth.Instance]past
}

// past is what is known of an instance that is not there now: an earlier daemon
// had it, or it was removed.
type past struct {
	seen     auth.Seen
	sequence uint64 // of this run
}

// New reads the state file and gives this run an identity, which it keeps before
// anything is sent. What is wrong with the file, Run tells the log: a heartbeat
// without memory is a heartbeat.
func New(cfg Config) (*Heartbeat, error) {
	if len(cfg.Local) != len(cfg.Peer) {
		return nil, fmt.Errorf("pair %d with %d heartbeat addresses", len(cfg.Local), len(cfg.Peer))
	}
	for i, a := range cfg.Local {
		if !a.IsValid() || !cfg.Peer[i].IsValid() || a.Is4() != cfg.Peer[i].Is4() {
			return nil, fmt.Errorf("heartbeat addresses %v and %v are not of one family", a, cfg.Peer[i])
		}
	}
	h := &Heartbeat{
		cfg: cfg, told: newTeller(cfg.Log), changed: make(chan struct{}, 1),
		keys: cfg.Keys, byName: map[string]*instance{}, past: map[auth.Instance]past{},
	}
	h.buffers.New = func() any { return ptr(make([]byte, 0, bufferSize)) }
	h.store = openStore(cfg.StateFile, cfg.Log)
	for in, seen := range h.store.seen() {
		h.past[in] = past{seen: seen}
	}
	h.boot = h.store.nextBoot(time.Now())
	return h, nil
}

// bufferSize holds what fits into an Ethernet frame; longer advertisements grow
// their buffer.
const bufferSize = 1536

func ptr[T any](v T) *T { return &v }

// Boot is the identity of this run, as sealed advertisements carry it.
func (h *Heartbeat) Boot() uint64 { return h.boot }

// Local returns the address by which this node stands in an election, for
// vrrp.Config.Local: on the nodes' address pairs its preferred one in the family
// of the first virtual address, or no address if it has none. On a group it is
// the group's, which nobody sends from: what counts there are the addresses that
// the packets come from (RFC 9568 §6.4.3), and those are known only then.
func (h *Heartbeat) Local(group string, first netip.Addr) netip.Addr {
	if group != "" {
		return vrrp.Group(first)
	}
	for _, a := range h.cfg.Local {
		if a.Is4() == first.Is4() {
			return a
		}
	}
	return netip.Addr{}
}

// Add makes an instance part of the route that it goes. An instance that was
// removed before, or that an earlier daemon had, goes on where it ended.
func (h *Heartbeat) Add(cfg Instance) (*Route, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.byName[cfg.Name] != nil {
		return nil, fmt.Errorf("add instance %s to the heartbeat: it is there already", cfg.Name)
	}
	r, err := h.add(cfg)
	if err != nil {
		return nil, fmt.Errorf("add instance %s to the heartbeat: %w", cfg.Name, err)
	}
	return r, nil
}

func (h *Heartbeat) add(cfg Instance) (*Route, error) {
	if err := h.check(cfg); err != nil {
		return nil, err
	}
	r := h.route(cfg)
	if other := r.find(cfg.Router.VRID); other != nil {
		return nil, fmt.Errorf("instance %s has its VRID %d", other.name, cfg.Router.VRID)
	}
	id := auth.Instance{VRID: cfg.Router.VRID, Name: cfg.Name}
	in, err := newInstance(h, cfg, h.past[id])
	if err != nil {
		return nil, err
	}
	delete(h.past, id)
	h.byName[cfg.Name] = in
	in.route = r
	r.set(cfg.Router.VRID, in)
	if !slices.Contains(h.routes, r) {
		h.routes = append(h.routes, r)
		h.pathsChanged()
	}
	return r, nil
}

// check looks at what newInstance and the routes rely on.
func (h *Heartbeat) check(cfg Instance) error {
	if cfg.Name == "" {
		return errors.New("it has no name")
	}
	if err := cfg.Router.Validate(); err != nil {
		return err
	}
	if want := h.Local(cfg.Group, cfg.Router.Addresses[0]); cfg.Router.Local != want {
		return fmt.Errorf("its local address is %v, not %v", cfg.Router.Local, want)
	}
	return nil
}

// Remove takes an instance out. Nothing of it is delivered after Remove returns.
// Paths that no instance uses any more are closed.
func (h *Heartbeat) Remove(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if in := h.byName[name]; in != nil {
		h.remove(in)
		h.closeUnused(in.route)
	}
}

func (h *Heartbeat) remove(in *instance) {
	id := in.id()
	in.route.set(id.VRID, nil)
	for other := range h.past {
		if len(h.past) < maxPast {
			break
		}
		delete(h.past, other)
	}
	h.past[id] = in.end()
	delete(h.byName, in.name)
}

func (h *Heartbeat) closeUnused(unused *Route) {
	if unused.empty() {
		h.routes = slices.DeleteFunc(h.routes, func(r *Route) bool { return r == unused })
		h.pathsChanged()
	}
}

// Has reports whether there is an instance of that name.
func (h *Heartbeat) Has(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.byName[name] != nil
}

// Replace gives the instance of that name another configuration. Where its route
// stays, so do the sockets, and the Route is the same one; where its VRID stays,
// what is known of the peer does. After an error the instance is as it was.
func (h *Heartbeat) Replace(cfg Instance) (*Route, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, err := h.replace(cfg)
	if err != nil {
		return nil, fmt.Errorf("replace instance %s of the heartbeat: %w", cfg.Name, err)
	}
	return r, nil
}

func (h *Heartbeat) replace(cfg Instance) (*Route, error) {
	in := h.byName[cfg.Name]
	if in == nil {
		return nil, errors.New("there is none of that name")
	}
	if err := h.check(cfg); err != nil {
		return nil, err
	}
	r := h.route(cfg)
	if r == in.route && in.id().VRID == cfg.Router.VRID {
		defer r.refilter()
		return r, in.change(cfg, h.keys)
	}
	if other := r.find(cfg.Router.VRID); other != nil && other != in {
		return nil, fmt.Errorf("instance %s has its VRID %d", other.name, cfg.Router.VRID)
	}
	if _, err := newInstance(h, cfg, past{}); err != nil {
		return nil, err
	}
	h.remove(in)
	defer h.closeUnused(in.route)
	return h.add(cfg)
}

// SetKeys replaces the keys, at once for every instance. What is known of the
// peer stays, so a key can be changed without a gap: first both nodes accept the
// new one beside the old one, then they sign with it, then the old one goes.
func (h *Heartbeat) SetKeys(keys []auth.Key) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, in := range h.byName {
		if err := in.tryKeys(keys); err != nil {
			return fmt.Errorf("change the cluster key: %w", err)
		}
	}
	defer func() {
		for _, r := range h.routes {
			r.refilter()
		}
	}()
	for _, in := range h.byName {
		if err := in.setKeys(keys); err != nil {
			return fmt.Errorf("change the cluster key: %w", err)
		}
	}
	h.keys = slices.Clone(keys)
	return nil
}

// Confirm takes what the peer said of itself over a link that proved it present:
// its run, and the sequence number of its last advertisement; see
// auth.Verifier.Confirm. It must not be called for what came over a link that
// proves nothing. It reports whether the run changed.
func (h *Heartbeat) Confirm(name string, boot, sequence uint64) bool {
	h.mu.Lock()
	in := h.byName[name]
	h.mu.Unlock()
	if in == nil {
		return false
	}
	changed := in.confirm(boot, sequence)
	if changed {
		h.store.keepSoon()
	}
	return changed
}

// Said is what the peer is told to Confirm: this run, and the sequence number of
// the last advertisement.
func (h *Heartbeat) Said(name string) (boot, sequence uint64) {
	h.mu.Lock()
	in := h.byName[name]
	h.mu.Unlock()
	if in == nil {
		return h.boot, 0
	}
	return h.boot, in.lastSequence()
}

// Run keeps the paths open until ctx ends, and delivers what comes in over them.
// deliver must not block, nor call the heartbeat. Run is called once.
func (h *Heartbeat) Run(ctx context.Context, deliver func(instance string, ev failover.Advertised)) error {
	h.deliver.Store(&deliver)
	h.store.confess()
	defer func() { h.store.save(h.boot, h.seen()) }() // when nothing comes in any more
	var parts sync.WaitGroup
	defer parts.Wait()
	parts.Go(func() { h.keep(ctx) })
	parts.Go(func() { h.watch(ctx) })
	running := map[*path]context.CancelFunc{}
	for ctx.Err() == nil {
		wanted := h.paths()
		for p, stop := range running {
			if !slices.Contains(wanted, p) {
				stop()
				delete(running, p)
			}
		}
		for _, p := range wanted {
			if running[p] == nil {
				pathCtx, stop := context.WithCancel(ctx)
				running[p] = stop
				parts.Go(func() { p.run(pathCtx) })
			}
		}
		select {
		case <-h.changed:
		case <-ctx.Done():
		}
	}
	for _, stop := range running {
		stop()
	}
	return nil
}

// pathsChanged makes Run look.
func (h *Heartbeat) pathsChanged() {
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

func (h *Heartbeat) paths() []*path {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []*path
	for _, r := range h.routes {
		all = append(all, r.paths...)
	}
	return all
}

// virtual are the addresses that may be on an interface and are no node's.
func (h *Heartbeat) virtual() []netip.Addr {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []netip.Addr
	for _, in := range h.byName {
		all = append(all, in.addresses()...)
	}
	return all
}

// watchInterval is how often what only the kernel counts is looked at. It is some
// lookIntervals.
const watchInterval = time.Second

// watch looks for floods, and tells of drops that nobody was told of when they
// happened: those that the paths themselves make, and those behind the last line of a
// flood.
func (h *Heartbeat) watch(ctx context.Context) {
	for n := 1; sleep(ctx, lookInterval); n++ {
		due := n%int(watchInterval/lookInterval) == 0
		for _, p := range h.paths() {
			p.look(h.cfg.Clock())
			if due {
				p.tellSilentDrops()
			}
		}
		if due {
			h.told.flush()
		}
	}
}

// keepInterval is how much of the peer's run a crash of this daemon forgets: so
// much of it could be replayed to the next one.
const keepInterval = time.Minute

// keep keeps what is known of the peer, at once when its run changes and else
// now and then.
func (h *Heartbeat) keep(ctx context.Context) {
	tick := time.NewTicker(keepInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-h.store.wanted:
		}
		h.store.save(h.boot, h.seen())
	}
}

// seen is what to keep, of every instance that ever was.
func (h *Heartbeat) seen() map[auth.Instance]auth.Seen {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := map[auth.Instance]auth.Seen{}
	for id, p := range h.past {
		all[id] = p.seen
	}
	for _, in := range h.byName {
		all[in.id()] = in.known()
	}
	for id, s := range all {
		if s == (auth.Seen{}) {
			delete(all, id)
		}
	}
	return all
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
