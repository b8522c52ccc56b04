package failover

import (
	"slices"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/replication"
)

// Drift that is to be repaired is repaired by the steps that drifted, in the order
// of their plan. Against somebody who changes the same thing again and again nobody
// wins: the pauses grow, and an operator is told.

const (
	// mendWindow is how long a repair is remembered; mendMost in it are a contest.
	mendWindow = 10 * time.Minute
	mendMost   = 3
)

// thinkMend begins a repair, and reports whether it did.
func (o *Orchestrator) thinkMend() bool {
	d := &o.drift
	var plan hooks.Plan
	for _, s := range d.plan {
		x := d.stray(s.Name)
		if x == nil || !x.on || !s.Repairs() || x.Outcome != hooks.Changed || o.now.Before(x.mendAt) {
			continue
		}
		if d.role == hooks.Active && o.keptBack(s) {
			o.awaits(x)
			continue
		}
		x.Repair = Repairing
		x.tried, x.wait = o.now, min(max(2*x.wait, failureDelay), settleMost)
		x.mendAt = o.now.Add(x.wait)
		plan = append(plan, s)
	}
	if len(plan) == 0 {
		return false
	}
	o.startRun(&planRun{
		purpose: mending, plan: plan, to: len(plan), role: d.role, epoch: d.epoch, reason: Drifted, vars: d.vars, belongs: o.last,
	})
	return true
}

// awaits notes that a unit may still run on the peer; a peer that does not speak is
// asked for by its kernel.
func (o *Orchestrator) awaits(x *stray) {
	if x.Repair != Awaiting {
		x.Repair = Awaiting
		o.driftChanged()
	}
	o.askGone()
}

// mended notes how a repair ended.
func (o *Orchestrator) mended(r *planRun) {
	d := &o.drift
	for _, res := range r.run.Results() {
		x := d.stray(res.Name)
		if x == nil || r.role != d.role || r.epoch != d.epoch {
			continue
		}
		switch {
		case res.Outcome == hooks.Changed:
			x.failed = ""
			o.noteMended(x)
		case res.Outcome.OK():
			x.failed = ""
		case res.Outcome == hooks.Failed, res.Outcome == hooks.TimedOut, res.Outcome == hooks.Lost:
			x.failed = res.Detail
			if x.failed == "" {
				x.failed = res.Outcome.String()
			}
		}
	}
	d.at = o.now.Add(checkAgain)
	o.driftChanged()
}

// noteMended counts a repair that did, and tells of a contest once.
func (o *Orchestrator) noteMended(x *stray) {
	x.mended = slices.DeleteFunc(x.mended, func(at mono.Instant) bool { return o.now.Sub(at) > mendWindow })
	if len(x.mended) == mendMost {
		x.mended = slices.Delete(x.mended, 0, 1)
	}
	x.mended = append(x.mended, o.now)
	if len(x.mended) == mendMost && !x.contest {
		x.contest = true
		o.emit(Note{State: o.state, Epoch: o.drift.epoch, Why: Why{
			Reason: Drifted, Detail: x.Step + ": somebody else keeps changing it, and it is repaired ever later",
		}, Urgent: true})
	}
}

// lookAtDatabases adds the steps that the facts of the databases contradict: they
// are put right by thinkDrift, unless they are only to be told of.
func (o *Orchestrator) lookAtDatabases() {
	active := o.drift.role == hooks.Active
	plan := o.cfg.Demote
	if active {
		plan = o.cfg.Promote
	}
	for _, s := range plan {
		var bad, unknown []string
		switch a := s.Action.(type) {
		case hooks.Writes:
			bad, unknown = o.databasesThat(func(f replication.Facts) (is, known bool) {
				readOnly, known := f.ReadOnly.Get()
				return readOnly == a.Open, known
			})
		case hooks.Replication:
			if a.Verb != hooks.StopReplication {
				continue
			}
			bad, unknown = o.databasesThat(func(f replication.Facts) (is, known bool) {
				channels, known := f.Channels.Get()
				return follows(channels), known
			})
		default:
			continue
		}
		o.foundDatabases(s, bad, unknown)
	}
}

// foundDatabases notes which databases contradict a step. One that did and does not
// answer now still counts.
func (o *Orchestrator) foundDatabases(s hooks.Step, bad, unknown []string) {
	x := o.drift.stray(s.Name)
	still := []string(nil)
	if x != nil {
		still = slices.DeleteFunc(unknown, func(name string) bool { return !contains(x.databases, name) })
	}
	switch {
	case len(bad) > 0:
		o.found(s, hooks.Changed, databaseWords(s.Action)+listed(bad))
		o.drift.stray(s.Name).databases = append(still, bad...)
	case len(still) == 0:
		o.found(s, hooks.Unchanged, "")
	}
}

// databasesThat returns the databases that are so, and those of which it is not known.
func (o *Orchestrator) databasesThat(are func(replication.Facts) (is, known bool)) (so, unknown []string) {
	for i := range o.databases {
		name := o.databases[i].Name
		f, ok := o.settledFacts(i)
		is, known := are(f)
		switch {
		case !ok || !known:
			unknown = append(unknown, name)
		case is:
			so = append(so, name)
		}
	}
	return so, unknown
}

func databaseWords(a hooks.Action) string {
	switch a := a.(type) {
	case hooks.Writes:
		if a.Open {
			return "read-only: "
		}
		return "takes writes: "
	default:
		return "replicates: "
	}
}
