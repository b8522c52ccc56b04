package failover

// When the databases are measured: again and again, more often where something is
// at stake, and at once when something happened to one.

import (
	"slices"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/replication"
)

const (
	// measureActive and measureStandby are how often the databases are read.
	measureActive  = 250 * time.Millisecond
	measureStandby = time.Second
	// beatInterval is the least time between two heartbeats. They go with
	// measurements, so that it is a little less than the second which results.
	beatInterval = 900 * time.Millisecond
	// measurePatience is when an unanswered measurement is given up.
	measurePatience = 3 * time.Second
)

type measuring struct {
	id     ID
	again  bool         // at once after the one that is out
	at     mono.Instant // when the next one is due
	begun  mono.Instant
	latest mono.Instant // when the facts at hand came in, 0: none yet
	beatAt mono.Instant // no heartbeat before this

	positions []Position // in the facts at hand, never changed in place
}

func (o *Orchestrator) tickMeasure() {
	if !o.hasDatabases() {
		o.measure.at = mono.Never
		return
	}
	if o.measure.id != 0 && o.now.Sub(o.measure.begun) > measurePatience {
		o.measure.id = 0
	}
	if o.now.Before(o.measure.at) || o.measure.id != 0 {
		if !o.now.Before(o.measure.at) {
			o.measure.at = o.now.Add(measureActive)
		}
		return
	}
	o.measure.id, o.measure.begun, o.measure.again = o.id(), o.now, false
	o.measure.at = o.now.Add(o.measureEvery())
	o.emit(Measure{ID: o.measure.id, Beat: o.beat()})
}

// beat returns the epoch to write a heartbeat in when one is due, and 0 when not.
// A heartbeat is a transaction that the peer has to get: none is written by a node
// that is not Active beyond doubt and at rest, nor while nobody hears of it.
func (o *Orchestrator) beat() Epoch {
	if o.state != Active || o.role != hooks.Active || !o.lease.held || o.activeEpoch == 0 ||
		o.busy() || o.nextRun != nil || o.bid != nil || o.giving() || o.taking() || o.stopping ||
		!o.linkFresh() || o.peerIsActive() || o.peer.state.ActiveEpoch > o.activeEpoch || o.now.Before(o.measure.beatAt) {
		return 0
	}
	o.measure.beatAt = o.now.Add(beatInterval)
	return o.activeEpoch
}

// measureEvery is the time from one measurement to the next. A server that comes
// back may take writes until it is seen: a standby that lacks one looks as often
// as an Active.
func (o *Orchestrator) measureEvery() time.Duration {
	missing := func(d replication.Database) bool { return d.Facts.MeasuredAt != 0 && !d.Facts.Reach.Alive() }
	if o.role == hooks.Active || o.taking() || slices.ContainsFunc(o.databases, missing) {
		return measureActive
	}
	return measureStandby
}

// disturbed measures at once: by facts that are newer than the event, so not by
// those of a measurement that is out.
func (o *Orchestrator) disturbed() {
	switch {
	case !o.hasDatabases():
	case o.measure.id != 0:
		o.measure.again = true
	default:
		o.measure.at = o.now
	}
}

func (o *Orchestrator) measured(ev Measured) {
	began := o.measure.begun
	if ev.ID != o.measure.id || ev.ID == 0 {
		began = o.now
	}
	o.noteFacts(ev.Facts, began)
	o.remember()
	o.noteWriting()
	o.compareHistories()
	o.measure.positions = o.positions()
	o.measure.latest = o.now
	if ev.ID == o.measure.id {
		o.measure.id = 0
		if o.measure.at = min(o.measure.at, began.Add(o.measureEvery())); o.measure.again {
			o.measure.at = o.now
		}
	}
	o.dirty = o.dirty || o.role == hooks.Active
	o.bidMeasured(ev.ID)
	o.giveMeasured(ev.ID)
	o.takeMeasured(ev.ID)
}

// measureNow asks for facts that are newer than the question, of the databases that
// there are by then: a transition concerns them all.
func (o *Orchestrator) measureNow() ID {
	id := o.id()
	o.emit(Measure{ID: id, Relist: o.cfg.Discovers})
	return id
}
