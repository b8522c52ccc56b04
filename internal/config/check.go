package config

// What one value cannot know about itself: how the parts of a file fit
// together. A part that was already found wrong is zero here and is skipped.

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/tanist-ha/tanist/hooks"
)

func (d *decoder) checkInstances(f *File, labels []string) {
	names, vips, sockets := map[string]int{}, map[netip.Addr]string{}, map[Address]string{}
	nodes := map[netip.Addr]string{}
	for _, n := range f.Nodes {
		for _, a := range n.Addresses {
			nodes[a] = n.Label
		}
	}
	for i := range f.Instances {
		in, at := &f.Instances[i], fmt.Sprintf("instances[%d]", i)
		in.setEngine(f.Engine)
		if first, taken := names[in.Name]; taken {
			d.problem(d.at(at+".name"), fmt.Sprintf("two instances are named %s", in.Name), fmt.Sprintf("the first is on line %d: name each differently", first))
		} else if in.Name != "" {
			names[in.Name] = d.at(at + ".name").line
		}
		d.checkVIPs(in, at, nodes, vips)
		d.checkHeartbeat(f, in, at)
		d.checkPriority(in, at, labels)
		d.checkTiming(in, at)
		d.checkDatabases(in, at, sockets)
		d.checkPlans(in, at)
		d.checkHealth(in, at)
		d.checkWitness(in, at, nodes)
		if in.FenceRequired && len(in.Fence) == 0 {
			d.problem(d.at(at+".fence_required"), "fence_required without a fence step would stop every takeover", "add steps to fence, or remove fence_required")
		}
	}
	d.checkVRIDs(f.Instances)
	d.checkHTTP(f, nodes, vips)
}

// checkHTTP wants an address on which both nodes can listen at any time, beside the
// peer link.
func (d *decoder) checkHTTP(f *File, nodes, vips map[netip.Addr]string) {
	if f.HTTP == nil || !f.HTTP.Listen.IsValid() {
		return
	}
	const hint = "write 127.0.0.1:7512, or 0.0.0.0:7512 for every address"
	a, port := f.HTTP.Listen.Addr().WithZone(""), f.HTTP.Listen.Port()
	label, ofNode := nodes[a]
	_, virtual := vips[a]
	switch {
	case virtual:
		d.problem(d.at("http.listen"), fmt.Sprintf("%s is a virtual address: only the active node could listen there", a), hint)
	case ofNode:
		d.problem(d.at("http.listen"), fmt.Sprintf("%s is an address of node %s: the other one could not listen there", a, label), hint)
	case port == f.PeerPort && a.IsUnspecified():
		d.problem(d.at("http.listen"), fmt.Sprintf("port %d is that of the peer link", port), "write another port")
	}
}

// setEngine fills in where the Docker engine is, for whatever does not say.
func (in *Instance) setEngine(engine string) {
	for i := range in.Databases {
		if a := &in.Databases[i].Address; a.Kind == Container && a.Engine == "" {
			a.Engine = engine
		}
	}
	for i := range in.Discover {
		if d := &in.Discover[i]; !d.Rule.Container.IsZero() && d.Engine == "" {
			d.Engine = engine
		}
	}
}

// checkVRIDs wants a VRID once. Unicast advertisements of all instances share
// the nodes' addresses, so there the interface tells nothing apart.
func (d *decoder) checkVRIDs(ins []Instance) {
	for j, b := range ins {
		for i, a := range ins[:j] {
			if a.VRID == 0 || a.VRID != b.VRID || apart(a, b) {
				continue
			}
			d.problem(d.at(fmt.Sprintf("instances[%d].vrid", j)), fmt.Sprintf("two instances have the vrid %d", b.VRID),
				fmt.Sprintf("the first is on line %d: advertisements are told apart by it, give each instance its own", d.at(fmt.Sprintf("instances[%d].vrid", i)).line))
			break
		}
	}
}

// apart reports whether nobody hears the advertisements of both instances.
func apart(a, b Instance) bool {
	return a.Heartbeat.Mode == Multicast && b.Heartbeat.Mode == Multicast && a.Interface != b.Interface
}

func (d *decoder) checkVIPs(in *Instance, at string, nodes, seen map[netip.Addr]string) {
	for i, p := range in.VIPs {
		if !p.IsValid() {
			continue
		}
		a, here := p.Addr(), d.at(fmt.Sprintf("%s.vips[%d]", at, i))
		if label, taken := nodes[a]; taken {
			d.problem(here, fmt.Sprintf("%s is an address of node %s", a, label), "a virtual address belongs to no node: use one that is free")
		}
		if first, taken := seen[a]; taken {
			d.problem(here, fmt.Sprintf("the virtual address %s stands twice", a), "first in instance "+first+": keep one")
			continue
		}
		seen[a] = in.Name
	}
}

// checkHeartbeat holds the heartbeat against the family of the first virtual
// address: that one's addresses are what is advertised, the others ride along.
func (d *decoder) checkHeartbeat(f *File, in *Instance, at string) {
	if _, given := d.positions[at+".heartbeat.auth"]; !given {
		if _, key := d.positions["key_file"]; key {
			in.Heartbeat.Auth = AuthHMAC // who has a key wants it used
		}
	}
	if len(in.VIPs) == 0 || !in.VIPs[0].IsValid() {
		return
	}
	first, here := in.VIPs[0].Addr(), d.at(at+".vips[0]")
	if in.Heartbeat.Version == 2 && first.Is6() {
		d.problem(here, "VRRPv2 cannot advertise IPv6 addresses, and the first virtual address is one", "write version: 3, or put an IPv4 address first")
	}
	if in.Heartbeat.Mode != Unicast {
		return
	}
	for _, n := range f.Nodes {
		alike := func(a netip.Addr) bool { return !a.IsValid() || a.Is4() == first.Is4() }
		if len(n.Addresses) > 0 && !slices.ContainsFunc(n.Addresses, alike) {
			d.problem(here, fmt.Sprintf("node %s has no %s address to advertise %s from", n.Label, family(first), first),
				fmt.Sprintf("add an %s address to both nodes, put an %s address first in vips, or write mode: multicast", family(first), family(n.Addresses[0])))
			return
		}
	}
}

// family names an address's.
func family(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// checkPriority reads the priorities, which are keyed by the labels.
func (d *decoder) checkPriority(in *Instance, at string, labels []string) {
	node, given := d.priorities[at+".priority"]
	if !given {
		return
	}
	list, ok := node.entries("a mapping of labels", "write priority: {primary: 254, reserve: 253}")
	if !ok {
		return
	}
	var seen []string
	for _, e := range list {
		seen = append(seen, e.key)
		i := slices.Index(labels, e.key)
		if i < 0 && len(labels) > 0 {
			hint := "the nodes are " + and(labels)
			if near := nearest(e.key, labels); near != "" {
				hint = fmt.Sprintf("did you mean %q?", near)
			}
			d.problem(e.pos, fmt.Sprintf("no node is labelled %s", quote(e.key)), hint)
		}
		u, _ := e.val.integer(1, 255)
		if i == 0 || i == 1 {
			in.Priority[i] = uint8(u)
		}
	}
	for _, l := range labels[:min(2, len(labels))] {
		if !slices.Contains(seen, l) {
			node.problem(fmt.Sprintf("priority lacks node %s", l), fmt.Sprintf("add %s: 253, or leave priority out for 254 and 253", l))
		}
	}
	if in.Priority == [2]uint8{255, 255} {
		node.problem("both nodes have priority 255", "255 belongs to one address owner: use 1 to 254")
		return
	}
	for i, p := range in.Priority {
		if p == 255 && len(labels) == 2 {
			d.notice(node.child(labels[i]), "priority 255 is the address owner's in RFC 9568, and no address here has an owner: it only wins elections", "use 254 unless that is what you want")
		}
	}
}

// leaseAdverts is how many advertisement intervals a lease spans at least:
// below that one late advertisement costs the address.
const leaseAdverts = 2

func (d *decoder) checkTiming(in *Instance, at string) {
	interval, lease := in.Heartbeat.AdvertInterval, in.Lease
	if interval > 0 && lease > 0 && lease < leaseAdverts*interval {
		where := at + ".lease"
		if _, given := d.positions[where]; !given {
			where = at + ".heartbeat.advert_interval"
		}
		least := (leaseAdverts*interval + time.Second - 1).Truncate(time.Second)
		d.problem(d.at(where), fmt.Sprintf("lease %s is shorter than %d advertisement intervals of %s", show(lease), leaseAdverts, show(interval)),
			fmt.Sprintf("write lease: %s or more, or a shorter advert_interval", show(least)))
	}
	if in.PreemptDelay > 0 && !in.Preempt {
		d.notice(at+".preempt_delay", "preempt_delay does nothing while preempt is false", "write preempt: true, or remove it")
	}
}

func (d *decoder) checkDatabases(in *Instance, at string, seen map[Address]string) {
	names := map[string]int{}
	for i := range in.Databases {
		db := &in.Databases[i]
		here := fmt.Sprintf("%s.databases[%d]", at, i)
		if first, taken := names[db.Name]; taken {
			d.problem(d.at(here+".name"), fmt.Sprintf("two databases are named %s", db.Name), fmt.Sprintf("the first is on line %d: name each differently", first))
		} else if db.Name != "" {
			names[db.Name] = d.at(here + ".name").line
		}
		if db.Address == (Address{}) {
			continue
		}
		if first, taken := seen[db.Address]; taken {
			d.problem(d.at(here+".address"), "two databases have this address", fmt.Sprintf("the first is %s: name every server once", first))
			continue
		}
		seen[db.Address] = db.Name
	}
}

// checkPlans looks at what the order of steps means for the databases.
func (d *decoder) checkPlans(in *Instance, at string) {
	if len(in.Databases) == 0 && len(in.Discover) == 0 {
		return
	}
	closed := slices.IndexFunc(in.Demote, func(s hooks.Step) bool {
		w, ok := s.Action.(hooks.Writes)
		return ok && !w.Open
	})
	switch pivot := in.Demote.Pivot(); {
	case pivot < 0:
	case closed < 0:
		d.notice(at+".demote", "demote never closes writes, though the instance has databases", "begin it with writes: close, or a planned handover cannot freeze their positions")
	case closed > pivot:
		d.problem(d.at(fmt.Sprintf("%s.demote[%d]", at, closed)), "writes: close stands after vip: release", "put it first: the peer catches up to positions that must not move any more")
	}
	d.checkFollow(in, at)
}

// checkFollow holds a demotion that follows the peer against what it needs.
func (d *decoder) checkFollow(in *Instance, at string) {
	follow := slices.IndexFunc(in.Demote, func(s hooks.Step) bool {
		r, ok := s.Action.(hooks.Replication)
		return ok && r.Verb == hooks.FollowPeer
	})
	if follow < 0 {
		return
	}
	step := fmt.Sprintf("%s.demote[%d]", at, follow)
	if pivot := in.Demote.Pivot(); pivot > follow {
		d.problem(d.at(step), "replication: follow stands before vip: release", "put it after: the peer is the source only when it has the address")
	}
	for i, db := range in.Databases {
		if db.ReplicateFrom == nil {
			d.problem(d.at(fmt.Sprintf("%s.databases[%d]", at, i)), fmt.Sprintf("demote has replication: follow, and database %s has no replicate_from", db.Name),
				"add replicate_from: {user: repl, password_file: /etc/tanist/repl.password}, or write replication: none")
		}
	}
}

func (d *decoder) checkHealth(in *Instance, at string) {
	for i, h := range in.Health {
		m, ok := h.Check.(MySQLCheck)
		if !ok || m.Database == "" || len(in.Discover) > 0 || slices.ContainsFunc(in.Databases, func(db Database) bool { return db.Name == m.Database }) {
			continue
		}
		d.problem(d.at(fmt.Sprintf("%s.health[%d].mysql", at, i)), fmt.Sprintf("the instance has no database %s", quote(m.Database)), "name one of its databases")
	}
}
