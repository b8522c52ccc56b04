package sim

import (
	"slices"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/replication"
)

// The checkers hold what the nodes do against the truth of the world. Each names
// the invariant that it holds. Bounds are constants with their reason.

const (
	// ContestBound is for how long two nodes that found themselves both with the
	// address may keep it once they can exchange packets again: a second until
	// priorities decide without the link, an advertisement, a message, and a
	// pause of a daemon that is shorter than its peer's patience.
	ContestBound = 2500 * time.Millisecond
	// InFlight is how long after packets flow again a node may still act on the
	// silence before: an advertisement and a message, or a retransmission.
	InFlight = 700 * time.Millisecond
	// OverlapBound is how long both nodes of an acknowledged handover may have
	// the address: until the new node's word comes, at worst sent again twice.
	OverlapBound = 800 * time.Millisecond
	// askedInVain is how long the questions to a kernel take that nobody answers.
	askedInVain = 200 * time.Millisecond
	// UnitBound is how long a shared unit may run on both nodes once they can
	// exchange packets again: the contest, then a demotion whose steps before
	// the unit's may each take their whole timeout.
	UnitBound = 30 * time.Second
	// WritersBound is how long the databases of both nodes may take writes once the
	// nodes can exchange packets again: the contest, a look at the databases of a
	// standby, and a step that closes them, which may fail and be tried again.
	WritersBound = ContestBound + 15*time.Second
	// MemoryGrace is how long an epoch that was heard may take to the disk.
	MemoryGrace = 500 * time.Millisecond
	// UndoBound is how far back a database's own failure excuses a roll-back that
	// did not open it: a step that a crash overtook.
	UndoBound = 15 * time.Second
)

type checker struct {
	w           *World
	failure     error
	proofs      [2]proof
	two         time.Duration // since when both have the address, -1: they do not
	apart       bool          // it began while they could not exchange packets
	handover    bool          // it began as an acknowledged handover
	putBack     time.Duration // when an address was put back last
	putBackBy   int
	newest      int // the node that got the address last
	twoUnits    time.Duration
	twoWriters  time.Duration
	nodes       [2]watched
	disturbed   time.Duration // a daemon started or went on
	operatorOff bool
	amnesia     bool // a disk failed when a node had to note that it got the role
	outcomes    [8]int
	rolledBack  int
	refused     int // ends at which both nodes refused
	commands    uint64
}

// watched is what a checker knows of one node.
type watched struct {
	heard     []uint64 // per database, newest sequence number heard of a source
	heardOf   bool
	epoch     failover.Epoch // of the latest promotion that got the address
	known     failover.Epoch // highest epoch of an Active heard
	knownAt   time.Duration
	began     hooks.Record // latest promotion
	beganLife uint32
	fences    int            // steps of a fence that went well since the latest begin
	override  bool           // since the latest begin of anything
	forced    bool           // the latest handover away from the node overrides the gate
	index     int            // of the step started last in this stretch
	before    appearance     // of a handover
	decided   failover.Epoch // of the latest takeover that a gate let through
	drift     bool           // the latest begin only puts writes right
	cancelled *step
	// Since when this daemon knows of its holds, 0: it does not, and when it last did.
	maintained, blocked, suspended time.Duration
	overlong                       bool          // its kernel has a lease that an operator forced and the peer did not know of
	leaves                         time.Duration // since when it is told to leave, 0: it is not
	alone                          time.Duration // since when nothing at all can come to it, -1: something can
	base                           []uint64      // per database, how long its history was at the promotion
	wroteAt                        time.Duration // when the first write since was seen, -1: none was
	toldAt                         time.Duration // when it last told its peer anything
	readable                       time.Duration // since when its daemon runs and its databases can be read
	diverged                       map[string]uint64
	differs                        time.Duration // since when the operator finds that it differs, -1: it does not
	differsAt                      time.Duration // when that was found last
}

func (c *checker) begin() {
	c.two, c.twoUnits, c.twoWriters = -1, -1, -1
	for i := range c.nodes {
		c.proofs[i] = newProof(c.w.config(i))
		c.nodes[i] = watched{heard: make([]uint64, c.w.setup.Databases), index: -1, alone: -1, wroteAt: -1, differs: -1, diverged: map[string]uint64{}}
	}
}

func (c *checker) started(n *node) {
	x := &c.nodes[n.i]
	c.disturbed = c.w.now
	x.index, x.cancelled = -1, nil
	x.maintained, x.blocked, x.leaves = 0, 0, 0
	x.heardOf = false
	clear(x.heard)
	for _, r := range n.disk.newer {
		if g := r.Heard.GTIDs(); len(g) > 0 {
			x.heardOf = true
			x.heard[slices.Index(c.w.setup.dbNames, r.Database)] = g[0].Sequence
		}
	}
}

// heard notes what a node learns over the link.
func (c *checker) heard(n *node, s *failover.PeerState) {
	x := &c.nodes[n.i]
	if s.ActiveEpoch > x.known && s.ActiveEpoch <= c.nodes[1-n.i].epoch {
		x.known, x.knownAt = s.ActiveEpoch, c.w.now
	}
	if s.ActiveEpoch <= x.epoch && n.kernel.holds() || s.State != failover.Active && s.ActiveEpoch <= x.epoch {
		return
	}
	for _, p := range s.Positions {
		for i, name := range c.w.setup.dbNames {
			if name != p.Database {
				continue
			}
			x.heardOf = true
			if g := p.Executed.GTIDs(); len(g) > 0 {
				x.heard[i] = g[0].Sequence
			}
		}
	}
}

// after is I1 and I5, and what must be true whatever just happened.
func (c *checker) after(n *node) {
	c.noteHolds(n)
	c.holders()
	c.leases()
	c.interfaces()
	c.witnessed()
	c.units()
	c.writers()
	if w := c.w; w.watch != nil && c.failure == nil {
		w.watch()
	}
}

// writers is I5: whoever is not Active puts its databases back to read-only.
func (c *checker) writers() {
	w, both := c.w, false
	for i, a := range w.nodes[0].dbs {
		both = both || a.writable() && w.nodes[1].dbs[i].writable()
	}
	if !both || w.net.since < 0 || !w.nodes[0].runs() || !w.nodes[1].runs() {
		c.twoWriters = -1
		return
	}
	if c.twoWriters < 0 {
		c.twoWriters = w.now
	}
	if since := max(c.twoWriters, w.net.since, c.disturbed); w.now-since > WritersBound {
		w.fail("I5", "databases of both nodes take writes for %s", w.now-c.twoWriters)
	}
}

func (c *checker) holders() {
	w := c.w
	a, b := w.nodes[0], w.nodes[1]
	if !a.kernel.has || !b.kernel.has || !a.kernel.own() || !b.kernel.own() {
		if (c.two >= 0 || c.handover) && (a.kernel.own() || a.kernel.missed()) && (b.kernel.own() || b.kernel.missed()) {
			return // it is about to be put back
		}
		c.two, c.handover = -1, false
		return
	}
	if c.two < 0 {
		c.begins()
	}
	if w.net.since < 0 {
		c.apart = true
		return
	}
	if b.foreign && !b.runs() && c.apart {
		return // what a killed router of that make has, it keeps until it is started again
	}
	together := max(c.two, w.net.since)
	if c.apart || c.handover {
		together = max(together, c.disturbed)
	}
	bound := time.Duration(0)
	switch {
	case c.apart:
		bound = ContestBound
		if !w.net.linked() { // one advertisement begins the second, the next one ends it
			bound += 2 * w.setup.Interval.Duration()
		}
	case c.handover:
		bound = OverlapBound
	}
	if bound > 0 {
		bound += w.net.spread
	}
	if bound > 0 && (!a.runs() || !b.runs()) {
		// The kernel's clock alone ends it. The old node of a handover offers no more
		// than the configured lease.
		lease := w.setup.longest()
		if c.handover && !c.apart && w.nodes[c.newest].runs() {
			lease = w.setup.Lease
		}
		bound += lease + expiry
	}
	if w.now-together > bound || bound == 0 {
		w.fail("I1", "both nodes have the address for %s and can exchange packets for %s, linked %t, %s heard its peer %s ago",
			w.now-c.two, w.now-w.net.since, w.net.linked(), w.nodes[c.newest].label, w.now-w.nodes[c.newest].heard)
	}
}

// begins notes that both nodes have the address, and whether that is excused.
func (c *checker) begins() {
	w := c.w
	taker := w.nodes[c.newest]
	c.two, c.apart = w.now, w.net.since < 0 || w.now-w.net.since < InFlight
	switch {
	case c.apart || c.handover:
	case c.putBack == w.now && c.putBackBy != c.newest:
		// Its kernel truly said that the address was not there, and its daemon, which
		// was away for less than its peer's patience, puts it back.
		c.apart = true
		w.putBacks++
	case c.outlives(taker.peer()):
		c.apart = true
		w.alone++
	case taker.foreign:
		// It takes the address whenever it hears nobody, whoever has it.
		c.apart = true
		w.overrun++
	case w.net.lossy() && w.now-taker.heard > min(failover.LinkPatience, c.proofs[1-taker.i].patience+askedInVain):
		// No advertisement, no message and no answer to three questions came through.
		c.apart = true
		w.unlucky++
		w.say(c.newest, "a second holder: everything was lost")
	case w.net.isolated() && (w.net.loses() || taker.peer().foreign) && taker.heardOf < taker.peer().claimed:
		// Every advertisement of the first claim to the second got lost, and without
		// the link nobody answers a claim. Another router acquires as it claims.
		c.apart = true
		w.races++
		w.say(c.newest, "a second holder: the claims crossed")
	}
}

func (c *checker) units() {
	w := c.w
	if !w.nodes[0].unit || !w.nodes[1].unit || w.nodes[0].byHand() || w.nodes[1].byHand() {
		c.twoUnits = -1
		return
	}
	if c.twoUnits < 0 {
		c.twoUnits = w.now
		if w.net.since >= 0 && w.now-w.net.since > UnitBound {
			w.fail("unit", "lsyncd was started on both nodes while they could exchange packets")
		}
	}
	if w.net.since >= 0 && w.now-max(c.twoUnits, w.net.since) > UnitBound && w.nodes[0].runs() && w.nodes[1].runs() {
		w.fail("unit", "lsyncd runs on both nodes for %s", w.now-c.twoUnits)
	}
}

// sends is the order of leaving: the address is off before priority 0 invites.
func (c *checker) sends(n *node, priority uint8) {
	if priority == 0 && n.kernel.own() && !n.foreign {
		c.w.fail("order", "%s sends priority 0 with the address", n.label)
	}
}

// journals is the moment at which a gate decided: I3 of a takeover.
func (c *checker) journals(n *node, e failover.Append) {
	x := &c.nodes[n.i]
	r := e.Record
	if n.disk.failing && (r.Kind == hooks.Acquired || r.Kind == hooks.Learned) {
		c.amnesia = true
	}
	switch r.Kind {
	case hooks.Began:
		x.index, x.cancelled, x.fences = -1, nil, 0
		if r.Planned && r.Role == hooks.Standby {
			x.forced = x.override // this handover, and no later one
		}
		c.yields(r)
		x.drift = r.Reason == failover.Drifted.String()
		if r.Role == hooks.Active && r.Reason == failover.Renumbered.String() {
			x.epoch = failover.Epoch(r.Epoch)
		} else if r.Role == hooks.Active && r.Reason != failover.Drifted.String() {
			x.began, x.beganLife = r, n.life
			if r.Planned {
				c.salvaged(n)
				c.wellEnough(n, r)
			}
			if e.ID == 0 && r.Reason != "" && !r.Planned {
				c.w.fail("I6", "%s begins a promotion without a durable record", n.label)
			}
			if !r.Planned && !x.override {
				c.takeover(n)
				c.promotes(n, r)
			}
			if r.Planned {
				c.promotes(n, r)
			}
			if !r.Planned {
				x.decided = failover.Epoch(r.Epoch)
			}
		}
		x.override = false
	case hooks.Ended, hooks.Reverted:
		x.index, x.cancelled = -1, nil
	case hooks.Override:
		x.override = true
		if r.Reason == "" {
			c.w.fail("I3", "%s journals an override without a reason", n.label)
		}
	case hooks.Diverged, hooks.Reconciled:
		x.diverged[r.Loss.Database] = r.Loss.Proved
	case hooks.Stepped:
	case hooks.Adopted:
		c.w.adopted++
	case hooks.Learned, hooks.Acquired, hooks.Missed, hooks.Strayed, hooks.Mended, hooks.Notified,
		hooks.Blocking, hooks.Maintaining, hooks.Leasing, hooks.Parted, hooks.Commanded:
	}
}

// takeover is I3 of a promotion without the old node's word.
func (c *checker) takeover(n *node) {
	w, x := c.w, &c.nodes[n.i]
	for i, db := range n.dbs {
		w.settle(i)
		name := w.setup.dbNames[i]
		if !db.up || db.hung {
			w.fail("I3", "%s promotes though %s does not answer", n.label, name)
			return
		}
		if !db.channel || !db.io && !db.sql {
			c.resumes(n, name)
			continue
		}
		switch {
		case db.relay.len() > db.history.len():
			w.fail("I3", "%s promotes with %d transactions of %s received and not applied", n.label, db.relay.len()-db.history.len(), name)
		case w.setup.Policy.AfterLoss == replication.Drained:
		case !x.heardOf:
			w.fail("I3", "%s promotes and never heard how far the source of %s was", n.label, name)
		case x.heard[i] > db.history.len():
			w.fail("I3", "%s promotes with %d transactions of %s missing that the source said it had", n.label, x.heard[i]-db.history.len(), name)
		}
	}
}

// resumes is I3 of a node that goes on with what it had.
func (c *checker) resumes(n *node, name string) {
	x := &c.nodes[n.i]
	i := slices.Index(c.w.setup.dbNames, name)
	if c.amnesia || n.peer().dbs[i].history.within(n.dbs[i].history) {
		return // whatever it knows, it has all there is
	}
	if x.known > max(x.epoch, x.decided) && c.w.now-x.knownAt > MemoryGrace {
		c.w.fail("I3", "%s goes on with %s of epoch %d though it heard of epoch %d", n.label, name, x.epoch, x.known)
	}
}

// acquired is I3 at the address.
func (c *checker) acquired(n *node, promotion bool) {
	w, x, p := c.w, &c.nodes[n.i], n.peer()
	c.newest = n.i
	if n.foreign {
		return
	}
	if !promotion {
		w.fail("I2", "%s renews an address that the kernel had removed", n.label)
		return
	}
	if x.beganLife != n.life || x.began.Role != hooks.Active {
		w.fail("I6", "%s acquires the address without a record of the promotion", n.label)
		return
	}
	x.epoch = failover.Epoch(x.began.Epoch)
	c.writesFrom(n)
	if !x.began.Planned {
		c.fenced(n)
		c.vouched(n)
		return
	}
	c.handover = true
	if c.nodes[p.i].forced {
		return
	}
	for i, old := range p.dbs {
		w.settle(i)
		if c.lost(p, i) {
			if old.up && old.hung && !old.readOnly {
				w.fail("I5", "%s acquires the address and %s of the old node hangs and would take writes when it wakes", n.label, w.setup.dbNames[i])
			}
			continue
		}
		if !old.history.within(n.dbs[i].history) {
			w.fail("I3", "%s acquires the address in a switchover and lacks transactions of %s: has %v, the old node %v",
				n.label, w.setup.dbNames[i], n.dbs[i].history, old.history)
		}
		if old.writable() {
			w.fail("I5", "%s acquires the address in a switchover and %s of the old node takes writes", n.label, w.setup.dbNames[i])
		}
	}
}

// starts is I4, and I3 of the step that opens writes.
func (c *checker) starts(n *node, s *step) {
	w, x := c.w, &c.nodes[n.i]
	for _, other := range n.steps {
		if !other.cancel || w.now < other.cancelled+n.lasts(hooks.CancelGrace) {
			w.fail("I4", "%s starts %s while %s runs", n.label, s.order.Step.Name, other.order.Step.Name)
		}
	}
	if s.order.Index <= x.index {
		w.fail("I4", "%s starts %s out of its order", n.label, s.order.Step.Name)
	}
	x.index = s.order.Index
	if k := x.cancelled; k != nil && k.vars == s.vars && s.order.Index > k.order.Index {
		w.fail("I4", "%s starts %s of a plan that was cancelled", n.label, s.order.Step.Name)
	}
	if a, ok := s.order.Step.Action.(hooks.Writes); ok && a.Open && s.order.Step.Name == "writes open" {
		c.opens(n)
	}
}

func (c *checker) opens(n *node) {
	x, p := &c.nodes[n.i], n.peer()
	if x.drift {
		if !n.kernel.holds() && !n.kernel.missed() {
			c.w.fail("I5", "%s opens writes again without the address", n.label)
		}
		return
	}
	if x.beganLife != n.life {
		c.w.fail("I6", "%s opens writes without a record of the promotion", n.label)
	}
	if !x.began.Planned || c.nodes[p.i].forced {
		return
	}
	for i, old := range p.dbs {
		c.w.settle(i)
		if c.lost(p, i) {
			continue
		}
		if !old.history.within(n.dbs[i].history) {
			c.w.fail("I3", "%s opens writes in a switchover and lacks transactions of %s", n.label, c.w.setup.dbNames[i])
		}
	}
}

// lost reports whether the old node of a switchover gave a database up for dead.
func (c *checker) lost(old *node, i int) bool {
	g := old.state.Give
	return g != nil && slices.Contains(g.Lost, c.w.setup.dbNames[i])
}

// salvaged is I3 of the databases that the old node of a switchover lost, when the
// new node decides.
func (c *checker) salvaged(n *node) {
	w := c.w
	for i, db := range n.dbs {
		if !c.lost(n.peer(), i) || c.nodes[1-n.i].forced {
			continue
		}
		w.settle(i)
		w.salvaged++
		switch {
		case db.relay.len() > db.history.len():
			w.fail("I3", "%s takes over with %d transactions of %s received and not applied", n.label, db.relay.len()-db.history.len(), w.setup.dbNames[i])
		case w.setup.Policy.AfterLoss == replication.Exact && c.nodes[n.i].heard[i] > db.history.len():
			w.fail("I3", "%s takes over and lacks transactions of %s that the old node said it had", n.label, w.setup.dbNames[i])
		}
	}
}

func (c *checker) cancels(n *node, s *step) {
	if n.clock() < s.order.Deadline {
		c.nodes[n.i].cancelled = s
	}
}

// answered counts how commands end.
func (c *checker) answered(_ *node, e failover.Answer) { c.outcomes[e.Outcome]++ }

// tells is the promise of a roll-back: the old node is open again, nothing moved.
func (c *checker) tells(n *node, now *failover.PeerState) {
	x, was := &c.nodes[n.i], n.state
	c.saysWrites(n, now)
	c.yieldsRightly(n, now)
	if now.Give == nil || was.Give == nil || now.Give.ID != was.Give.ID {
		return
	}
	if was.Give.Stage == failover.GivePreparing && now.Give.Stage == failover.GiveClosing {
		x.before = c.look(n)
	}
	if was.Give.Stage != failover.GiveRollingBack || now.Give.Stage != failover.GiveFailed ||
		now.State != failover.Active || !allWell(now.Steps) {
		return
	}
	c.rolledBack++
	after := c.look(n)
	// A unit that the promotion still lacked may have been started meanwhile.
	x.before.unit = x.before.unit || after.unit
	if x.before != after && !c.databaseFault(n) && (n.strayed == 0 || c.w.now-n.strayed > strayExcuse) {
		c.w.fail("rollback", "%s rolled back and is not as before: was %+v, is %+v", n.label, x.before, after)
	}
}

// appearance is what a roll-back restores.
type appearance struct {
	holds, open, unit bool
	file              string
}

func (c *checker) look(n *node) appearance {
	a := appearance{holds: n.kernel.own() || n.kernel.missed(), open: true, unit: n.unit, file: n.file}
	for _, db := range n.dbs {
		a.open = a.open && !db.readOnly
	}
	return a
}

func (c *checker) databaseFault(n *node) bool {
	for _, db := range n.dbs {
		if !db.up || db.hung || db.faulted > c.w.now-UndoBound {
			return true
		}
	}
	return false
}

func allWell(steps []hooks.Result) bool {
	for _, s := range steps {
		if !s.Outcome.OK() {
			return false
		}
	}
	return true
}
