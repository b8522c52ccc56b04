package failover

import (
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/vrrp"
)

// While a role lasts the checks of its plan's steps run again and again, beside
// everything else: what somebody else changed since is drift. A transition that
// begins never waits for a check.

const (
	// checkEvery is the time from one round of checks to the next.
	checkEvery = 5 * time.Second
	// checkAgain is when a step is looked at once more whose check says something
	// new: a unit that is restarted is no drift.
	checkAgain = time.Second
	// checkEach bounds the check of one step.
	checkEach = 5 * time.Second
	// strayEvery is how often log and journal tell of the drift of one step, at most.
	strayEvery = time.Minute
)

// Bounds of what is kept of drift and told to the peer.
const (
	driftTold  = 16
	labelsTold = 16
	detailMost = 200 // bytes
)

// Repair says what is done about drift.
type Repair uint8

// What is done about drift.
const (
	ReportOnly Repair = iota // nothing, as configured
	Repairing                // the step is carried out again
	Awaiting                 // and it is, once the peer says that it stopped the unit
	Contested                // somebody else keeps changing it: it is carried out again, ever later
)

func (r Repair) String() string {
	names := [...]string{"report", "repair", "waiting", "contested"}
	if int(r) < len(names) {
		return names[r]
	}
	return fmt.Sprintf("Repair(%d)", uint8(r))
}

// Drift is a step whose check does not find the world as the step left it.
type Drift struct {
	Step    string        // its name
	Kind    string        // the word of the configuration: unit, yaml
	Title   string        // what it does: `unit stop lsyncd.service`
	Outcome hooks.Outcome // Changed: applying it would change something; Failed, TimedOut: it cannot be told or done; Unchanged: it is well just now
	Detail  string
	Since   mono.Instant // by the clock of the node that found it
	Repair  Repair
}

// Label is a key of somebody else's file that a step sets, as its check found it.
type Label struct {
	Step, File, Key string
	Value           string // what the file says, empty with Err
	Wanted          string
	Err             string // why the value cannot be read
}

// stray is a step that drifted or has drifted lately.
type stray struct {
	Drift
	seen    int          // checks in a row that found drift
	well    int          // and that found none
	on      bool         // it counts as drift
	said    bool         // log and journal told that it began
	saidAt  mono.Instant // when they last did
	failed  string       // why the latest repair did not do
	mendAt  mono.Instant // no repair before this
	wait    time.Duration
	tried   mono.Instant   // the latest repair, 0: none
	mended  []mono.Instant // the latest repairs that did, at most mendMost
	contest bool

	databases []string // that it is about
}

// drifting is what is known of the steps of the role that lasts.
type drifting struct {
	role  hooks.Role
	epoch Epoch
	plan  hooks.Plan // its steps that can be checked
	vars  hooks.Vars

	at     mono.Instant // the next round
	id     ID           // of the round that is out, 0: none
	void   bool         // its answer no longer counts
	asked  mono.Instant
	round  hooks.Plan // what it checks
	strays []*stray
	told   []Drift // what the peer is told, never changed in place
	labels []Label // likewise
}

// lasting returns the role that this node has for certain and that nothing is about
// to change, and its epoch.
func (o *Orchestrator) lasting() (hooks.Role, Epoch, bool) {
	if o.stopping || o.bid != nil || o.taking() || o.giving() || o.nextRun != nil || o.run != nil && o.run.purpose != mending {
		return hooks.NoRole, 0, false
	}
	switch o.state {
	case Active:
		alone := o.lease.held && o.lease.calmAt == 0 && o.guard.claimant == "" && !(o.linkFresh() && o.peer.state.Holds)
		return hooks.Active, o.activeEpoch, o.role == hooks.Active && alone
	case Backup, Conflict:
		e, ok := o.activePeer()
		return hooks.Standby, e, ok && o.standsBy() && o.role == hooks.Standby && o.router.State() == vrrp.Backup && o.dressed >= e
	case Initialize, Promoting, Demoting, Fault, Refused:
	}
	return hooks.NoRole, 0, false
}

// thinkStanding begins a round of checks or a repair.
func (o *Orchestrator) thinkStanding() {
	d := &o.drift
	role, epoch, ok := o.lasting()
	if !ok {
		o.voidCheck()
		if o.run != nil && o.run.purpose == mending {
			o.cancelRun()
		}
		if s := o.state; s == Fault || s == Refused || s == Conflict && !o.standsBy() {
			o.newRole(hooks.NoRole, 0)
		}
		return
	}
	if role != d.role || epoch != d.epoch {
		o.newRole(role, epoch)
	}
	switch {
	case o.run != nil || o.thinkMend():
	case d.id != 0:
		if o.now.Sub(d.asked) > time.Duration(len(d.round)+1)*checkEach {
			o.unanswered()
		}
	case !o.now.Before(max(d.at, o.calm.Add(checkAgain))):
		o.checkStanding()
	}
}

// newRole forgets what was found in another role.
func (o *Orchestrator) newRole(role hooks.Role, epoch Epoch) {
	d := &o.drift
	if role == d.role && epoch == d.epoch {
		return
	}
	o.voidCheck()
	plan, vars := hooks.Plan(nil), hooks.Vars{}
	switch role {
	case hooks.Active:
		plan, vars = o.cfg.Promote, o.vars(o.cfg.Node, hooks.OnPromote, Drifted, epoch)
	case hooks.Standby:
		plan, vars = o.cfg.Demote, o.vars(o.cfg.Peer, hooks.OnDemote, Drifted, epoch)
	case hooks.NoRole:
	}
	// Many instances of a host do not look at the same instant.
	first := o.now.Add(checkEvery + time.Duration(o.cfg.Router.VRID)*checkEvery/256)
	*d = drifting{role: role, epoch: epoch, plan: plan.Standing(vars), vars: vars, at: first, id: d.id, void: d.void, asked: d.asked}
	o.dirty = true
}

// voidCheck ends a round that is out. There is never a second one beside it.
func (o *Orchestrator) voidCheck() {
	if d := &o.drift; d.id != 0 && !d.void {
		d.void, d.asked = true, o.now // its end is asked for from now on
		o.emit(CancelCheck{ID: d.id})
	}
}

// checkStanding begins a round.
func (o *Orchestrator) checkStanding() {
	d := &o.drift
	d.round = o.due()
	if len(d.round) == 0 {
		d.at = o.now.Add(checkEvery)
		o.lookAtDatabases()
		o.driftChanged()
		return
	}
	d.id, d.void, d.asked = o.id(), false, o.now
	o.emit(CheckSteps{ID: d.id, Plan: d.round, Vars: d.vars, Each: checkEach})
}

// due leaves out the steps that an incomplete promotion still has before it.
func (o *Orchestrator) due() hooks.Plan {
	if o.drift.role != hooks.Active || o.fixAt == 0 {
		return o.drift.plan
	}
	_, results := o.fixFrom()
	done := map[string]bool{}
	for _, res := range results {
		done[res.Name] = res.Outcome.OK()
	}
	var q hooks.Plan
	for _, s := range o.drift.plan {
		if done[s.Name] {
			q = append(q, s)
		}
	}
	return q
}

// standingChecked takes the answer of a round.
func (o *Orchestrator) standingChecked(ev Checked) {
	d := &o.drift
	if d.id == 0 || ev.ID != d.id {
		return
	}
	void := d.void
	d.id, d.void = 0, false
	if void {
		return
	}
	d.at, d.labels = o.now.Add(checkEvery), bounded(ev.Labels)
	for i, res := range ev.Results {
		if i >= len(d.round) {
			break
		}
		s := d.round[i]
		o.noteUnit(s, res.Outcome)
		o.found(s, res.Outcome, o.whatStrayed(s, res))
	}
	o.lookAtDatabases()
	o.driftChanged()
}

// unanswered is about a round whose answer does not come, as of a file on a server
// that is gone. One that no longer counts keeps the next from being sent all the same.
func (o *Orchestrator) unanswered() {
	d := &o.drift
	d.asked = o.now
	if d.void {
		d.round = o.due()
	}
	for _, s := range d.round {
		o.found(s, hooks.TimedOut, "a check of this plan does not answer")
	}
	o.driftChanged()
}

// noteUnit keeps what this node tells its peer of stopped units as true as it is
// known.
func (o *Orchestrator) noteUnit(s hooks.Step, out hooks.Outcome) {
	u, ok := s.Action.(hooks.Unit)
	if !ok || u.Verb != hooks.StopUnit || o.drift.role != hooks.Standby {
		return
	}
	if stopped := out == hooks.Unchanged; stopped != o.stopped[u.Name] {
		o.stopped[u.Name], o.dirty = stopped, true
	}
}

// found notes what a check found of a step.
func (o *Orchestrator) found(s hooks.Step, out hooks.Outcome, detail string) {
	d := &o.drift
	x := d.stray(s.Name)
	if out == hooks.Unchanged {
		if x != nil {
			o.foundWell(x)
		}
		return
	}
	if x == nil {
		x = &stray{Drift: Drift{Step: s.Name, Kind: s.Action.Kind(), Title: titleOf(s, d.vars)}}
		d.strays = append(d.strays, x)
	}
	if x.seen == 0 && !x.on {
		x.Since = o.now
	}
	x.seen, x.well = x.seen+1, 0
	x.Outcome, x.Detail, x.Repair = out, cut(detail), ReportOnly
	if s.Repairs() {
		x.Repair = Repairing
	}
	switch {
	case x.seen < 2 && !x.on:
		d.at = min(d.at, o.now.Add(checkAgain))
	case !x.on:
		o.strays(x)
	}
}

func (o *Orchestrator) foundWell(x *stray) {
	x.seen, x.well, x.Outcome = 0, x.well+1, hooks.Unchanged
	if x.on && x.well < 2 {
		o.drift.at = min(o.drift.at, o.now.Add(checkAgain))
		return
	}
	if x.on {
		o.isMended(x)
	}
	if x.tried == 0 || o.now.Sub(x.tried) > mendWindow {
		x.contest, x.wait, x.mendAt, x.mended = false, 0, 0, nil
	}
}

// strays tells that a step drifted.
func (o *Orchestrator) strays(x *stray) {
	x.on = true
	if x.said = x.saidAt == 0 || o.now.Sub(x.saidAt) >= strayEvery; x.said {
		x.saidAt = o.now
		o.emit(Note{State: o.state, Epoch: o.drift.epoch, Why: Why{Reason: Drifted, Detail: x.Step + ": " + x.Detail}, Urgent: true})
		o.journalStray(hooks.Strayed, x)
	}
}

// isMended tells that it is as it should be again, whoever did that.
func (o *Orchestrator) isMended(x *stray) {
	x.on, x.failed = false, ""
	if x.said {
		detail := fmt.Sprintf("%s: as it should be again, after %s", x.Step, o.now.Sub(x.Since).Round(time.Second))
		o.emit(Note{State: o.state, Epoch: o.drift.epoch, Why: Why{Reason: Drifted, Detail: detail}})
		o.journalStray(hooks.Mended, x)
	}
}

func (o *Orchestrator) journalStray(k hooks.RecordKind, x *stray) {
	res := hooks.Result{Name: x.Step, Title: x.Title, Outcome: x.Outcome, Detail: x.Detail}
	if k == hooks.Mended {
		res.Detail, res.Duration = "", o.now.Sub(x.Since)
	}
	o.appendRecord(hooks.Record{Kind: k, Epoch: uint64(o.drift.epoch), Role: o.drift.role, Step: res})
}

func (d *drifting) stray(name string) *stray {
	for _, x := range d.strays {
		if x.Step == name {
			return x
		}
	}
	return nil
}

// whatStrayed says in words what a check found.
func (o *Orchestrator) whatStrayed(s hooks.Step, res hooks.Result) string {
	if res.Detail != "" || res.Outcome != hooks.Changed {
		return res.Detail
	}
	a, err := hooks.Expand(s.Action, o.drift.vars)
	if err != nil {
		return err.Error()
	}
	for _, l := range o.drift.labels {
		if l.Step == s.Name && l.Value != l.Wanted {
			return fmt.Sprintf("%s says %q, not %q", l.File, l.Value, l.Wanted)
		}
	}
	if u, ok := a.(hooks.Unit); ok {
		switch u.Verb {
		case hooks.StartUnit:
			return u.Name + " does not run"
		case hooks.StopUnit:
			return u.Name + " runs"
		case hooks.EnableUnit:
			return u.Name + " is not enabled"
		case hooks.DisableUnit:
			return u.Name + " is enabled"
		case hooks.RestartUnit, hooks.ReloadUnit:
		}
	}
	return "it would change something"
}

// driftChanged makes what status and the peer are told.
func (o *Orchestrator) driftChanged() {
	d := &o.drift
	d.told, o.dirty = d.list(driftTold), true
	keep := d.strays[:0]
	for _, x := range d.strays {
		old := !x.on && x.seen == 0 && !x.contest && (x.tried == 0 || o.now.Sub(x.tried) > mendWindow)
		if !old || x.saidAt != 0 && o.now.Sub(x.saidAt) < strayEvery {
			keep = append(keep, x)
		}
	}
	clear(d.strays[len(keep):])
	d.strays = keep
}

// list returns what drifted, at most so many.
func (d *drifting) list(most int) []Drift {
	var out []Drift
	for _, x := range d.strays {
		if !x.on && !x.contest || len(out) == most {
			continue
		}
		e := x.Drift
		switch {
		case x.contest:
			e.Repair = Contested
			e.Detail = cut(e.Detail + "; somebody else keeps changing it")
		case x.failed != "":
			e.Detail = cut(e.Detail + "; the repair failed: " + x.failed)
		}
		out = append(out, e)
	}
	return out
}

func titleOf(s hooks.Step, v hooks.Vars) string {
	if a, err := hooks.Expand(s.Action, v); err == nil {
		return cut(hooks.Title(a))
	}
	return cut(hooks.Title(s.Action))
}

func bounded(labels []Label) []Label {
	labels = append([]Label(nil), labels[:min(len(labels), labelsTold)]...)
	for i := range labels {
		l := &labels[i]
		l.File, l.Key, l.Value, l.Wanted, l.Err = cut(l.File), cut(l.Key), cut(l.Value), cut(l.Wanted), cut(l.Err)
	}
	return labels
}

// cut bounds a text.
func cut(s string) string {
	if len(s) <= detailMost {
		return s
	}
	n := detailMost
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
