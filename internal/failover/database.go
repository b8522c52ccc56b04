package failover

import (
	"slices"
	"strings"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/replication"
)

// The databases of an instance are those of the latest measurement: they come
// and go while the service runs. One that died or hangs on the Active makes it
// give the role to a peer that can go on with what it received.

const (
	// deadTimes is how many measurements in a row find a server process not there
	// before that counts: one may meet a restart's last moment.
	deadTimes = 2
	// hungPatience is for how long a server that exists may not answer. A
	// measurement is given up before that, so at least two find it hung.
	hungPatience = 1500 * time.Millisecond
	// deadRetry is the time between two attempts to give the role to a peer because
	// of a database.
	deadRetry = 3 * time.Second
)

// watched is what is known of one database beside the facts, by place as
// Orchestrator.databases.
type watched struct {
	down   int          // measurements in a row that found it down
	since  mono.Instant // when the first of them began
	fenced bool         // the process that hung is gone, and was not seen again

	diverging diverging
}

// hasDatabases reports whether there is anything to measure, even if no database
// has been found yet.
func (o *Orchestrator) hasDatabases() bool { return len(o.cfg.Databases) > 0 || o.cfg.Discovers }

// adoptList makes the databases those that a measurement names, in its order.
func (o *Orchestrator) adoptList(facts []replication.Facts) {
	if slices.EqualFunc(facts, o.databases, func(f replication.Facts, d replication.Database) bool { return f.Name == d.Name }) {
		return
	}
	old, watch := o.databases, o.watch
	at := make(map[string]int, len(old))
	for i := range old {
		at[old[i].Name] = i
	}
	o.databases, o.watch = make([]replication.Database, 0, len(facts)), make([]watched, 0, len(facts))
	var appeared, vanished []string
	for _, f := range facts {
		if i, known := at[f.Name]; known {
			o.databases, o.watch = append(o.databases, old[i]), append(o.watch, watch[i])
			delete(at, f.Name)
			continue
		}
		appeared = append(appeared, f.Name)
		o.databases, o.watch = append(o.databases, o.recalled(f.Name)), append(o.watch, o.watchAnew(f.Name))
	}
	for i := range old {
		if _, gone := at[old[i].Name]; gone {
			vanished = append(vanished, old[i].Name)
		}
	}
	o.noteList(appeared, vanished)
}

// noteList says which databases came and went.
func (o *Orchestrator) noteList(appeared, vanished []string) {
	var parts []string
	for _, p := range []struct {
		word  string
		names []string
	}{{"found ", appeared}, {"gone ", vanished}} {
		if len(p.names) > 0 {
			parts = append(parts, p.word+listed(p.names))
		}
	}
	if len(parts) > 0 {
		o.emit(Note{State: o.state, Epoch: o.epoch, Why: Why{Reason: DatabasesChanged, Detail: strings.Join(parts, "; ")}})
	}
}

// listedMost bounds the names in one sentence.
const listedMost = 8

func listed(names []string) string {
	if len(names) <= listedMost {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:listedMost], ", ") + " and more"
}

// watchFacts counts for how long a database has been down.
func (o *Orchestrator) watchFacts(i int, began mono.Instant) {
	w := &o.watch[i]
	switch reach := o.databases[i].Facts.Reach; {
	case reach.Down():
		if w.down == 0 {
			w.since = began
		}
		w.down++
	case reach.Alive():
		*w = watched{diverging: w.diverging}
	}
}

// dead returns the databases of this node that are certainly not serving: no
// process, or one that has not answered for long enough.
func (o *Orchestrator) dead() []string {
	var names []string
	for i := range o.databases {
		w := &o.watch[i]
		hangs := o.databases[i].Facts.Reach == replication.ReachTimedOut
		if w.down >= deadTimes && (!hangs || o.now.Sub(w.since) >= hungPatience) {
			names = append(names, o.databases[i].Name)
		}
	}
	return names
}

// thinkDatabases gives the role away when a database here died and the peer may
// go on with it. The peer judges that; without it the service goes on with what
// is left, and the server's own supervision brings the rest back.
func (o *Orchestrator) thinkDatabases() {
	if o.state != Active || !o.lease.held || o.busy() || o.bid != nil || o.giving() || o.taking() || o.stopping ||
		o.now.Before(o.deadAt) || !o.linkFresh() || !o.peer.state.Bids {
		return
	}
	lost := o.dead()
	if len(lost) == 0 {
		o.deadSaid = Why{}
		return
	}
	if o.maintained() {
		o.sayHeld(Why{Reason: InMaintenance, Detail: o.describeDead(lost), Gate: o.maintenanceGate()})
		return
	}
	o.deadAt = o.now.Add(deadRetry)
	o.beginGive(&giving{
		cause: DatabaseDown, lost: lost, detail: o.describeDead(lost), until: o.now.Add(o.cfg.DrainTimeout + prepareTime),
	})
}

func (o *Orchestrator) describeDead(lost []string) string {
	var parts []string
	for _, name := range lost {
		if len(parts) == listedMost {
			parts = append(parts, "and more")
			break
		}
		parts = append(parts, name+" "+o.databases[o.place(name)].Facts.Reach.String())
	}
	return strings.Join(parts, ", ")
}

// place returns the index of a database, -1 when there is none of that name.
func (o *Orchestrator) place(name string) int {
	return slices.IndexFunc(o.databases, func(d replication.Database) bool { return d.Name == name })
}

// stillLost returns those of the names that are still not reached.
func (o *Orchestrator) stillLost(names []string) []string {
	var lost []string
	for _, name := range names {
		if i := o.place(name); i >= 0 && o.databases[i].Facts.Reach != replication.Reachable {
			lost = append(lost, name)
		}
	}
	return lost
}

// fenced reports whether no database that was lost can come back to life in the
// middle of the handover, and asks for what that still takes: a process that
// hangs goes on where it stopped.
func (o *Orchestrator) fencedLost(g *giving) bool {
	ready := true
	for _, name := range g.lost {
		i := o.place(name)
		if i < 0 || o.databases[i].Facts.Reach != replication.ReachTimedOut || o.watch[i].fenced {
			continue
		}
		ready = false
		if _, asked := g.fencing[name]; !asked {
			if g.fencing == nil {
				g.fencing = map[string]ID{}
			}
			id := o.id()
			g.fencing[name] = id
			o.emit(FenceDatabase{ID: id, Database: name})
		}
	}
	return ready
}

func (o *Orchestrator) databaseFenced(ev DatabaseFenced) {
	g := o.give
	if g == nil || g.stage != GivePreparing || ev.ID == 0 || g.fencing[ev.Database] != ev.ID {
		return
	}
	if ev.Err != nil {
		o.refuseGive(Why{Reason: FenceFailed, Detail: "database " + ev.Database + ": " + ev.Err.Error()})
		return
	}
	if i := o.place(ev.Database); i >= 0 {
		o.watch[i].fenced = true
	}
	o.emit(Note{State: o.state, Epoch: o.epoch, Urgent: true, Why: Why{
		Reason: DatabaseDown, Detail: "the server of " + ev.Database + " hung and was killed",
	}})
}

// longTransaction names a transaction on this node that is older than what
// closing writes would give it.
func (o *Orchestrator) longTransaction() (string, bool) {
	for i := range o.databases {
		age, ok := o.databases[i].Facts.LongestTransaction.Get()
		if ok && age > o.cfg.Grace {
			return "a transaction of database " + o.databases[i].Name + " has been running for " + age.Round(time.Second).String(), true
		}
	}
	return "", false
}

// unprotected returns the databases that the source has and this node lacks.
func (o *Orchestrator) unprotected() []string {
	if o.role != hooks.Standby {
		return nil
	}
	var names []string
	for _, name := range o.sourceHas {
		if o.place(name) < 0 {
			names = append(names, name)
		}
	}
	return names
}
