package failover

import (
	"slices"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/replication"
)

// One gate answers for the promotion, for the dry run and for the standing
// answer in status; only the cause differs.

// gate judges every database for the cause, and those named as lost for the loss of
// their source.
func (o *Orchestrator) gate(cause replication.Cause, lost []string) replication.Verdict {
	q := replication.Question{Cause: cause, Databases: o.databases}
	q.Health, q.HealthDetail = o.fitness(cause)
	o.holds(&q)
	if len(lost) > 0 && cause == replication.Planned {
		q.Databases = slices.Clone(o.databases)
		for i := range q.Databases {
			q.Databases[i].SourceLost = slices.Contains(lost, q.Databases[i].Name)
		}
	}
	v := replication.Gate(o.now, o.cfg.Gate, q)
	v.Reasons = append(v.Reasons, o.listReasons(cause)...)
	v.Reasons = append(v.Reasons, o.divergenceReasons(v.Reasons)...)
	v.Open = len(v.Reasons) == 0
	return v
}

// listReasons are those against a list of databases that is not known, or lacks
// what the source has.
func (o *Orchestrator) listReasons(cause replication.Cause) []replication.Reason {
	var reasons []replication.Reason
	if o.cfg.Discovers && o.measure.latest == 0 {
		reasons = append(reasons, replication.Reason{Code: replication.NotKnown, Detail: "the databases were not looked for yet"})
	}
	if cause == replication.Resume || cause == replication.SourceLost && o.cfg.Gate.AfterLoss == replication.Drained {
		return reasons
	}
	for _, name := range o.unprotected() {
		reasons = append(reasons, replication.Reason{
			Code: replication.NotReplica, Database: name, Detail: o.cfg.Peer + " has it and this node does not",
		})
	}
	return reasons
}

func (o *Orchestrator) plannedGate() replication.Verdict {
	return o.gate(replication.Planned, o.lostInTake())
}

func (o *Orchestrator) bidGate() replication.Verdict { return o.gate(o.bidCause(), nil) }

func (o *Orchestrator) bidCause() replication.Cause {
	if o.resumes() {
		return replication.Resume
	}
	return replication.SourceLost
}

// standingGate answers whether this node could be promoted now, whatever it is.
func (o *Orchestrator) standingGate() replication.Verdict { return o.gate(o.standingCause(), nil) }

func (o *Orchestrator) standingCause() replication.Cause {
	switch {
	case o.role == hooks.Active || o.resumes():
		return replication.Resume
	case o.peerIsActive():
		return replication.Planned
	default:
		return replication.SourceLost
	}
}

// gateTold is for how long the answer for the peer is used again: it is for
// people and for a first look, every decision asks anew.
const gateTold = 250 * time.Millisecond

// toldGate is why this node could not be promoted, as the peer is told.
func (o *Orchestrator) toldGate() []replication.Reason {
	cause := o.standingCause()
	_, faulty := o.fault()
	t := &o.gateSaid
	if t.at == 0 || o.now.Sub(t.at) >= gateTold || t.facts != o.measure.latest || t.cause != cause || t.faulty != faulty || t.verdicts != o.verdicts {
		*t = gateSaid{
			at: o.now, facts: o.measure.latest, cause: cause, faulty: faulty, verdicts: o.verdicts, reasons: o.gate(cause, nil).Reasons,
		}
	}
	return t.reasons
}

type gateSaid struct {
	at, facts mono.Instant
	cause     replication.Cause
	faulty    bool
	verdicts  uint64
	reasons   []replication.Reason
}

// resumes reports whether a promotion would only go on with what this node had
// last: no later epoch is known, and its databases follow nobody.
func (o *Orchestrator) resumes() bool {
	if s := o.sources(); s != AllSources && s != NoDatabases {
		return false
	}
	if o.linkFresh() {
		// What numbers were burnt since plays no part: the peer says what it was. One
		// that is letting go has yet to look at its databases.
		return o.peer.state.State != Demoting && o.elect() == electSelf
	}
	return o.activeEpoch > 0 && o.activeEpoch == o.epoch
}

// sources adds up whether the databases replicate.
func (o *Orchestrator) sources() Sources {
	if len(o.databases) == 0 {
		return NoDatabases
	}
	replicas, sources := 0, 0
	for i := range o.databases {
		if o.databases[i].Facts.Reach != replication.Reachable {
			return SourcesUnknown
		}
		channels, ok := o.databases[i].Facts.Channels.Get()
		if !ok {
			return SourcesUnknown
		}
		if follows(channels) {
			replicas++
		} else {
			sources++
		}
	}
	switch {
	case replicas == 0:
		return AllSources
	case sources == 0:
		return AllReplicas
	}
	return MixedSources
}

// toldSources is what the peer may decide by: a standby says nothing of its
// databases before they were looked at since its latest plan, which may have been a
// promotion. Half a set, of which the peer goes by the positions, is not known
// before the plan that closes the writes is over.
func (o *Orchestrator) toldSources() Sources {
	s := o.sources()
	if o.role != hooks.Standby {
		return s
	}
	for i := range o.databases {
		if _, settled := o.settledFacts(i); !settled || s == MixedSources && o.run != nil {
			return SourcesUnknown
		}
	}
	return s
}

// follows reports whether a database is on its way behind another: the settings
// of a channel outlive a promotion, its threads do not.
func follows(channels []replication.Channel) bool {
	for _, c := range channels {
		if c.IO != replication.ThreadStopped || c.SQL != replication.ThreadStopped {
			return true
		}
	}
	return false
}

// positions returns how far each database is, without those that are not known.
func (o *Orchestrator) positions() []Position {
	var ps []Position
	for i := range o.databases {
		if p, ok := o.databases[i].Facts.Position(); ok && o.databases[i].Facts.Reach == replication.Reachable {
			p := Position{Database: o.databases[i].Name, Executed: p, SemiSync: o.semiSync(i), Beat: o.databases[i].Facts.Beat()}
			if o.role == hooks.Active {
				p.Binlog, _ = o.databases[i].Facts.BinlogState.Get()
				p.Applied, _ = o.databases[i].Facts.Applied.Get()
			}
			ps = append(ps, p)
		}
	}
	return ps
}

// semiSync returns what a database says as a source whose commits wait, the zero
// value of any other: the peer bounds a loss by it, so it must not be an old word.
func (o *Orchestrator) semiSync(i int) replication.SemiSync {
	f := &o.databases[i].Facts
	limit := o.cfg.Gate.MaxAge
	if limit <= 0 {
		limit = replication.DefaultMaxAge
	}
	if on, ok := f.SemiSync.SourceStatus.Get(); !ok || !on || o.now.Sub(f.MeasuredAt) > limit {
		return replication.SemiSync{}
	}
	s := f.SemiSync
	s.ReplicaEnabled = replication.Unknown[bool]()
	return s
}

// frozen reports whether every database is closed and its position known, and
// names the first that is not.
func (o *Orchestrator) frozen() (string, bool) {
	closes := closesWrites(o.cfg.Demote[:o.cfg.Demote.Pivot()])
	for i := range o.databases {
		f := o.databases[i].Facts
		readOnly, known := f.ReadOnly.Get()
		_, at := f.Position()
		if f.Reach != replication.Reachable && o.give != nil && slices.Contains(o.give.lost, o.databases[i].Name) {
			continue // nobody writes to it, and nobody knows how far it came
		}
		if f.Reach != replication.Reachable || !at || closes && (!known || !readOnly) {
			return o.databases[i].Name, false
		}
	}
	return "", true
}

func closesWrites(p hooks.Plan) bool {
	for _, s := range p {
		if w, ok := s.Action.(hooks.Writes); ok && !w.Open {
			return true
		}
	}
	return false
}

// noteFacts takes in a measurement that began at an instant.
func (o *Orchestrator) noteFacts(facts []replication.Facts, began mono.Instant) {
	o.adoptList(facts)
	for i, f := range facts {
		d := &o.databases[i]
		if f.Reach == replication.Reachable && d.Facts.Reach != replication.Reachable {
			o.returned = o.now
		}
		d.Facts = f
		o.watchFacts(i, began)
		if received, ok := f.Received(); ok && o.role == hooks.Standby {
			d.MaxReceived = d.MaxReceived.Merge(received)
		}
		if applied, ok := f.Position(); ok {
			d.Heard.Settle(applied)
		}
		if rows, ok := f.Beats.Get(); ok {
			d.Heard.SettleBeats(rows)
		}
	}
}

// noteHeard takes in how far the Active's databases are.
func (o *Orchestrator) noteHeard(ps []Position) {
	o.sourceHas = o.sourceHas[:0]
	for at, p := range ps {
		o.sourceHas = append(o.sourceHas, p.Database)
		// Both list them in the same order, as a rule.
		if at >= len(o.databases) || o.databases[at].Name != p.Database {
			at = o.place(p.Database)
		}
		if at >= 0 {
			o.databases[at].Heard.Note(p.Executed, o.now)
			o.databases[at].Heard.NoteSemiSync(p.SemiSync, o.now)
			o.databases[at].Heard.NoteBeat(p.Beat, o.now)
		}
	}
}
