package failover

import (
	"time"

	"github.com/tanist-ha/tanist/internal/mono"
)

// Who is Active is what the Active itself says: over the link, or, where the link is
// down, by advertisements that prove an epoch. No file of this host has a say.

// attestTime is for how long advertisements must have proved one epoch to stand in
// for the link: a claim that fails is over by then.
const attestTime = 3 * time.Second

// attested is what the advertisements of an Active prove.
type attested struct {
	epoch Epoch        // 0: none
	since mono.Instant // the first of an unbroken row
	at    mono.Instant // the latest
}

// attest notes an advertisement of the peer.
func (o *Orchestrator) attest(ev Advertised) {
	epoch := ev.Epoch
	if !ev.Proved {
		epoch = 0
	}
	switch {
	case ev.Advertisement.Priority == 0:
		o.attested = attested{}
		return
	case epoch != o.attested.epoch || !o.advertises():
		o.attested = attested{epoch: epoch, since: o.now}
	}
	o.attested.at = o.now
}

// advertises reports whether an Active was heard a moment ago.
func (o *Orchestrator) advertises() bool {
	return o.attested.at != 0 && o.now.Sub(o.attested.at) <= o.router.ActiveDownInterval()
}

// activePeer returns the epoch in which the peer is Active, if that is certain.
func (o *Orchestrator) activePeer() (Epoch, bool) {
	if o.linkFresh() {
		s := o.peer.state
		// With the address the peer has the role, though the rest of its promotion may wait
		// for a unit of this node to stop.
		return s.ActiveEpoch, s.Holds && (s.State == Active || s.State == Promoting)
	}
	a := o.attested
	ok := o.linkSilent() && o.advertises() && a.epoch > 0 && a.epoch >= max(o.heldEpoch(), o.peer.state.ActiveEpoch) &&
		o.now.Sub(a.since) >= attestTime
	return a.epoch, ok
}

// linkSilent reports whether the link has been down for so long that a state said
// over it may be another one now.
func (o *Orchestrator) linkSilent() bool {
	return !o.linkFresh() && o.now.Sub(max(o.peer.at, o.begun)) > HandoverLease
}

// unattested is what a standby says that hears an Active and cannot know which
// promotion it is.
const unattested = "by advertisements that prove no epoch: units, labels and files wait for the link"

// thinkUnattested says why a standby that hears an Active leaves its host as it is.
func (o *Orchestrator) thinkUnattested() {
	a := o.attested
	if o.state == Backup && o.linkSilent() && o.advertises() && a.epoch == 0 && o.now.Sub(a.since) >= attestTime &&
		(o.why.Reason == PeerActive || o.why.Reason == Starting) {
		o.enter(Backup, Why{Reason: PeerActive, Detail: unattested})
	}
}
