package sim

import (
	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
)

// What must be true when the faults scenario is over.

// finally is the liveness at the end, everything healed: one holder that serves,
// or two nodes that say why not, and the truth agrees.
func (c *checker) finally() {
	w := c.w
	holder := -1
	for i, n := range w.nodes {
		if n.kernel.holds() {
			if holder >= 0 {
				w.fail("liveness", "both nodes have the address at the end")
				return
			}
			holder = i
		}
	}
	if holder < 0 {
		c.justified()
		return
	}
	h, s := w.nodes[holder], w.nodes[1-holder]
	if h.state.State != failover.Active || s.state.State != failover.Backup && s.state.State != failover.Refused {
		w.fail("liveness", "%s has the address and is %s, %s is %s: %+v", h.label, h.state.State, s.label, s.state.State, s.state.Why)
	}
	for i := range w.setup.dbNames {
		if !h.dbs[i].writable() {
			w.fail("liveness", "%s of the holder does not take writes", w.setup.dbNames[i])
		}
		if !s.dbs[i].readOnly {
			w.fail("liveness", "%s of the standby takes writes", w.setup.dbNames[i])
		}
	}
	c.dressed(h, s)
}

// dressed is about units and labels at the end.
func (c *checker) dressed(h, s *node) {
	// What somebody started on the standby keeps the holder from starting its own.
	byHand := s.unit && s.reports("lsyncd")
	if len(c.w.setup.Demote.Units(hooks.StopUnit)) > 0 && (!h.unit && !h.reports("lsyncd") && !byHand || s.unit && !byHand) {
		c.w.fail("liveness", "lsyncd runs on %s: %v, on %s: %v", h.label, h.unit, s.label, s.unit)
	}
	for _, st := range c.w.setup.Promote {
		if _, ok := st.Action.(hooks.YAML); ok && (h.file != h.label && !h.reports("label") || s.file != h.label && !s.reports("label")) {
			c.w.fail("liveness", "%s is Active, the label file of %s says %q, that of %s %q", h.label, h.label, h.file, s.label, s.file)
		}
	}
}

// justified looks whether two nodes that both refuse have to: the truth must be
// that their databases do not have the same transactions.
func (c *checker) justified() {
	w := c.w
	for _, n := range w.nodes {
		if n.state.State != failover.Refused {
			w.fail("liveness", "nobody has the address and %s is %s: %s", n.label, n.state.State, why(n.state.Why))
			return
		}
	}
	for i := range w.setup.dbNames {
		a, b := w.nodes[0].dbs[i].history, w.nodes[1].dbs[i].history
		if !a.gtid().Equal(b.gtid()) {
			c.refused++
			return
		}
	}
	w.fail("liveness", "both nodes refuse and their databases are the same: %s; %s",
		why(w.nodes[0].state.Why), why(w.nodes[1].state.Why))
}
