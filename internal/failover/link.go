package failover

import (
	"time"

	"github.com/tanist-ha/tanist/health"
	"github.com/tanist-ha/tanist/internal/mono"
)

// What the kernel reports of the interface and its addresses: a link that is
// down makes this node unfit, an address that somebody else took off is put back.

const (
	// linkLongest bounds the time that a link may be down without consequence.
	linkLongest = 300 * time.Millisecond
	// restoredEvery is how often the log says that an address was put back.
	restoredEvery = 10 * time.Second
)

type linkView struct {
	down   mono.Instant // since when the interface cannot be used, 0: it can
	detail string
}

// Restored is how often somebody else took a held address off the interface and
// it was put back.
type Restored struct {
	Count   uint64
	Address string       // the latest
	Last    mono.Instant // when, 0: never
}

// linkDebounce holds less than the time in which the peer finds out.
func (o *Orchestrator) linkDebounce() time.Duration {
	return min(o.patience()/2, linkLongest)
}

func (o *Orchestrator) linkDeadline() mono.Instant {
	if o.link.down == 0 || !o.now.Before(o.link.down.Add(o.linkDebounce())) {
		return mono.Never
	}
	return o.link.down.Add(o.linkDebounce())
}

func (o *Orchestrator) linkChanged(ev LinkChanged) {
	switch {
	case !ev.Up:
		if o.link.down == 0 {
			o.link.down = o.now
		}
		o.early = early{over: true} // silence over a dead link means nothing
		if o.bid != nil {
			o.bid.doubt()
		}
		o.link.detail = ev.Detail
	case o.link.down != 0:
		o.link = linkView{}
		o.early = early{}
		if o.lease.held { // a switch may have forgotten the address meanwhile
			o.announceAnew()
		}
	}
}

// fault is why this node may not have the address whatever the peer does.
func (o *Orchestrator) fault() (Why, bool) {
	if o.link.down != 0 && o.now.Sub(o.link.down) >= o.linkDebounce() {
		return Why{Reason: LinkDown, Detail: o.link.detail}, true
	}
	if w, cut := o.mustRelease(); cut {
		return w, true
	}
	if s, faulty := o.board.Failing(health.Fault); faulty && s.Verdict != health.Flapping {
		return unhealthy(s), true
	}
	return Why{}, false
}

// addressLost puts an address back that somebody else took off. Nothing else
// changes: the service is where it was.
func (o *Orchestrator) addressLost(ev AddressLost) {
	if !o.lease.held {
		return
	}
	o.emit(Hold{Lease: o.lease.length})
	o.announceNow()
	r := &o.restored
	if r.Last == 0 || o.now.Sub(r.Last) >= restoredEvery {
		o.emit(Note{State: o.state, Epoch: o.epoch, Why: Why{
			Reason: AddressTaken, Detail: ev.Address + " was taken off by somebody else and is put back",
		}, Urgent: true})
	}
	r.Count, r.Address, r.Last = r.Count+1, ev.Address, o.now
}

// addressFound takes an address off that somebody put on a node which does not
// hold it: the other one does, or may.
func (o *Orchestrator) addressFound(ev AddressFound) {
	if o.lease.held || o.lease.acquire != 0 {
		return
	}
	o.emit(Drop{})
	if o.foreign == 0 || o.now.Sub(o.foreign) >= restoredEvery {
		o.foreign = o.now
		o.emit(Note{State: o.state, Epoch: o.epoch, Why: Why{
			Reason: AddressForeign, Detail: ev.Address + " was put here by somebody else and is taken off",
		}, Urgent: true})
	}
}
