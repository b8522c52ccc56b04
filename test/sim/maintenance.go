package sim

import (
	"slices"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
)

// The maintenance scenario is the faults scenario with an operator who blocks nodes
// and switches the maintenance on and off on either, and with daemons that are
// restarted, stand still and stay away under it. At the end both are taken back.

// epochOfDates is the date at which every world begins. The wall clocks of the hosts
// are right: a step of one moves the end of a hold, which is what an operator sees.
var epochOfDates = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func (w *World) date() time.Time { return epochOfDates.Add(w.now) }

// Maintained is one seed of the maintenance scenario.
func Maintained(seed uint64) *World { return maintenanceOf(seed, Broken{}, allMaintenance) }

func maintenanceOf(seed uint64, b Broken, kinds []func(*faults)) *World {
	return faultsIn(seed, b, kinds, func(w *World, s *Setup) {
		s.MaintenanceLease = w.between(2*time.Second, 20*time.Second).Truncate(time.Second)
		s.Preempt = w.chance(0.3)
		w.drawRates(s)
	})
}

// drawRates lets the clocks of the hosts run at rates of their own.
func (w *World) drawRates(s *Setup) {
	for i := range s.Rate {
		s.Rate[i] = w.side.Int64N(2*rateMost+1) - rateMost
	}
}

// held is what comes with every few other faults.
var held = []func(*faults){
	(*faults).maintain, (*faults).maintain, (*faults).maintain, (*faults).maintain, (*faults).maintain,
	(*faults).unmaintain, (*faults).unmaintain, (*faults).maintainAlone,
	(*faults).block, (*faults).unblock,
	(*faults).upgrade, (*faults).upgrade, (*faults).upgrade, (*faults).upgrade,
	(*faults).stall, (*faults).stall, (*faults).stallUnseen, (*faults).stayAway, (*faults).stayAway,
}

var allMaintenance = slices.Concat(held, held, allFaults)

// hold gives a node an operator's command.
func (f *faults) hold(n *node, r failover.HoldRequest) {
	if n.core == nil || n.foreign {
		return
	}
	r.Reason, r.UID = "upgrade", 1000
	f.w.check.commands++
	f.w.say(n.i, "operator: %s %t for %s (force %t)", r.Kind, r.On, r.For, r.Force)
	n.answer(0, failover.HoldWanted{Command: failover.ID(f.w.check.commands), Request: r})
}

func (f *faults) maintain() {
	r := failover.HoldRequest{Kind: failover.MaintenanceHold, On: true}
	if f.w.chance(0.4) {
		r.For = f.w.between(time.Second, 40*time.Second)
	}
	f.hold(f.node(), r)
}

// maintainAlone lengthens the lease without the peer.
func (f *faults) maintainAlone() {
	f.hold(f.node(), failover.HoldRequest{Kind: failover.MaintenanceHold, On: true, Force: true})
}

func (f *faults) unmaintain() { f.hold(f.node(), failover.HoldRequest{Kind: failover.MaintenanceHold}) }

func (f *faults) block() {
	f.hold(f.node(), failover.HoldRequest{On: true, For: f.w.between(0, 30*time.Second)})
}

func (f *faults) unblock() { f.hold(f.node(), failover.HoldRequest{}) }

// upgrade restarts a daemon in order or not, within what the lease allows or not.
func (f *faults) upgrade() {
	n, w := f.active(), f.w
	if n.core == nil {
		return
	}
	if w.chance(0.5) {
		w.say(n.i, "SIGTERM")
		n.answer(0, failover.StopWanted{})
		return
	}
	w.say(n.i, "daemon killed, to be started anew")
	n.kill()
	w.schedule(w.between(50*time.Millisecond, w.setup.MaintenanceLease*5/4), item{kind: kStart, node: uint8(n.i)})
}

// stall stops a daemon for as long as its address lasts, about.
func (f *faults) stall() {
	n, w := f.active(), f.w
	d := w.between(0, w.setup.MaintenanceLease*3/2)
	w.say(n.i, "daemon stands still for %s", d)
	n.pause()
	w.schedule(d, item{kind: kResume, node: uint8(n.i)})
	if w.chance(0.5) {
		f.after(w.between(0, d), func() { f.hold(n.peer(), failover.HoldRequest{Kind: failover.MaintenanceHold}) })
	}
}

// stallUnseen stops a daemon whose address its peer cannot ask for, and the peer's
// operator ends the maintenance meanwhile: only the lease says when it is gone.
func (f *faults) stallUnseen() {
	n, w := f.active(), f.w
	d := w.between(0, w.setup.MaintenanceLease*3/2)
	set := func(on bool) func() { return func() { w.net.ways[0][0].cut, w.net.ways[0][1].cut = on, on } }
	w.say(n.i, "daemon stands still for %s", d)
	n.pause()
	w.schedule(d, item{kind: kResume, node: uint8(n.i)})
	f.change("first path cut", d, set(true), set(false))
	f.after(w.between(0, time.Second), func() { f.hold(n.peer(), failover.HoldRequest{Kind: failover.MaintenanceHold}) })
}

// moveAnyway hands the role over in spite of a maintenance, and the old node stops in
// the middle of it.
func (f *faults) moveAnyway() {
	w := f.w
	n := f.active()
	if n.core == nil {
		return
	}
	w.check.commands++
	n.answer(0, failover.SwitchoverWanted{Command: failover.ID(w.check.commands), Request: failover.Request{
		To: n.peer().label, Timeout: w.between(5*time.Second, 30*time.Second), Force: true, Reason: "the operator knows", UID: 1000,
	}})
	if w.chance(0.7) {
		d := w.between(0, w.setup.MaintenanceLease*3/2)
		f.after(w.between(0, 300*time.Millisecond), func() {
			w.say(n.i, "daemon stands still for %s", d)
			n.pause()
			w.schedule(d, item{kind: kResume, node: uint8(n.i)})
		})
	}
}

// stayAway kills a daemon for longer than its address lasts, and the other's
// operator does not wait for it.
func (f *faults) stayAway() {
	n, w := f.active(), f.w
	w.say(n.i, "daemon killed and not started")
	n.kill()
	w.schedule(w.setup.MaintenanceLease+w.between(0, 10*time.Second), item{kind: kStart, node: uint8(n.i)})
	if w.chance(0.5) {
		f.after(w.between(0, w.setup.MaintenanceLease), func() {
			f.hold(n.peer(), failover.HoldRequest{Kind: failover.MaintenanceHold})
		})
	}
}

// release takes both holds back, until both nodes have heard of it.
func (f *faults) release() {
	again := false
	for _, n := range f.w.nodes {
		o, ok := n.core.(*failover.Orchestrator)
		if !ok {
			again = again || !n.foreign
			continue
		}
		if o.Maintained() {
			again = true
			f.hold(n, failover.HoldRequest{Kind: failover.MaintenanceHold})
		}
		if o.Blocked() {
			again = true
			f.hold(n, failover.HoldRequest{})
		}
	}
	if again {
		f.after(time.Second, f.release)
	}
}

// longest is the longest lease that the kernel may have of a daemon.
func (s *Setup) longest() time.Duration { return max(s.Lease, s.MaintenanceLease) }

// maintained reports whether a daemon knows of a maintenance, blocked whether of a
// block. A daemon that is not there knows nothing.
func (n *node) maintained() bool {
	o, ok := n.core.(*failover.Orchestrator)
	return ok && o.Maintained()
}

func (n *node) blocked() bool {
	o, ok := n.core.(*failover.Orchestrator)
	return ok && o.Blocked()
}

// plannedGrace is how long a switchover may take from the new node's look at its gate
// to its promotion: both plans' checks, closing and catching up.
const plannedGrace = 40 * time.Second

// noteHolds keeps since when a node knows of its holds.
func (c *checker) noteHolds(n *node) {
	x := &c.nodes[n.i]
	since := func(at *time.Duration, on bool) {
		switch {
		case !on:
			*at = 0
		case *at == 0:
			*at = c.w.now
		}
	}
	since(&x.maintained, n.maintained())
	since(&x.blocked, n.blocked())
	if n.maintained() {
		x.suspended = c.w.now
	}
}

// promotes is about a promotion that nobody forced: a node that is blocked is not
// promoted, and under maintenance only one that goes on with what it had.
func (c *checker) promotes(n *node, r hooks.Record) {
	x := &c.nodes[n.i]
	if r.Planned {
		forced := c.nodes[1-n.i].forced
		if x.blocked > 0 && c.w.now-x.blocked > plannedGrace && n.blocked() && !forced {
			c.w.fail("block", "%s is blocked and promoted", n.label)
		}
		if x.maintained > 0 && c.w.now-x.maintained > plannedGrace && n.maintained() && !forced {
			c.w.fail("maintenance", "%s is promoted under maintenance", n.label)
		}
		return
	}
	m, b := n.disk.memory(), c.w.setup.Broken
	if c.lasts(m.Block) && (n.blocked() || b.NoHolds) {
		c.w.fail("block", "%s is blocked and promoted", n.label)
	}
	if c.lasts(m.Maintenance) && (n.maintained() || b.NoHolds) && x.known > max(x.epoch, x.decided) && c.follows(n) {
		c.w.fail("maintenance", "%s is promoted under maintenance, and the other node was Active last", n.label)
	}
}

// lasts reports whether a hold of a node's disk is on.
func (c *checker) lasts(h hooks.Holding) bool {
	left, ends := h.Left(c.w.date())
	return h.On && (!ends || left > 0)
}

// follows reports whether a node has nothing of its own to go on with.
func (c *checker) follows(n *node) bool {
	for _, db := range n.dbs {
		if db.channel && (db.io || db.sql) {
			return true
		}
	}
	return len(n.dbs) == 0
}

// lengthens is about the long lease: before a daemon uses it the peer's disk says
// that the peer waits for it, unless an operator took that upon himself.
func (c *checker) lengthens(n *node, e failover.Hold) {
	w := c.w
	forced := func(m hooks.Memory) bool { return m.Maintenance.Forced && m.Maintenance.By == n.label }
	unknown := e.Lease > w.setup.Lease && n.peer().disk.synced.PeerLease < e.Lease
	// What ends it counts once it is on the disk.
	c.nodes[n.i].overlong = unknown && (forced(n.disk.memory()) || forced(n.disk.synced))
	switch {
	case e.Lease == w.setup.Lease:
	case e.Lease != w.setup.longest():
		w.fail("I2", "%s holds the address for %s", n.label, e.Lease)
	case unknown && !c.nodes[n.i].overlong && !w.setup.Broken.NoPatience:
		w.fail("lease", "%s holds the address for %s and its peer does not know", n.label, e.Lease)
	}
}

// outlives reports whether a node's address is only there still because an operator
// lengthened its lease without the peer's knowledge.
func (c *checker) outlives(n *node) bool {
	k := &n.kernel
	return c.nodes[n.i].overlong && c.w.now > k.until-(k.lease-c.w.setup.Lease)
}

// leaveSlack is for late timers and a slow clock.
const leaveSlack = time.Second

// leaves notes when a daemon is told to leave.
func (c *checker) leaves(n *node, ev failover.Event) {
	if _, ok := ev.(failover.StopWanted); ok && c.nodes[n.i].leaves == 0 {
		c.nodes[n.i].leaves = c.w.now
	}
}

// left is about a daemon that ends under maintenance: what it held it holds.
func (c *checker) left(n *node) {
	x := &c.nodes[n.i]
	cfg := c.w.config(n.i)
	cfg.Lease = c.w.setup.longest()
	if most := failover.LeaveTime(cfg) + leaveSlack; c.w.now-max(x.leaves, n.awake) > most {
		c.w.fail("leave", "%s left after %s, more than %s", n.label, c.w.now-x.leaves, most)
	}
	if n.maintained() && n.state.State == failover.Active && n.kernel.down == "" && !n.kernel.own() && !n.kernel.missed() {
		c.w.fail("maintenance", "%s left under maintenance and took its address along", n.label)
	}
	if n.maintained() && n.kernel.own() {
		c.w.parted++
	}
}

// forgets applies what Broken says of a daemon's memory of holds.
func (n *node) forgets(ev *failover.Started) {
	b := n.w.setup.Broken
	if b.NoHolds {
		ev.Memory.Block, ev.Memory.Maintenance = hooks.Holding{}, hooks.Holding{}
	}
	if b.NoPatience {
		ev.Memory.PeerLease = 0
	}
}

// bendSaid applies what Broken says of what a daemon hears of the lease.
func (n *node) bendSaid(ev failover.Event) failover.Event {
	said, ok := ev.(failover.PeerSaid)
	if !n.w.setup.Broken.NoPatience || !ok || said.State.Maintenance == nil {
		return ev
	}
	m := *said.State.Maintenance
	m.Lease = 0
	said.State.Maintenance = &m
	return said
}

// bendHold applies what Broken says of the lease.
func (n *node) bendHold(e failover.Hold) failover.Hold {
	if n.w.setup.Broken.HastyLease && n.maintained() {
		e.Lease = n.w.setup.longest()
	}
	return e
}
