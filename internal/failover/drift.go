package failover

import (
	"slices"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/replication"
)

// thinkDrift keeps writes and replica threads as the role wants them: a database
// that was restarted comes back closed on the Active, or starts to replicate again,
// and somebody may open one on the standby.
func (o *Orchestrator) thinkDrift() {
	if o.busy() || o.bid != nil || o.giving() || o.taking() || o.now.Before(o.assertAt) {
		return
	}
	plan, role := hooks.Plan(nil), hooks.Standby
	switch {
	case o.state == Active && o.nextRun == nil:
		plan, role = o.activeDrift(), hooks.Active
	case o.role == hooks.Standby && (o.state != Conflict || o.standsBy()) && (o.standbyDrifted() || o.eventsDrifted()):
		plan = writesOf(o.cfg.Demote, false)
	}
	if len(plan) == 0 {
		return
	}
	o.assertAt = o.now.Add(retryDelay)
	r := &planRun{purpose: asserting, role: role, reason: Drifted, plan: plan, to: len(plan)}
	if role == hooks.Active {
		r.epoch = o.activeEpoch
		r.vars = o.vars(o.cfg.Node, hooks.OnPromote, Drifted, r.epoch)
		if slices.ContainsFunc(plan, resets) {
			r.belongs = o.lastTold()
		}
	} else {
		r.epoch = o.epoch // of the Active that it stands by for
		r.vars = o.vars("", hooks.OnDemote, Drifted, r.epoch)
	}
	if o.run != nil && r.role == hooks.Standby {
		o.emit(CloseWrites{}) // a repair may hang, and its end as well
	}
	if o.nextRun == nil {
		o.startRun(r)
	}
}

// settledFacts returns what is known of a database since the latest plan ended,
// if it answers.
func (o *Orchestrator) settledFacts(i int) (replication.Facts, bool) {
	f := o.databases[i].Facts
	return f, f.Reach == replication.Reachable && f.MeasuredAt.After(o.calm)
}

// activeDrift returns the steps that make the databases of an Active those of a
// source again. One that replicates is stopped first; where the plan of the
// promotion leaves replication alone, nothing is opened beside it.
func (o *Orchestrator) activeDrift() hooks.Plan {
	closed, follower, channel := false, false, false
	for i := range o.databases {
		f, ok := o.settledFacts(i)
		if !ok {
			continue
		}
		channels, listed := f.Channels.Get()
		readOnly, known := f.ReadOnly.Get()
		if !listed || !known {
			continue
		}
		follower = follower || follows(channels)
		channel = channel || len(channels) > 0
		closed = closed || readOnly
	}
	if !closed && !channel {
		return nil
	}
	stops, opens := repaired(stopsOf(o.cfg.Promote)), repaired(writesOf(o.cfg.Promote, true))
	switch {
	case follower && len(stops) == 0:
		return nil
	case follower:
		return append(stops, opens...)
	case closed:
		return opens
	case channel && len(stops) > 0 && o.reset != o.activeEpoch:
		// A stopped channel would start with its database. Removing it takes time
		// that a promotion does not have.
		o.reset = o.activeEpoch
		return hooks.Plan{{
			Name: "replication reset", Timeout: hooks.DefaultTimeout, Action: hooks.Replication{Verb: hooks.ResetReplication},
		}}
	}
	return nil
}

// standbyDrifted reports whether a database that answers takes writes.
func (o *Orchestrator) standbyDrifted() bool {
	for i := range o.databases {
		f, ok := o.settledFacts(i)
		if readOnly, known := f.ReadOnly.Get(); ok && known && !readOnly {
			return true
		}
	}
	return false
}

// eventsDrifted reports whether the event scheduler of a database that answers runs:
// its events may write in spite of read-only. What cannot be stopped is tried ever
// later, and does not hold up the closing of others.
func (o *Orchestrator) eventsDrifted() bool {
	run, known := false, false
	for i := range o.databases {
		f, ok := o.settledFacts(i)
		on, said := f.EventScheduler.Get()
		run, known = run || ok && said && on, known || ok
	}
	switch {
	case known && !run:
		o.eventsAt, o.eventsWait = 0, 0
		return false
	case !run || o.now.Before(o.eventsAt):
		return false
	}
	o.eventsWait = min(max(2*o.eventsWait, retryDelay), settleMost)
	o.eventsAt = o.now.Add(o.eventsWait)
	return true
}

// repaired leaves out the steps whose drift is only told.
func repaired(p hooks.Plan) hooks.Plan {
	return slices.DeleteFunc(p, func(s hooks.Step) bool { return !s.Repairs() })
}

func resets(s hooks.Step) bool {
	a, ok := s.Action.(hooks.Replication)
	return ok && a.Verb == hooks.ResetReplication
}

func writesOf(p hooks.Plan, open bool) hooks.Plan {
	var q hooks.Plan
	for _, s := range p {
		if w, ok := s.Action.(hooks.Writes); ok && w.Open == open {
			q = append(q, s)
		}
	}
	return q
}

// stopsOf returns the steps of a promotion that stop replication.
func stopsOf(p hooks.Plan) hooks.Plan {
	var q hooks.Plan
	for _, s := range p {
		if r, ok := s.Action.(hooks.Replication); ok && r.Verb == hooks.StopReplication {
			q = append(q, s)
		}
	}
	return q
}
