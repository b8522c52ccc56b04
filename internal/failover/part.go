package failover

import (
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/mono"
)

// Under maintenance a daemon that is told to leave leaves everything where it is:
// the address on its lease, writes, units and labels. The next one adopts them.

// parts lets the daemon end without letting go of the role, once nothing is under
// way, and reports whether it is to.
func (o *Orchestrator) parts() bool {
	h := &o.hold
	switch {
	case h.parted && o.lease.held:
		o.emit(Stopped{})
		return true
	case !o.maintained() || o.role != hooks.Active || !o.lease.held:
		return false
	case o.giving() || o.bid != nil || o.taking():
		return true // it ends by itself, one way or the other
	case o.run != nil:
		switch o.run.purpose {
		case mending, asserting, repairing:
			o.nextRun = nil
			o.cancelRun()
		default: // its steps are bounded
		}
		return true
	case o.state != Active:
		return true
	}
	h.parted = true
	l := &o.lease
	l.before, l.lengthBefore, l.renewed, l.length = l.renewed, l.length, o.now, o.leaseNow()
	l.renewAt = o.nextRenewal()
	o.emit(Hold{Lease: l.length})
	o.appendRecord(hooks.Record{
		Kind: hooks.Parted, Epoch: uint64(o.activeEpoch), Role: hooks.Active,
		Reason: "under maintenance; the address is left for " + l.length.String(),
	})
	o.emit(Note{State: o.state, Epoch: o.epoch, Urgent: true, Why: Why{
		Reason: InMaintenance, Detail: "the daemon ends and leaves the address for " + l.length.String() + ", the rest as it is",
	}})
	o.emit(Stopped{})
	return true
}

// adoptedUnderMaintenance journals that the daemon found what the one before it left.
func (o *Orchestrator) adoptedUnderMaintenance(left time.Duration) {
	if o.maintained() {
		o.appendRecord(hooks.Record{
			Kind: hooks.Adopted, Epoch: uint64(o.activeEpoch), Role: hooks.Active,
			Reason: "under maintenance; of the lease " + left.Round(time.Second).String() + " were left",
		})
	}
}

// configured reports whether no address has more than a lease, whatever became of the
// latest renewal.
func (l *lease) configured(most time.Duration) bool {
	if l.acquire != 0 {
		return l.acquiring <= most
	}
	return !l.held || l.length <= most && l.lengthBefore <= most
}

// over reports whether the latest renewal that did not fail has run out.
func (l *lease) over(now mono.Instant) bool { return now.Sub(l.renewed) > l.length }
