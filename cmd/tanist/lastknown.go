package main

// A status is asked for when something hangs. Whatever that is, the answer comes: from
// what the daemon knew last, and it says how long ago that was.

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/node"
	"github.com/tanist-ha/tanist/replication"
)

const (
	// loopPatience is how long an answer waits for the control loop, and meanwhile for
	// units and labels; kernelPatience how long it then waits for the kernel's addresses,
	// and as much longer as the loop took less. Both together, and what it takes to write
	// and read the answer, stay below 50 ms.
	loopPatience   = 20 * time.Millisecond
	kernelPatience = 10 * time.Millisecond
	// verdictPatience is how long one waits for the kernel that decides by whether the
	// address is here: a host short of time is not to make it say that nobody knows.
	verdictPatience = time.Second
	// refreshEvery is how old the last known facts are at most when the loop begins to
	// hang, whether or not somebody asked before; refreshPatience is for a busy loop.
	refreshEvery    = time.Second
	refreshPatience = time.Second
)

// lastKnown is what the control loop told last.
type lastKnown struct {
	mu        sync.Mutex // guards the fields below
	instances map[string]lastWord
	refreshed time.Time // when all of them were last told
	counters  map[string]node.Counters
}

// lastWord is an instance as the loop told of it. The status is not changed any more.
type lastWord struct {
	status *failover.Status
	at     time.Time // the zero time: it never did
}

// recollection is what an answer says of an instance.
type recollection struct {
	lastWord
	fresh bool // the loop told of it for this answer
}

// recollect asks the loop about the instances until ctx ends, and returns what it told
// or, where it does not answer, what it told last. An instance that the node does not
// have is left out. The error is node.ErrStopped or nil.
func (d *daemon) recollect(ctx context.Context, services []*service) (map[string]recollection, error) {
	names := make([]string, len(services))
	for i, s := range services {
		names[i] = s.cfg.Name
	}
	statuses, err := d.node.Statuses(ctx, names)
	if err != nil {
		return nil, err
	}
	now, there := time.Now(), d.node.Names()
	d.known.mu.Lock()
	defer d.known.mu.Unlock()
	kept := d.known.instances
	if kept == nil {
		kept = make(map[string]lastWord, len(there))
		d.known.instances = kept
	}
	all := make(map[string]recollection, len(names))
	for _, name := range names {
		st, fresh := statuses[name]
		r, known := kept[name]
		switch {
		case fresh:
			r = lastWord{st, now}
			kept[name] = r
		case !slices.Contains(there, name):
			continue // a reload has just taken it out
		case !known:
			r.status = d.unknown(name)
		}
		all[name] = recollection{r, fresh}
	}
	if len(kept) > len(there) {
		maps.DeleteFunc(kept, func(name string, _ lastWord) bool { return !slices.Contains(there, name) })
	}
	if len(statuses) == len(there) {
		d.known.refreshed = now
	}
	return all, nil
}

// unknown is the status of an instance that the loop never told of.
func (d *daemon) unknown(name string) *failover.Status {
	return &failover.Status{
		Instance: name, Node: d.nodes[d.self].Label, Peer: d.nodes[1-d.self].Label,
		Gate: replication.Verdict{Reasons: []replication.Reason{{Code: replication.NotKnown, Detail: "the control loop has not answered since the daemon started"}}},
	}
}

// outdated says of an instance that it is told from memory. Its state is certain when
// the loop left the instance in it, is at something else, and has not hung for longer
// than the address lasts without it.
func (d *daemon) outdated(in *control.Instance, s *service, r recollection) {
	g, known := d.node.Glimpse(s.cfg.Name)
	same := known && !g.Stepping && g.State == r.status.State && g.Epoch == r.status.ActiveEpoch
	in.Outdate(r.at, time.Now(), !r.at.IsZero() && same && d.loopSilent() < s.cfg.Lease)
}

// loopSilent is how long the control loop has not ended a turn.
func (d *daemon) loopSilent() time.Duration {
	turned := d.node.Turned()
	if turned == 0 {
		return 0
	}
	return max(0, bootClock().Sub(turned))
}

// date is when an instance was told of.
func (r recollection) date() time.Time {
	if r.fresh || r.at.IsZero() {
		return time.Now()
	}
	return r.at
}

// peer is what the peer last said about the instance.
func (r recollection) peer() control.PeerInstance {
	p := control.NewPeerInstance(*r.status)
	if !r.fresh {
		p.AgeMS += time.Since(r.at).Milliseconds()
	}
	return p
}

// sayStale says for how long the loop has done nothing, if that shows.
func (d *daemon) sayStale(doc *control.Document) {
	if !slices.ContainsFunc(doc.Instances, func(in control.Instance) bool { return in.Stale }) {
		return
	}
	ms := d.loopSilent().Milliseconds()
	doc.LoopSilentMS = &ms
	for _, p := range doc.Peer.Paths { // the loop would say so, too
		doc.Peer.Reachable = doc.Peer.Reachable || p.Heard
	}
}

// olderThan returns how long before an answer was asked for something was seen, nil
// where it was seen since or never.
func olderThan(asked, seen time.Time) *int64 {
	if seen.IsZero() || !seen.Before(asked) {
		return nil
	}
	ms := time.Since(seen).Milliseconds()
	return &ms
}

// counters returns what the instances have done, as told last where the loop does not
// answer. The error is node.ErrStopped or nil.
func (d *daemon) counters(ctx context.Context) (map[string]node.Counters, error) {
	ctx, cancel := context.WithTimeout(ctx, loopPatience)
	defer cancel()
	told, err := d.node.Counters(ctx)
	d.known.mu.Lock()
	defer d.known.mu.Unlock()
	switch {
	case err == nil:
		d.known.counters = told
	case ctx.Err() == nil:
		return nil, err
	}
	return maps.Clone(d.known.counters), nil
}

// refresh keeps what is known from growing old while nobody asks, until ctx ends.
func (d *daemon) refresh(ctx context.Context) error {
	for sleep(ctx, refreshEvery) {
		d.known.mu.Lock()
		young := time.Since(d.known.refreshed) < refreshEvery/2
		d.known.mu.Unlock()
		if young {
			continue
		}
		services, _ := d.now()
		patience, cancel := context.WithTimeout(ctx, refreshPatience)
		_, err := d.recollect(patience, services)
		cancel()
		if err != nil {
			return nil //nolint:nilerr // the loop has ended, and with it what there is to know
		}
	}
	return nil
}

// sightings has the units and labels of all instances looked at while the loop is
// asked; the function returned waits for that, as long as ctx lasts.
func sightings(ctx context.Context, services []*service, look func(*survey, context.Context) sighting) func() map[*service]sighting {
	var mu sync.Mutex
	all := make(map[*service]sighting, len(services))
	var looks sync.WaitGroup
	for _, s := range services {
		if s.survey.idle() {
			continue
		}
		looks.Go(func() {
			seen := look(s.survey, ctx)
			mu.Lock()
			defer mu.Unlock()
			all[s] = seen
		})
	}
	return func() map[*service]sighting {
		looks.Wait()
		for _, s := range services {
			if s.survey.idle() {
				all[s] = s.survey.last()
			}
		}
		return all
	}
}

// kernelEye asks the kernel what addresses interfaces have. A kernel that does not
// answer keeps one goroutine for each interface, and no caller for longer than it wants.
type kernelEye struct {
	mu   sync.Mutex               // guards busy
	busy map[string]chan struct{} // by interface: one slot
	ask  func(name string) []netip.Addr
}

func newKernelEye(ask func(name string) []netip.Addr) *kernelEye {
	return &kernelEye{busy: map[string]chan struct{}{}, ask: ask}
}

// addressesOf is what the kernel says that an interface has.
type addressesOf struct {
	list  []netip.Addr
	known bool
}

func (a addressesOf) has(addr netip.Addr) bool { return slices.Contains(a.list, addr) }

// doubt says of addresses of which the kernel said nothing that it did not.
func (a addressesOf) doubt(vips []control.VIP) {
	for i := range vips {
		if !a.known {
			vips[i].Error = "the kernel did not say in time whether it is here"
		}
	}
}

// addresses returns what an interface has now, as far as the kernel says so before ctx
// ends.
func (e *kernelEye) addresses(ctx context.Context, name string) addressesOf {
	e.mu.Lock()
	slot := e.busy[name]
	if slot == nil {
		slot = make(chan struct{}, 1)
		e.busy[name] = slot
	}
	e.mu.Unlock()
	select {
	case slot <- struct{}{}:
	case <-ctx.Done():
		return addressesOf{}
	}
	answer := make(chan []netip.Addr, 1)
	go func() {
		answer <- e.ask(name)
		<-slot
	}()
	select {
	case list := <-answer:
		return addressesOf{list, true}
	case <-ctx.Done():
		return addressesOf{}
	}
}
