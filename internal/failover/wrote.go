package failover

import (
	"slices"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/replication"
	"github.com/tanist-ha/tanist/vrrp"
)

// Two nodes can find that both were Active in one epoch. The one whose databases took
// writes has what clients were promised: it stays. So each node remembers where its
// databases were when it was promoted, and tells what it found since.
//
// A heartbeat that Tanist writes is a transaction too, and raises its own count by
// one: what counts is the growth of the position beyond that of the count. The count
// is read after the position it is held against, so that the difference is never too
// high.

// Wrote says whether the databases of a node took writes since its latest promotion,
// Tanist's own heartbeats not counted. It goes from no to yes and never back while
// the epoch lasts, so that two nodes which compare it never both give way.
type Wrote uint8

// Whether there were writes.
const (
	WroteUnknown Wrote = iota
	WroteNo
	WroteYes
)

// String returns it as status and the link between the nodes name it.
func (w Wrote) String() string { return nameOf([]string{"unknown", "no", "yes"}, "Wrote", uint8(w)) }

// began is where one database was at the promotion.
type began struct {
	database string
	at       replication.Position
	whole    bool // at is known and is that of the promotion
	beat     beatCount
	grown    uint64 // own transactions beyond at, as measured before
	measured bool
	unjudged bool // what was written before this daemon began is not known yet
}

// beatCount is how far this server counted in the heartbeat table.
type beatCount struct {
	n     uint64
	known bool // the row was read, or there is no table
}

// writing is what is known of the writes of the role that lasts.
type writing struct {
	began []began
	wrote Wrote
}

// beginWriting notes where the databases are as the role comes. Final are the
// positions that the old node of a switchover froze, which this one reached unless the
// switchover was forced: then nobody knows where a database began.
func (o *Orchestrator) beginWriting(final []Position, forced bool) {
	o.writing = writing{}
	for i := range o.databases {
		f := &o.databases[i].Facts
		b := began{database: o.databases[i].Name, beat: countOf(*f)}
		if b.at, b.whole = f.Position(); f.Reach != replication.Reachable {
			b.at, b.whole = replication.Position{}, false
		}
		for _, p := range final {
			switch {
			case p.Database != b.database || b.at.Covers(p.Executed):
			case forced:
				b.whole, b.beat.known = false, false
			default:
				b.at, b.whole = b.at.Merge(p.Executed), true
			}
		}
		o.writing.began = append(o.writing.began, b)
	}
	o.judgeWriting()
}

// recallWriting takes up what the daemon before remembered of the role that lasts.
func (o *Orchestrator) recallWriting(rs []Remembered) {
	o.writing = writing{}
	for _, r := range rs {
		if !r.Promoted.Empty() {
			o.writing.began = append(o.writing.began, began{
				database: r.Database, at: r.Promoted, whole: true, beat: beatCount{r.Beats, r.BeatsKnown}, unjudged: true,
			})
		}
	}
	o.judgeWriting()
}

// promotedAt is what the next daemon has to know of it.
func (o *Orchestrator) promotedAt() []Remembered {
	var rs []Remembered
	for _, b := range o.writing.began {
		if b.whole && !b.at.Empty() {
			rs = append(rs, Remembered{Database: b.database, Promoted: b.at, Beats: b.beat.n, BeatsKnown: b.beat.known})
		}
	}
	return rs
}

// countOf returns the count that the facts tell.
func countOf(f replication.Facts) beatCount {
	if !f.Beats.IsKnown() {
		return beatCount{known: f.Reach == replication.Reachable && f.BeatDetail == ""}
	}
	return beatCount{n: f.Beat().Count, known: true}
}

// noteWriting holds a measurement of an Active against where its databases began.
func (o *Orchestrator) noteWriting() {
	if o.role != hooks.Active || !o.lease.held {
		return
	}
	for i := range o.databases {
		f := o.databases[i].Facts
		if f.Reach != replication.Reachable {
			continue
		}
		b := o.writing.of(o.databases[i].Name)
		if b == nil {
			// What it has now is where it begins for this daemon; what it wrote before
			// that nobody knows.
			at, ok := f.Position()
			if ok {
				o.writing.began = append(o.writing.began, began{database: f.Name, at: at, beat: countOf(f)})
			}
			continue
		}
		count := countOf(f)
		b.unjudged = b.unjudged && !b.measured
		if b.measured && count.known && b.beat.known && b.grown > count.n-min(count.n, b.beat.n) {
			o.writing.wrote = WroteYes
		}
		b.grown, b.measured = f.WrittenSince(b.at)
	}
	was := o.writing.wrote
	o.judgeWriting()
	o.dirty = o.dirty || was != o.writing.wrote
}

// judgeWriting says no where every database began at a known position.
func (o *Orchestrator) judgeWriting() {
	w := &o.writing
	if w.wrote == WroteYes || len(w.began) == 0 {
		return
	}
	w.wrote = WroteUnknown
	if !slices.ContainsFunc(w.began, func(b began) bool { return !b.whole || !b.beat.known || b.unjudged }) {
		w.wrote = WroteNo
	}
}

func (w *writing) of(database string) *began {
	for i := range w.began {
		if w.began[i].database == database {
			return &w.began[i]
		}
	}
	return nil
}

// writers is who of two Actives of one epoch took writes.
type writers uint8

const (
	writersUnheard writers = iota // the peer's word is not here, or not yet
	writersAlike                  // both, neither, or it is not known of one
	writerSelf
	writerPeer
)

// writers compares this node with the peer, both Active in this node's epoch.
func (o *Orchestrator) writers() writers {
	p := &o.peer.state
	if !o.linkFresh() || p.ActiveEpoch != o.activeEpoch || !p.Holds {
		return writersUnheard
	}
	switch mine := o.writing.wrote; {
	case mine == WroteYes && p.Wrote == WroteNo:
		return writerSelf
	case mine == WroteNo && p.Wrote == WroteYes:
		return writerPeer
	}
	return writersAlike
}

// contestWrites decides between two Actives of the same epoch: the one whose databases
// took the writes stays, else priority decides. Without the peer's word over the link
// it is waited for a moment.
func (o *Orchestrator) contestWrites(rec vrrp.Received) {
	switch w := o.writers(); {
	case w == writerPeer:
		o.stepDown(Why{Reason: PeerWrote}, hooks.OnDemote)
	case w == writerSelf, o.router.Weaker(rec), w == writersUnheard && o.now.Sub(o.clash) < conflictPatience:
		o.answerContest()
	default:
		o.route(rec)
	}
}

// contestByWord is the same where the peer's word tells of the second Active: its
// advertisements may not come through. Of two equal priorities only those decide.
func (o *Orchestrator) contestByWord() {
	s := &o.peer.state
	if !o.lease.held || o.state != Active || o.give != nil && o.give.stage < GiveDone || o.taking() ||
		!s.Holds || s.ActiveEpoch != o.activeEpoch || o.activeEpoch == 0 || !o.echoed(o.now.Add(-LinkPatience)) {
		return
	}
	switch o.writers() {
	case writerPeer:
		o.stepDown(Why{Reason: PeerWrote}, hooks.OnDemote)
	case writersAlike:
		if o.cfg.PeerPriority > o.cfg.Router.Priority {
			o.stepDown(Why{Reason: StrongerPeer}, hooks.OnDemote)
		}
	case writerSelf, writersUnheard:
	}
}
