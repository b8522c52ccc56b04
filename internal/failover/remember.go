package failover

import (
	"maps"
	"slices"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/replication"
)

// What a standby knows of its source it has to know after a restart, too: the
// source may be gone by then, and the server forgets what it received.

// Remembered is what a node knows of one database beyond what its server says.
type Remembered struct {
	Database string
	Heard    replication.Position // what the source was last known to have; empty: never heard
	Received replication.Position // the farthest that was ever received here

	// Of an Active: where the database was when the role came, and how far it had
	// counted in the heartbeat table, if that is known.
	Promoted   replication.Position
	Beats      uint64
	BeatsKnown bool
}

func (r Remembered) equal(other Remembered) bool {
	return r.Database == other.Database && r.Heard.Equal(other.Heard) && r.Received.Equal(other.Received) &&
		r.Promoted.Equal(other.Promoted) && r.Beats == other.Beats && r.BeatsKnown == other.BeatsKnown
}

// rememberEvery is how often the positions go to the disk at most.
const rememberEvery = time.Second

type remembering struct {
	recalled map[string]Remembered // of the daemon before, for databases not seen yet
	stored   []Remembered          // as they were stored last
	at       mono.Instant          // not before this
	differs  []hooks.Loss          // what the daemon before found of databases that the Active's lack
}

// recall takes in what the daemon before remembered. A node that was Active last
// knows better than what it once heard.
func (o *Orchestrator) recall(s Started) {
	if s.Memory.Role == hooks.Active && s.Memory.ActiveEpoch == s.Memory.Epoch {
		o.recallWriting(s.Positions)
		return
	}
	o.memory.recalled = make(map[string]Remembered, len(s.Positions))
	for _, r := range s.Positions {
		o.memory.recalled[r.Database] = r
	}
	for i := range o.databases {
		o.databases[i] = o.recalled(o.databases[i].Name)
	}
}

// recalled returns a database that nothing was measured of yet. What the daemon
// before knew of it counts once: one that goes and comes back begins anew, for what
// its source wrote meanwhile may be missing.
func (o *Orchestrator) recalled(name string) replication.Database {
	d := replication.Database{Name: name}
	if r, ok := o.memory.recalled[name]; ok {
		delete(o.memory.recalled, name)
		d.MaxReceived = r.Received
		if !r.Heard.Empty() {
			d.Heard.Restore(r.Heard)
		}
	}
	return d
}

// remembered includes the databases that were not seen since the start: they may
// be found later, or by the next daemon.
func (o *Orchestrator) remembered() []Remembered {
	var rs []Remembered
	for i := range o.databases {
		d := &o.databases[i]
		last, _ := d.Heard.Last()
		if !last.Empty() || !d.MaxReceived.Empty() {
			rs = append(rs, Remembered{Database: d.Name, Heard: last, Received: d.MaxReceived})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.memory.recalled)) {
		rs = append(rs, o.memory.recalled[name])
	}
	return rs
}

// remember stores the positions now and then while this node is the standby.
func (o *Orchestrator) remember() {
	if o.role != hooks.Standby || o.now.Before(o.memory.at) {
		return
	}
	if rs := o.remembered(); !slices.EqualFunc(rs, o.memory.stored, Remembered.equal) {
		o.memory.stored, o.memory.at = rs, o.now.Add(rememberEvery)
		o.emit(Remember{Positions: rs})
	}
}

// forgetHeard starts afresh when this node becomes the source: what its peer
// says from now on is about a replica.
func (o *Orchestrator) forgetHeard() {
	for i := range o.databases {
		o.databases[i].Heard = replication.Heard{}
		o.databases[i].MaxReceived = replication.Position{}
	}
	o.sourceHas, o.memory.recalled = nil, nil
	if rs := o.promotedAt(); len(rs) > 0 || len(o.memory.stored) > 0 {
		o.memory.stored = rs
		o.emit(Remember{Positions: rs})
	}
}
