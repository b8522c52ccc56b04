package failover

import (
	"fmt"
	"slices"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/replication"
)

// A standby whose databases committed what the Active's lack is in conflict: the two
// differ, and nothing that is done automatically mends that. What it has is measured
// against what the Active says it has, by the same algebra as before a rejoin, told,
// and kept out of every promotion until the two agree again.

// divergedAfter is for how long a difference must be found to count. What is on its
// way between two measurements, or to the peer, has come by then.
const divergedAfter = 3 * time.Second

// divergenceText bounds the list of transactions of one database, in bytes.
const divergenceText = 500

// Divergence is what one database of this node has and the Active's lacks.
type Divergence struct {
	Database     string
	Transactions string // by name, in the server's notation; can be cut short
	Count        uint64
	Exact        bool // Count is no estimate, and the list is whole but for its length
}

// String returns "pivot: 3 transactions that reserve lacks", without the name.
func (d Divergence) String() string {
	about := ""
	if !d.Exact {
		about = "about "
	}
	return fmt.Sprintf("%s: %s%d transactions: %s", d.Database, about, d.Count, d.Transactions)
}

// diverging is what is known of one database, by place as Orchestrator.databases.
type diverging struct {
	found Divergence   // Count 0: none
	since mono.Instant // when it was found first, 0: it is not
	on    bool         // it counts
	told  string       // what journal and log were told, empty: nothing
}

// diverged lists what counts, nil for nothing.
func (o *Orchestrator) diverged() []Divergence {
	var list []Divergence
	for i := range o.watch {
		if d := o.watch[i].diverging; d.on {
			list = append(list, d.found)
		}
	}
	return list
}

// inConflict returns why this node is in conflict with the Active's databases.
func (o *Orchestrator) inConflict() (Why, bool) {
	for i := range o.watch {
		if d := o.watch[i].diverging; d.on {
			return Why{Reason: Diverged, Detail: o.conflictWords()}, true
		}
	}
	return Why{}, false
}

// conflictWords names the databases, and how many transactions each has to itself.
func (o *Orchestrator) conflictWords() string {
	var parts []string
	for _, d := range o.diverged() {
		about := ""
		if !d.Exact {
			about = "about "
		}
		parts = append(parts, fmt.Sprintf("%s has %s%d transactions", d.Database, about, d.Count))
	}
	return listed(parts) + " that " + o.cfg.Peer + " lacks"
}

// compareHistories holds what was measured here against the latest word of the Active.
func (o *Orchestrator) compareHistories() {
	_, active := o.activePeer()
	if o.role != hooks.Standby || o.taking() || o.claiming() || !active || !o.linkFresh() {
		return
	}
	for i := range o.databases {
		f := &o.databases[i].Facts
		at := slices.IndexFunc(o.peer.state.Positions, func(p Position) bool { return p.Database == f.Name })
		if at < 0 || f.Reach != replication.Reachable {
			continue
		}
		switch e := f.History().Errant(o.peer.state.Positions[at].history()); {
		case !e.Errant.Empty() && f.Wrote(e.Errant):
			o.foundDiverging(i, Divergence{
				Database: f.Name, Transactions: cutTo(e.Errant.String(), divergenceText), Count: e.Count(), Exact: e.Known && e.Exact,
			})
		case e.Known:
			o.foundAlike(i)
		}
	}
}

func (o *Orchestrator) foundDiverging(i int, found Divergence) {
	d := &o.watch[i].diverging
	d.found = found
	if d.since == 0 {
		d.since = o.now
	}
	if o.now.Sub(d.since) < divergedAfter {
		return
	}
	d.on = true
	if d.told == found.Transactions {
		return
	}
	d.told, o.dirty = found.Transactions, true
	o.journalDivergence(hooks.Diverged, found)
	o.emit(Note{State: o.state, Epoch: o.epoch, Why: Why{Reason: Diverged, Detail: found.String()}, Urgent: true})
}

func (o *Orchestrator) foundAlike(i int) {
	d := &o.watch[i].diverging
	o.memory.differs = slices.DeleteFunc(o.memory.differs, func(l hooks.Loss) bool { return l.Database == o.databases[i].Name })
	if d.on {
		o.journalDivergence(hooks.Reconciled, Divergence{Database: d.found.Database, Exact: true})
		detail := d.found.Database + ": " + o.cfg.Peer + " lacks nothing of it any more"
		o.emit(Note{State: o.state, Epoch: o.epoch, Why: Why{Reason: Diverged, Detail: detail}})
		o.dirty = true
	}
	*d = diverging{}
}

func (o *Orchestrator) journalDivergence(k hooks.RecordKind, d Divergence) {
	o.appendRecord(hooks.Record{
		Kind: k, Epoch: uint64(o.epoch), Role: hooks.Standby,
		Loss: hooks.Loss{Database: d.Database, Proved: d.Count, ProvedKnown: true, Transactions: d.Transactions},
	})
}

// recallDivergence takes in what the daemon before found. It counts until the Active
// says otherwise, or somebody forces this node to be one.
func (o *Orchestrator) recallDivergence(m hooks.Memory) {
	o.memory.differs = m.Differs()
	for i := range o.databases {
		o.watch[i] = o.watchAnew(o.databases[i].Name)
	}
}

// watchAnew returns what is known of a database that nothing was measured of yet.
func (o *Orchestrator) watchAnew(name string) watched {
	at := slices.IndexFunc(o.memory.differs, func(l hooks.Loss) bool { return l.Database == name })
	if at < 0 {
		return watched{}
	}
	l := o.memory.differs[at]
	return watched{diverging: diverging{
		found: Divergence{Database: name, Transactions: l.Transactions, Count: l.Proved},
		since: o.now, on: true, told: l.Transactions,
	}}
}

// forgetDivergence is for a node that gets the role: what it has is the truth now, and
// the other node finds out what differs from it.
func (o *Orchestrator) forgetDivergence() {
	o.memory.differs = nil
	for i := range o.watch {
		o.watch[i].diverging = diverging{}
	}
}

// divergenceReasons close the gate for whatever cause: an operator decides. Those that
// the gate has found by itself are in reasons already.
func (o *Orchestrator) divergenceReasons(reasons []replication.Reason) []replication.Reason {
	var more []replication.Reason
	for _, d := range o.diverged() {
		known := slices.ContainsFunc(reasons, func(r replication.Reason) bool {
			return r.Code == replication.Errant && r.Database == d.Database
		})
		if !known {
			more = append(more, replication.Reason{
				Code: replication.Errant, Database: d.Database, Detail: "has what " + o.cfg.Peer + " lacks: " + d.Transactions,
			})
		}
	}
	return more
}

// standsBy reports whether this node is a standby at rest, well or in conflict.
func (o *Orchestrator) standsBy() bool {
	return o.state == Backup || o.state == Conflict && o.why.Reason == Diverged
}

// cutTo bounds a text to so many bytes, of which it says that it is cut.
func cutTo(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}
