package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/node"
	"github.com/tanist-ha/tanist/vrrp/vip"
)

// Status makes the document of both nodes.
func (d *daemon) Status(ctx context.Context, q control.Question) (control.StatusAnswer, error) {
	doc, err := d.document(ctx, extent{look: (*survey).latest, only: q.Instance, peers: true, verdict: q.Alone})
	if err != nil {
		return control.StatusAnswer{}, err
	}
	answer, err := d.both(doc, q)
	if q.Instance != "" {
		answer.Only(q.Instance)
	}
	return answer, err
}

// extent is how much a document is to say.
type extent struct {
	look  func(*survey, context.Context) sighting // at units and labels
	only  string                                  // an instance; empty: all
	peers bool                                    // what the peer said of each, too
	// verdict says that somebody decides by whether the address is here.
	verdict bool
}

// of returns the services that a document is about.
func (x extent) of(services []*service) []*service {
	if x.only == "" {
		return services
	}
	i := slices.IndexFunc(services, func(s *service) bool { return s.cfg.Name == x.only })
	if i < 0 {
		return nil
	}
	return services[i : i+1]
}

// document makes it. It waits for nothing that can hang: see lastknown.go.
func (d *daemon) document(ctx context.Context, x extent) (control.Document, error) {
	doc := control.Document{
		Node: d.nodes[d.self].Label, Version: version, Instances: []control.Instance{},
		Peer: control.Peer{Label: d.nodes[1-d.self].Label, Paths: d.paths(), Instances: []control.PeerInstance{}},
	}
	advertisements := d.heartbeat.Status()
	doc.Heartbeat, doc.Journal = heartbeatPaths(advertisements), journalDocument(d.node.Journal())
	all, reloaded := d.now()
	services := x.of(all)
	doc.Reload, doc.Host, doc.Peer.Authenticated = reloaded, d.hostNow(), d.link.Authenticated()
	began := time.Now()
	patience, cancel := context.WithTimeout(ctx, loopPatience)
	defer cancel()
	looked := sightings(patience, services, x.look)
	known, err := d.recollect(patience, services)
	if err != nil {
		return doc, err
	}
	seen := looked()
	forKernel := kernelPatience + max(0, loopPatience-time.Since(began))
	if x.verdict {
		forKernel = verdictPatience
	}
	asking, cancel := context.WithTimeout(ctx, forKernel)
	defer cancel()
	onInterface := map[string]addressesOf{} // each is asked once, and after the states
	for _, s := range services {
		r, ok := known[s.cfg.Name]
		if !ok {
			continue
		}
		held, asked := onInterface[s.cfg.Interface]
		if !asked {
			held = d.eye.addresses(asking, s.cfg.Interface)
			onInterface[s.cfg.Interface] = held
		}
		in := control.NewInstance(r.date(), *r.status, control.Extra{
			VIPs: s.cfg.VIPs, Interface: s.cfg.Interface, Held: held.has,
			Units: seen[s].units, Labels: wanted(seen[s].labels, r.status.Labels, r.status.State), Drift: s.databases.problems(),
			Heartbeat: instanceHeartbeat(advertisements.Of(s.cfg.Name)), Sampled: s.prober.Last,
		})
		held.doubt(in.VIPs)
		in.UnitsAgeMS, in.LabelsAgeMS = olderThan(began, seen[s].unitsAt), olderThan(began, seen[s].labelsAt)
		if !r.fresh {
			d.outdated(&in, s, r)
		}
		doc.Instances = append(doc.Instances, in)
		doc.Epoch = max(doc.Epoch, uint64(r.status.Epoch))
		doc.Peer.Reachable = doc.Peer.Reachable || r.status.PeerFresh && r.fresh
		if r.status.PeerKnown && x.peers {
			doc.Peer.Instances = append(doc.Peer.Instances, r.peer())
		}
	}
	d.sayStale(&doc)
	return doc, nil
}

func journalDocument(h node.JournalHealth) *control.Journal {
	j := &control.Journal{Writable: h.Err == nil, ForSeconds: h.Since.Seconds(), Refused: h.Refused, Awaiting: h.Awaiting}
	if h.Err != nil {
		j.Error = h.Err.Error()
	}
	return j
}

// heldAddresses asks the kernel what an interface has, whoever put it there. It
// uses no socket of the loop's: a status must not hold up a renewal.
func heldAddresses(name string) []netip.Addr {
	prefixes, err := vip.AddressesOf(name)
	if err != nil {
		return nil // no such interface, so no address
	}
	held := make([]netip.Addr, len(prefixes))
	for i, p := range prefixes {
		held[i] = p.Addr()
	}
	return held
}

func (d *daemon) paths() []control.Path {
	paths := []control.Path{}
	now := bootClock()
	for _, p := range d.link.Paths() {
		path := control.Path{Address: p.Peer.String()}
		proofOf(&path, p)
		if p.Heard != 0 {
			silent := now.Sub(p.Heard)
			ms := silent.Milliseconds()
			path.LastHeardMS, path.Heard = &ms, silent < failover.LinkPatience
		}
		// A connection to a host that has fallen silent proves nothing any more.
		if hears := p.Connected; path.Heard || !hears {
			path.HearsUs = &hears
		}
		paths = append(paths, path)
	}
	return paths
}

// watchInterval is how often a watched switchover looks for steps that ended.
const watchInterval = 50 * time.Millisecond

// Switchover carries out an operator's command and tells of each step, on either
// node, as it begins and ends.
func (d *daemon) Switchover(ctx context.Context, r control.SwitchoverRequest, news func(control.Line)) error {
	name, err := d.instanceName(r.Instance)
	if err != nil {
		return err
	}
	if r.To != "" && r.To != d.nodes[0].Label && r.To != d.nodes[1].Label {
		return fmt.Errorf("no node is called %q: the nodes are %s and %s", r.To, d.nodes[0].Label, d.nodes[1].Label)
	}
	type result struct {
		answer node.Answer
		err    error
	}
	before, err := d.node.Status(ctx, name)
	if err != nil {
		return err
	}
	w := newWatcher(before, news)
	over := make(chan result, 1)
	// A command outlives its watcher: an operator who goes away leaves a
	// switchover that ends in order.
	go func() {
		a, err := d.node.Switchover(context.WithoutCancel(ctx), name, failover.Request{
			To: r.To, DryRun: r.DryRun, Force: r.Force, Reason: r.Reason, UID: r.UID,
			Timeout: time.Duration(r.TimeoutMS) * time.Millisecond,
		})
		over <- result{a, err}
	}()
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		var res *result
		select {
		case <-ctx.Done():
			return ctx.Err()
		case got := <-over:
			res = &got
		case <-tick.C:
		}
		if st, err := d.node.Status(ctx, name); err == nil {
			w.look(st)
		}
		if res != nil {
			if res.err != nil {
				return res.err
			}
			news(lastLine(res.answer))
			return nil
		}
	}
}

func (d *daemon) instanceName(name string) (string, error) {
	names := d.node.Names()
	if name == "" {
		if len(names) == 1 {
			return names[0], nil
		}
		return "", fmt.Errorf("there are %d instances: name one", len(names))
	}
	for _, n := range names {
		if n == name {
			return n, nil
		}
	}
	return "", fmt.Errorf("no instance is called %q", name)
}

func lastLine(a node.Answer) control.Line {
	l := control.Line{Outcome: &control.Outcome{
		Result: a.Outcome.String(), Reason: a.Why.Reason.String(), Detail: a.Why.Detail,
	}}
	for _, g := range a.Why.Gate {
		l.Reasons = append(l.Reasons, control.GateReason{Code: g.Code, Database: g.Database, Detail: g.Detail})
	}
	return l
}
