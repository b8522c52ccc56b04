package sim

import (
	"time"

	"github.com/tanist-ha/tanist/internal/failover"
)

// What two nodes that were both Active say of their writes, held against the truth.

const (
	// wroteBound is how long after the first write a node that is Active may say that
	// there was none: two measurements, one of which a database may keep waiting.
	wroteBound = 5 * time.Second
	// admitBound is how long a standby beside a well Active may keep to itself that its
	// databases have what the Active's lack: a look a second, three seconds of doubt.
	admitBound = 15 * time.Second
)

// writesFrom notes where the databases of a node are as it gets the address.
func (c *checker) writesFrom(n *node) {
	x := &c.nodes[n.i]
	x.base, x.wroteAt = x.base[:0], -1
	for _, db := range n.dbs {
		x.base = append(x.base, db.history.len())
	}
}

// wrote reports whether a database of a node took writes since its promotion, as of
// when the world last looked: a checker that brought it to now would change it.
func (c *checker) wrote(n *node) bool {
	x := &c.nodes[n.i]
	for d, db := range n.dbs {
		if d < len(x.base) && len(db.history) > 0 && db.history.len() > x.base[d] && db.history[len(db.history)-1].server == db.server() {
			return true
		}
	}
	return false
}

// saysWrites holds what an Active says of its writes against the truth.
func (c *checker) saysWrites(n *node, now *failover.PeerState) {
	w, x := c.w, &c.nodes[n.i]
	if w.setup.Databases == 0 || now.State != failover.Active || !n.kernel.own() || now.ActiveEpoch != x.epoch || len(x.base) == 0 {
		return
	}
	// What cannot be read, or by a daemon that stands still, does not count as known.
	if !c.measurable(n) || w.now-x.toldAt > failover.LinkPatience {
		x.readable = w.now
	}
	x.toldAt = w.now
	wrote := c.wrote(n)
	if wrote && x.wroteAt < 0 {
		x.wroteAt = w.now
	}
	switch {
	case now.Wrote == failover.WroteYes && !wrote && x.beganLife == n.life:
		w.fail("wrote", "%s says that its databases took writes since its promotion, and they did not", n.label)
	case now.Wrote == failover.WroteNo && wrote && w.now-max(x.wroteAt, x.readable) > wroteBound:
		w.fail("wrote", "%s says that its databases took no writes since its promotion, and they did %s ago", n.label, w.now-x.wroteAt)
	}
}

// measurable reports whether every database of a node could be read for a while.
func (c *checker) measurable(n *node) bool {
	for _, db := range n.dbs {
		if !db.up || db.hung || c.w.now-db.faulted < wroteBound {
			return false
		}
	}
	return true
}

// yieldsRightly is about two Actives of one epoch that could speak: it is not the one
// that took the writes, alone and by both nodes' word, that gives way.
func (c *checker) yieldsRightly(n *node, now *failover.PeerState) {
	w, p := c.w, n.peer()
	if now.Why.Reason == failover.PeerWrote && now.State == failover.Demoting && n.state.State == failover.Active {
		w.contests++
	}
	if now.Why.Reason != failover.StrongerPeer || now.State != failover.Demoting || n.state.State != failover.Active || w.setup.Databases == 0 {
		return
	}
	if now.ActiveEpoch != p.state.ActiveEpoch || w.net.joined < 0 || n.word == 0 || n.when(n.word) < w.net.joined {
		return
	}
	if c.wrote(n) && !c.wrote(p) && n.state.Wrote == failover.WroteYes && p.state.Wrote == failover.WroteNo {
		w.fail("yields", "%s took writes in epoch %d and gives way to %s, which took none", n.label, now.ActiveEpoch, p.label)
	}
}

// admits reports whether a standby says, with all of it, that one of its databases has
// what the Active's lacks. An operator waits for that before the copy is made again.
func (c *checker) admits(n *node, d int) bool {
	w, x, p := c.w, &c.nodes[n.i], n.peer()
	db := n.dbs[d]
	beyond := db.history.beyond(p.dbs[d].history)
	if n.state.State == failover.Conflict && x.diverged[w.setup.dbNames[d]] > 0 {
		if told := x.diverged[w.setup.dbNames[d]]; told < beyond && !db.writable() {
			w.fail("divergence", "%s says that %s has %d transactions to itself, it has %d", n.label, w.setup.dbNames[d], told, beyond)
		}
		x.differs = -1
		w.conflicts++
		return true
	}
	if x.differs < 0 || w.now-x.differsAt > 2*operateEvery { // it was not looked at in between
		x.differs = w.now
	}
	x.differsAt = w.now
	if from := max(x.differs, c.disturbed, w.net.joined); w.now-from > admitBound && c.measurable(n) && c.measurable(p) {
		w.fail("divergence", "%s of %s has %d transactions that %s lacks, and %s is %s (%s)",
			w.setup.dbNames[d], n.label, beyond, p.label, n.label, n.state.State, why(n.state.Why))
	}
	return false
}
