package failover

import (
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/vrrp"
)

// The address is only ever on the interface with a lifetime, and only a loop
// that makes progress renews it. A daemon that is killed, stopped or starved
// loses it by the kernel's clock alone.

// renewRetry is the time after which a failed renewal is tried again.
const renewRetry = 50 * time.Millisecond

type lease struct {
	held         bool
	progress     mono.Instant  // of the heartbeat: the last advertisement
	renewed      mono.Instant  // the last renewal that did not fail
	before       mono.Instant  // the one before, in force again when the last one failed
	length       time.Duration // of the last renewal
	lengthBefore time.Duration
	acquiring    time.Duration // of the Hold that is awaited
	renewAt      mono.Instant
	acquire      ID // of the Hold that adds the address, 0: none is awaited

	burst     int // announcements left of the running burst
	burstAt   mono.Instant
	secondAt  mono.Instant // start of the second burst, 0: none is due
	refreshAt mono.Instant // 0: never
	calmAt    mono.Instant // the other of two holders is gone by then, 0: there was none
}

func (l *lease) deadline() mono.Instant {
	if !l.held {
		return mono.Never
	}
	at := l.renewAt
	if l.burst > 0 {
		at = min(at, l.burstAt)
	}
	if l.secondAt > 0 {
		at = min(at, l.secondAt)
	}
	if l.refreshAt > 0 {
		at = min(at, l.refreshAt)
	}
	if l.calmAt > 0 {
		at = min(at, l.calmAt)
	}
	return at
}

// patience is how long after an advertisement of this node the peer may take
// over. A loop that was away for longer is no longer the holder, whatever it
// believes.
func (o *Orchestrator) patience() time.Duration {
	return o.cfg.Router.Version.ActiveDownInterval(o.cfg.PeerPriority, o.cfg.Router.Interval.Duration())
}

// checkLate applies the late rule before anything else is looked at.
func (o *Orchestrator) checkLate() {
	if o.lease.acquire != 0 && o.now.Sub(o.lease.before) > min(o.patience(), o.cfg.Lease) {
		// The kernel's answer waited for the loop: what it says may be over.
		o.dropAddress()
		o.pivotEnded(hooks.Failed, "the loop was away while the address was added")
	}
	if !o.lease.held && o.router.State() != vrrp.Active {
		return
	}
	switch late := o.now.Sub(o.lease.progress); {
	case late > o.patience():
		o.stepDown(Why{Reason: Late, Detail: "the loop was away for " + late.Round(time.Millisecond).String()}, hooks.OnFault)
	case o.lease.held && o.lease.over(o.now):
		o.stepDown(Why{Reason: LeaseLost}, hooks.OnFault)
	}
}

func (o *Orchestrator) tickLease() {
	l := &o.lease
	if !l.held {
		return
	}
	if !o.now.Before(l.renewAt) {
		l.before, l.lengthBefore = l.renewed, l.length
		l.renewed, l.length = o.now, o.leaseNow()
		l.renewAt = o.nextRenewal()
		o.emit(Hold{Lease: l.length})
	}
	if l.calmAt > 0 && !o.now.Before(l.calmAt) {
		l.calmAt = 0
		o.announceAnew()
	}
	if l.secondAt > 0 && !o.now.Before(l.secondAt) {
		l.secondAt = 0
		o.startBurst()
	}
	for l.burst > 0 && !o.now.Before(l.burstAt) {
		l.burst--
		l.burstAt = o.now.Add(o.cfg.Announce.Interval)
		o.announceNow()
	}
	if l.refreshAt > 0 && !o.now.Before(l.refreshAt) {
		o.announceNow()
	}
}

// contested notes that a weaker Active was heard: it announces the address until
// it knows better, so this node has the last word afterwards.
func (o *Orchestrator) contested() {
	if o.lease.held {
		o.lease.calmAt = o.now.Add(o.cfg.Router.Interval.Duration() * 3 / 2)
	}
}

// nextRenewal is within a quarter of the lease, and at the same instants for all
// instances of a lease: the kernel removes addresses in sweeps, and those that
// were renewed together go together.
func (o *Orchestrator) nextRenewal() mono.Instant {
	quarter := mono.Instant(o.cfg.Lease / 4)
	return o.now - o.now%quarter + quarter
}

func (o *Orchestrator) startBurst() {
	o.lease.burst, o.lease.burstAt = max(1, o.cfg.Announce.Repeat), o.now
}

func (o *Orchestrator) announceNow() {
	if !o.lease.held {
		return
	}
	o.emit(Announce{})
	if o.cfg.Announce.Refresh > 0 {
		o.lease.refreshAt = o.now.Add(o.cfg.Announce.Refresh)
	}
}

// acquire asks for the address; heldAnswer goes on. On a link that is down, even
// for a moment, nobody could be told of it.
func (o *Orchestrator) acquire() {
	if o.link.down != 0 {
		o.pivotEnded(hooks.Failed, o.link.detail)
		return
	}
	o.lease.acquire = o.id()
	o.lease.before, o.lease.acquiring = o.now, o.leaseNow()
	o.emit(Hold{ID: o.lease.acquire, Lease: o.lease.acquiring})
}

// haveAddress notes that the kernel has the address for a time as of since.
func (o *Orchestrator) haveAddress(since mono.Instant, lease time.Duration) {
	l := &o.lease
	l.held, l.renewed, l.before = true, since, since
	l.length, l.lengthBefore = lease, lease
	l.renewAt = o.nextRenewal()
	if l.progress < since {
		l.progress = since
	}
	o.announceAnew()
	o.guard = guard{at: o.now.Add(guardFirst)}
	o.dirty = true
}

// announceAnew starts the announcements as after an acquisition.
func (o *Orchestrator) announceAnew() {
	if o.cfg.Announce.Delay > 0 {
		o.lease.secondAt = o.now.Add(o.cfg.Announce.Delay)
	}
	o.startBurst()
}

// dropAddress takes the address off, whether it is known to be there or not.
func (o *Orchestrator) dropAddress() {
	o.emit(Drop{})
	if o.lease.held {
		o.alive = 0 // from now on the peer can have a lease of which that answer knew nothing
	}
	o.lease = lease{progress: o.lease.progress}
	o.dirty = true
}

func (o *Orchestrator) heldAnswer(ev Held) {
	l := &o.lease
	if ev.ID == 0 {
		if l.held && ev.Err != nil {
			l.renewed, l.length, l.renewAt = l.before, l.lengthBefore, o.now.Add(renewRetry)
		}
		return
	}
	if ev.ID != l.acquire {
		return
	}
	since := l.before
	l.acquire = 0
	if ev.Err != nil {
		o.pivotEnded(hooks.Failed, ev.Err.Error())
		return
	}
	o.haveAddress(since, l.acquiring)
	if o.taking() {
		// The old node lets go at the first advertisement: by then the neighbours have
		// to know who answers.
		o.tickLease()
	}
	if o.router.State() != vrrp.Active {
		o.route(vrrp.Claim{})
	}
	o.tickLease()
	o.acquired()
	o.pivotEnded(hooks.Changed, "")
}
