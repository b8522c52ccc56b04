package failover

import (
	"strings"
	"time"

	"github.com/tanist-ha/tanist/health"
	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/replication"
)

// What health checks do to the role. A failing check of effect fault forbids this
// node the address; one of effect yield asks the peer to take it and leaves it
// where it is when the peer cannot. A check that flaps, and one without a sample,
// only keeps planned moves away from its node: neither may cost a service that
// nobody else can give.

const (
	// samplePatience is for how long after its start a node leaves a role that
	// nobody has alone, while its peer is there, for the first samples of the checks
	// that could forbid it the address.
	samplePatience = 3 * time.Second
	// staysAgain is the shortest time between two lines in the log about a role that
	// stays where a check does not want it.
	staysAgain = time.Minute
)

func unhealthy(s health.Status) Why {
	return Why{Reason: Unhealthy, Check: s.Check.Name, Detail: s.String()}
}

// probed counts a sample, and says when a check begins to flap or flaps on.
func (o *Orchestrator) probed(ev Probed) {
	s, changed := o.board.Sample(o.now, ev.Check, ev.OK, ev.Detail)
	if !changed {
		return
	}
	o.verdicts++
	o.dirty = true
	if s.Verdict == health.Flapping {
		o.noteFlap(s)
	}
	o.uncondone()
}

func (o *Orchestrator) tickHealth() {
	if o.board.Tick(o.now) {
		o.verdicts++
		o.dirty = true
		o.uncondone()
	}
}

// noteFlap says that a check flaps once for each length of the time that it is held
// back for: there are few of them, and it may go on for ever.
func (o *Orchestrator) noteFlap(s health.Status) {
	said := o.flapSaid[s.Check.Name]
	if said == s.Hold {
		return
	}
	if o.flapSaid == nil {
		o.flapSaid = map[string]time.Duration{}
	}
	o.flapSaid[s.Check.Name] = s.Hold
	o.emit(Note{State: o.state, Epoch: o.epoch, Why: unhealthy(s)})
}

// thinkHealth lets an Active that may not have the address go of it, and begins and
// ends the Fault of a standby.
func (o *Orchestrator) thinkHealth() {
	w, faulty := o.fault()
	switch {
	case faulty && o.role == hooks.Active && o.staysInPlace():
	case faulty && o.role == hooks.Active:
		o.stepDown(w, hooks.OnFault)
	case faulty && (o.state == Backup || o.state == Fault) && !o.busy() && o.bid == nil && !o.taking():
		o.enter(Fault, w)
	case !faulty && o.state == Fault:
		o.enter(Backup, Why{Reason: Recovered})
	}
}

// fitness is what the gate is told of the checks. What forbids the address closes it
// for every cause. A planned move also wants every check sampled and none that counts
// as failing; a takeover does not ask, since a sick holder is better than none.
func (o *Orchestrator) fitness(cause replication.Cause) (replication.Health, string) {
	w, faulty := o.fault()
	if faulty && w.Reason != Unhealthy {
		return replication.HealthBad, w.Detail
	}
	unfit := o.board.Unfit()
	strict := cause == replication.Planned && (!o.taking() || !o.take.give.leaves())
	if faulty || strict && len(unfit) > 0 {
		texts := make([]string, 0, len(unfit))
		for _, s := range unfit {
			texts = append(texts, s.String())
		}
		return replication.HealthBad, "health check fails: " + strings.Join(texts, "; ")
	}
	if s, unsampled := o.board.Unsampled(); unsampled && strict {
		return replication.HealthUnknown, "health check without a sample yet: " + s.Check.Name
	}
	return replication.HealthGood, ""
}

// leaves reports whether the old node gives the role up, or cannot serve, in any case:
// then a new node on which a check fails that does not forbid it the address is better
// than none. A database that is back once its node is closed changes nothing.
func (g Give) leaves() bool {
	return g.Cause == Stopping || g.Cause == DatabaseDown || len(g.Lost) > 0
}

// unfitToTake reports whether this node must not go on taking the role over: until its
// plan begins for every check that counts as failing, then only for what forbids it
// the address.
func (o *Orchestrator) unfitToTake() (Why, bool) {
	if w, faulty := o.fault(); faulty {
		return w, true
	}
	t := o.take
	if t.view.Stage >= TakePromoting || t.give.Force || t.give.leaves() {
		return Why{}, false
	}
	if unfit := o.board.Unfit(); len(unfit) > 0 {
		return unhealthy(unfit[0]), true
	}
	return Why{}, false
}

// onlyUnfit reports whether nothing but its checks keeps a peer that would take the
// role from a planned move.
func onlyUnfit(gate []replication.Reason) bool {
	for _, r := range gate {
		if r.Code != replication.Unhealthy {
			return false
		}
	}
	return true
}

// awaitsSample reports whether a bid waits for what a check that may forbid this
// node the address says first: a peer that speaks may be the better one.
func (o *Orchestrator) awaitsSample() bool {
	return o.linkFresh() && o.now.Sub(o.begun) < samplePatience && o.board.Awaits(health.Fault)
}

// yielding is the wish of a failing check that the role moves.
type yielding struct {
	at       mono.Instant  // no attempt before this
	wait     time.Duration // the latest time between two attempts that were taken back
	failed   Why           // why the latest attempt came to nothing
	said     Why           // what the log was told
	saidAt   mono.Instant  // 0: nothing yet
	condoned []string      // checks that an operator overrode, until they are well again
}

// longer returns the time to the next attempt after one that was taken back: it
// closed the writes for a while.
func (y *yielding) longer() time.Duration {
	y.wait = min(max(2*y.wait, failureDelay), settleMost)
	return y.wait
}

// wantsAway returns the check that wants the role to move.
func (o *Orchestrator) wantsAway() (health.Status, bool) {
	for _, s := range o.board.Unfit() {
		if s.Check.Effect == health.Yield && !contains(o.yielding.condoned, s.Check.Name) {
			return s, true
		}
	}
	return health.Status{}, false
}

// condone lets the role stay although checks that fail now want it to move: an
// operator put it here and said why.
func (o *Orchestrator) condone() {
	o.yielding.condoned = nil
	for _, s := range o.board.Unfit() {
		o.yielding.condoned = append(o.yielding.condoned, s.Check.Name)
	}
}

// recondone lets it stay for what was condoned before, as far as it fails still.
func (o *Orchestrator) recondone(checks []string) {
	o.yielding.condoned = checks
	o.uncondone()
}

// uncondone forgets those that are well again.
func (o *Orchestrator) uncondone() {
	var still []string
	for _, s := range o.board.Unfit() {
		if contains(o.yielding.condoned, s.Check.Name) {
			still = append(still, s.Check.Name)
		}
	}
	o.yielding.condoned = still
}

// thinkYield moves the role to a peer that is well and promotable, or says what is
// in the way. The peer decides anew when it is asked.
func (o *Orchestrator) thinkYield() {
	y := &o.yielding
	if o.role != hooks.Active {
		y.condoned = nil
	}
	s, away := o.wantsAway()
	if !away {
		*y = yielding{condoned: y.condoned, said: y.said, saidAt: y.saidAt}
		return
	}
	if o.state != Active || o.giving() || o.stopping {
		return
	}
	w := o.inTheWay()
	if w.Reason == Starting && !o.now.Before(y.at) && (!o.busy() || o.run.purpose == asserting) {
		y.at = o.now.Add(failureDelay)
		o.beginGive(&giving{cause: Unhealthy, sick: s.Check.Name, detail: s.String(), until: o.now.Add(o.cfg.DrainTimeout + prepareTime)})
		return
	}
	if w, stays := o.stays(); stays && !w.same(y.said) && (y.saidAt == 0 || o.now.Sub(y.saidAt) >= staysAgain) {
		y.said, y.saidAt = w, o.now
		o.emit(Note{State: o.state, Epoch: o.epoch, Why: w, Gate: w.Gate, Urgent: true})
	}
}

// kept notes that an attempt came to nothing, and when the next one may follow.
func (o *Orchestrator) kept(g *giving, w Why, wait time.Duration) {
	w.Check = g.sick
	o.yielding.failed, o.yielding.at = w, o.now.Add(wait)
}

// inTheWay returns what keeps the peer from taking the role over, the zero value for
// nothing.
func (o *Orchestrator) inTheWay() Why {
	p := o.peer.state
	switch {
	case o.maintained():
		return Why{Reason: GateClosed, Gate: o.maintenanceGate()}
	case !o.linkFresh():
		return Why{Reason: PeerUnreachable}
	case len(p.Gate) > 0:
		return Why{Reason: PeerRefused, Gate: p.Gate, Detail: o.cfg.Peer + " is " + p.State.String()}
	case !p.Bids || p.Holds:
		return Why{Reason: PeerRefused, Detail: o.cfg.Peer + " is " + p.State.String() + ": " + p.Why.Reason.String()}
	}
	return Why{}
}

// stays returns why the role stays here though a check wants it to move.
func (o *Orchestrator) stays() (Why, bool) {
	if w, stays := o.inPlace(); stays {
		return w, true
	}
	s, away := o.wantsAway()
	if !away || o.state != Active || o.giving() {
		return Why{}, false
	}
	w := o.inTheWay()
	if w.Reason == Starting {
		w = o.yielding.failed
	}
	w.Check = s.Check.Name
	return w, w.Reason != Starting
}
