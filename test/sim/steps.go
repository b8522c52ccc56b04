package sim

import (
	"slices"
	"strings"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
)

// Steps are carried out here as the executor does: one that ends says how, one
// that hangs ends with its deadline or its cancellation, and a deaf one answers
// to neither.

type stepMode uint8

const (
	stepWell stepMode = iota
	stepFails
	stepHangs
	stepDeaf
)

// stepFault is what becomes of the next step of a kind.
type stepFault struct {
	mode stepMode
	kind string // as Action.Kind says; "": any
}

type step struct {
	order  hooks.StartStep
	action hooks.Action
	vars   hooks.Vars
	mode   stepMode
	cancel bool
	ended  bool // its daemon is gone, amid it
	began  time.Duration

	cancelled time.Duration
}

// deafFor is how long a step goes on that nobody can end.
const deafFor = 70 * time.Second

const stepLook = 20 * time.Millisecond

func (n *node) startStep(e failover.StartStep) {
	w := n.w
	s := &step{order: e.Order, vars: e.Vars, began: w.now}
	w.check.starts(n, s)
	var err error
	if s.action, err = hooks.Expand(e.Order.Step.Action, e.Vars); err != nil {
		w.fail("expand", "%s: %s: %v", n.label, e.Order.Step.Name, err)
		return
	}
	if f := n.fault; f.mode != stepWell && !mends(e) && (f.kind == "" || f.kind == s.action.Kind()) {
		s.mode = f.mode
		n.fault = stepFault{}
		w.say(n.i, "step %s is going to %s", e.Order.Step.Name, [...]string{"", "fail", "hang", "be deaf"}[f.mode])
	}
	if isFence(e.Order.Step) && !w.healing && w.chance(w.setup.FenceFails) {
		s.mode = stepMode(1 + w.rng.IntN(2))
	}
	n.steps = append(n.steps, s)
	after := w.stepTime(e)
	if s.mode == stepDeaf {
		after = deafFor
	}
	n.answerAfter(after, item{kind: kStep, step: e.Order.ID})
	if w.setup.Broken.DoubleStep {
		w.setup.Broken.DoubleStep = false
		n.startStep(e)
	}
}

func (n *node) cancelStep(id hooks.StepID) {
	for _, s := range n.steps {
		if s.order.ID == id {
			s.cancel, s.cancelled = true, n.w.now
			n.w.check.cancels(n, s)
			n.answerAfter(n.w.between(time.Millisecond, 20*time.Millisecond), item{kind: kStep, step: id})
		}
	}
}

// stepDue looks at a step at a time at which it may end.
func (n *node) stepDue(id hooks.StepID) {
	i := slices.IndexFunc(n.steps, func(s *step) bool { return s.order.ID == id })
	if i < 0 {
		return
	}
	s := n.steps[i]
	late := n.clock() >= s.order.Deadline
	if s.mode == stepDeaf && n.w.now < s.began+deafFor {
		return
	}
	out, detail := hooks.Failed, "exit status 1"
	switch {
	case s.cancel:
		out, detail = hooks.Cancelled, ""
	case late:
		out, detail = hooks.TimedOut, "not done in time"
	case s.mode == stepHangs:
		out = hooks.Pending
	case s.mode == stepWell:
		if n.passesIn(s, "is about to be applied") {
			return
		}
		out, detail = n.apply(s)
		if s.ended || out.OK() && n.passesIn(s, "is applied, not told") {
			return
		}
	}
	if out == hooks.Pending {
		n.answerAfter(stepLook, item{kind: kStep, step: id})
		return
	}
	n.steps = slices.Delete(n.steps, i, i+1)
	if out == hooks.Changed && isFence(s.order.Step) {
		n.fences()
	} else if out == hooks.Failed && isFence(s.order.Step) && n.w.setup.Broken.KindFence {
		out, detail = hooks.Changed, ""
	}
	n.step(failover.StepEnded{ID: id, Outcome: out, Detail: detail})
}

// apply makes it so; Pending when it is not done yet.
func (n *node) apply(s *step) (hooks.Outcome, string) {
	if n.w.setup.Broken.NoUndo && strings.HasPrefix(s.order.Step.Name, "undo ") {
		return hooks.Changed, ""
	}
	switch a := s.action.(type) {
	case hooks.Writes:
		return n.writes(s, a)
	case hooks.Replication:
		return n.replication(s, a)
	case hooks.Unit:
		run := a.Verb == hooks.StartUnit || a.Verb == hooks.RestartUnit
		if n.unit == run {
			return hooks.Unchanged, ""
		}
		if !n.w.setup.Broken.KeepUnit || run {
			n.unit = run
		}
	case hooks.YAML:
		if n.file == a.Value {
			return hooks.Unchanged, ""
		}
		n.file = a.Value
	case hooks.Exec, hooks.VIP, hooks.JSON, hooks.Line, hooks.Link, hooks.Notify, hooks.Wait:
	}
	return hooks.Changed, ""
}

func (n *node) writes(s *step, a hooks.Writes) (hooks.Outcome, string) {
	out := hooks.Unchanged
	if !a.Open && n.w.setup.Broken.KeepWrites {
		return out, ""
	}
	for _, db := range n.dbs {
		if !db.up && !a.Open {
			continue // nobody writes to it
		}
		if !db.up {
			return hooks.Failed, "connect: connection refused"
		}
		if db.hung {
			return hooks.Pending, ""
		}
		if db.readOnly == a.Open {
			if n.amid(s, out) {
				return hooks.Cancelled, ""
			}
			db.setReadOnly(!a.Open)
			out = hooks.Changed
		}
	}
	return out, ""
}

func (n *node) replication(s *step, a hooks.Replication) (hooks.Outcome, string) {
	out := hooks.Unchanged
	for _, db := range n.dbs {
		if !db.up {
			return hooks.Failed, "connect: connection refused"
		}
		if db.hung {
			return hooks.Pending, ""
		}
		n.w.settle(db.index)
		if n.amid(s, out) {
			return hooks.Cancelled, ""
		}
		did, why := hooks.Unchanged, ""
		switch a.Verb {
		case hooks.StopReplication:
			did, why = db.stop()
		case hooks.StartReplication:
			did = db.start()
		case hooks.FollowPeer:
			did, why = db.followPeer()
		case hooks.ResetReplication:
			did, why = db.reset()
		case hooks.NoReplication:
		}
		if did == hooks.Failed || did == hooks.Pending {
			return did, why
		}
		if did == hooks.Changed {
			out = did
		}
	}
	return out, ""
}

func (d *database) stop() (hooks.Outcome, string) {
	switch {
	case !d.channel || !d.io && !d.sql:
		return hooks.Unchanged, ""
	case d.broken:
		return hooks.Failed, "SQL thread stopped with an error"
	case d.relay.len() > d.history.len() && !d.w.setup.Broken.HastyReplica:
		return hooks.Pending, ""
	}
	d.stopThreads()
	return hooks.Changed, ""
}

func (d *database) start() hooks.Outcome {
	if !d.channel || d.io && d.sql {
		return hooks.Unchanged
	}
	d.io, d.sql = true, true
	d.relay = append(d.relay[:0:0], d.history...)
	return hooks.Changed
}

// followPeer is the step replication: follow with its checks.
func (d *database) followPeer() (hooks.Outcome, string) {
	source := d.w.nodes[1-d.node.i].dbs[d.index]
	d.w.settle(d.index)
	switch {
	case !d.connected(source):
		return hooks.Failed, "connect to the source: no route to host"
	case !d.history.within(source.history):
		return hooks.Failed, "it has transactions that the source lacks"
	case d.channel && d.io && d.sql && !d.broken && d.relay.within(source.history):
		return hooks.Unchanged, ""
	case !d.readOnly:
		return hooks.Failed, "writes are open"
	}
	d.follow()
	return hooks.Changed, ""
}

func (d *database) reset() (hooks.Outcome, string) {
	switch {
	case !d.channel:
		return hooks.Unchanged, ""
	case d.io || d.sql:
		return hooks.Failed, "threads run"
	}
	d.channel = false
	return hooks.Changed, ""
}

// cannot is the dry run.
func (n *node) cannot(e failover.CheckSteps) []string {
	var cannot []string
	for _, s := range e.Plan {
		if _, ok := s.Action.(hooks.Writes); !ok {
			continue
		}
		for _, db := range n.dbs {
			if !db.up || db.hung {
				cannot = append(cannot, s.Name+": the database does not answer")
			}
		}
	}
	return cannot
}
