package sim

import (
	"slices"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
)

// Drift: what somebody does to a host behind the daemon's back, the looks that find
// it, and what must have become of it. All of it draws from a stream of its own.

const (
	straysMost = 3
	// strayUntil is how long before the end the last one comes: it is found within
	// two rounds, and a third repair waits longer than the first.
	strayUntil = 60 * time.Second
	// strayExcuse is for how long somebody's doing explains that a host is not as it
	// was.
	strayExcuse = 90 * time.Second
)

// beside is between, of the other stream.
func (w *World) beside(low, high time.Duration) time.Duration {
	return low + time.Duration(w.side.Int64N(int64(high-low)))
}

// stepTime is how long a step takes. A repair is nothing that old seeds knew.
func (w *World) stepTime(e failover.StartStep) time.Duration {
	if mends(e) {
		w.mends++
		return w.beside(time.Millisecond, w.setup.StepTime)
	}
	return w.between(time.Millisecond, w.setup.StepTime)
}

func mends(e failover.StartStep) bool {
	switch e.Order.Step.Action.(type) {
	case hooks.YAML, hooks.Unit:
		return e.Vars.Reason == failover.Drifted.String()
	default:
		return false
	}
}

// checkSteps is a dry run.
func (n *node) checkSteps(e failover.CheckSteps) {
	if e.Each > 0 {
		n.look(e)
		return
	}
	n.answer(n.w.between(time.Millisecond, 20*time.Millisecond), failover.Checked{ID: e.ID, Cannot: n.cannot(e)})
}

// look is a round of checks of a role that lasts.
func (n *node) look(e failover.CheckSteps) {
	ev := failover.Checked{ID: e.ID}
	for _, s := range e.Plan {
		res := hooks.Result{Name: s.Name, Title: hooks.Title(s.Action), Outcome: hooks.Changed}
		action, err := hooks.Expand(s.Action, e.Vars)
		if err != nil {
			n.w.fail("expand", "%s: %s: %v", n.label, s.Name, err)
			return
		}
		switch a := action.(type) {
		case hooks.Unit:
			if n.unit == (a.Verb == hooks.StartUnit) {
				res.Outcome = hooks.Unchanged
			}
		case hooks.YAML:
			if n.file == a.Value {
				res.Outcome = hooks.Unchanged
			}
			ev.Labels = append(ev.Labels, failover.Label{Step: s.Name, File: a.File, Key: a.Key, Value: n.file, Wanted: a.Value})
		case hooks.VIP, hooks.Writes, hooks.Replication, hooks.Exec, hooks.JSON, hooks.Line,
			hooks.Link, hooks.Notify, hooks.Wait:
			n.w.fail("drift", "%s looks at %s, which leaves nothing to look at", n.label, res.Title)
			return
		}
		if n.w.setup.Broken.BlindLook {
			res.Outcome = hooks.Unchanged
		}
		ev.Results = append(ev.Results, res)
	}
	n.answer(n.w.beside(time.Millisecond, 20*time.Millisecond), ev)
}

// mayRepair draws whether the plans repair what drifts.
func (w *World) mayRepair(plans ...hooks.Plan) {
	if w.side.IntN(2) == 0 {
		return
	}
	for _, p := range plans {
		for i := range p {
			switch p[i].Action.(type) {
			case hooks.YAML, hooks.Unit:
				p[i].Drift = hooks.RepairDrift
			default:
			}
		}
	}
}

// strays lets somebody change a label or a unit now and then.
func (f *faults) strays(from, to time.Duration) {
	w := f.w
	if len(w.setup.Demote.Units(hooks.StopUnit)) == 0 {
		return
	}
	for range w.side.IntN(straysMost + 1) {
		i, what := w.side.IntN(2), w.side.IntN(len(labels)+1)
		w.schedule(w.beside(from, to), item{kind: kScript, do: func() { w.nodes[i].stray(what) }})
	}
}

// stray is what somebody does on a host.
func (n *node) stray(what int) {
	if !n.up || n.frozen {
		return
	}
	n.strayed = n.w.now
	if what < len(labels) {
		n.file = labels[what]
		n.w.say(n.i, "somebody writes %q into the label file", n.file)
		return
	}
	n.unit = !n.unit
	n.strayUnit = n.unit
	n.w.say(n.i, "somebody makes lsyncd run: %t", n.unit)
}

// byHand reports whether a unit runs because somebody started it, and nobody has
// been told to stop it since.
func (n *node) byHand() bool {
	n.strayUnit = n.strayUnit && n.unit
	return n.strayUnit
}

// reports says whether status and peer are told of the drift of a step that is not
// to be repaired.
func (n *node) reports(step string) bool {
	told := slices.ContainsFunc(n.state.Drift, func(d failover.Drift) bool {
		return d.Step == step && d.Repair == failover.ReportOnly && d.Outcome == hooks.Changed
	})
	if told {
		n.w.untouched++
	}
	return told
}
