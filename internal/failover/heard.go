package failover

import (
	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/vrrp"
)

// What an advertisement of the peer tells, and what two Actives that hear each other do.

// advertised handles an advertisement of the peer.
func (o *Orchestrator) advertised(ev Advertised) {
	adv := ev.Advertisement
	if o.outdated(ev) {
		return
	}
	o.heardPeer()
	o.left, o.proved = adv.Priority == 0 && o.mayHaveLeft(ev), ev.Proved
	if adv.Priority == 0 && o.lease.held {
		o.announceAnew() // it may have had the address too, and clients may know it there
	}
	o.noteRival(ev)
	o.attest(ev)
	if ev.Proved {
		o.newest = max(o.newest, ev.Epoch)
		o.learn(ev.Epoch)
	}
	if o.router.State() != vrrp.Active || adv.Priority == 0 {
		o.clash = 0
		if adv.Priority > 0 {
			o.silent = false
		}
		o.route(vrrp.Received{Advertisement: adv, Source: ev.Source})
		return
	}
	if o.give != nil && o.give.stage >= GiveFrozen && o.give.stage <= GiveUndoing {
		// Only a node that has the address advertises: the answer by other means.
		o.release()
		return
	}
	o.contest(ev)
}

// outdated reports whether a goodbye was overtaken on its way: the peer has had
// the address in a newer epoch since.
func (o *Orchestrator) outdated(ev Advertised) bool {
	return ev.Advertisement.Priority == 0 && ev.Proved && ev.Epoch < max(o.newest, o.peer.state.ActiveEpoch)
}

// mayHaveLeft reports whether a goodbye says that the peer does not have the
// address. It says nothing of what comes when this node lets go in turn, nothing
// where it waited for this loop, and, if it proves nothing, it may be an old one:
// the peer's latest word over the link stands against it. Then the kernel is asked.
func (o *Orchestrator) mayHaveLeft(ev Advertised) bool {
	return o.role == hooks.Standby && o.now.Sub(o.woke) > queueTime && (ev.Proved || !o.peer.known || !o.peer.state.Holds)
}

// contest decides between two Actives that hear each other: the newer epoch
// stays; of one epoch the one whose databases took writes does, and only when that
// does not tell them apart does priority decide, as in RFC 9568 §6.4.3. A proved advertisement says its epoch itself. A peer that was
// never heard over the link is no Tanist and has none.
func (o *Orchestrator) contest(ev Advertised) {
	rec := vrrp.Received{Advertisement: ev.Advertisement, Source: ev.Source}
	if o.clash == 0 {
		o.clash = o.now
	}
	theirs, known := ev.Epoch, ev.Proved
	if !known {
		theirs, known = o.peer.state.ActiveEpoch, o.linkFresh()
	}
	switch {
	case o.bid != nil && !o.lease.held && ev.Proved && ev.Epoch > o.heldEpoch():
		// It was promoted later than this node ever was and does not give way to a
		// claim.
		o.withdrawBid(Why{Reason: PeerActive})
	case o.bid != nil && !o.lease.held:
		// Two claims, or one against a holder: who goes first is settled before the
		// address, and what was found out before this word means nothing.
		o.bid.doubt()
		if ev.Proved && ev.Epoch < o.heldEpoch() {
			o.answerContest() // it goes by the epochs, too
			return
		}
		o.route(rec)
	case known && theirs > o.activeEpoch:
		o.stepDown(Why{Reason: NewerEpoch}, hooks.OnDemote)
	case known && theirs < o.activeEpoch, !known && o.peer.known && o.now.Sub(o.clash) < conflictPatience:
		o.answerContest()
	case known && o.hasDatabases():
		o.contestWrites(rec)
	case o.router.Weaker(rec):
		o.answerContest()
	default:
		o.route(rec)
	}
}

// answerContest says at once who is here, and no more than once in an interval:
// two nodes that answer every answer on every path would never stop.
func (o *Orchestrator) answerContest() {
	o.contested()
	if o.now.Before(o.answerAt) {
		return
	}
	o.answerAt = o.now.Add(o.cfg.Router.Interval.Duration())
	o.lease.progress = o.now
	o.dirty = true
	o.send(o.router.Advertisement())
	o.announceNow()
}

func (o *Orchestrator) heardPeer() {
	if o.lease.held && o.now.Sub(o.lastWord) > o.patience() {
		// Whoever could not hear this node may have been heard by others.
		o.announceAnew()
	}
	o.lastWord, o.answered = o.now, true
	o.early, o.left, o.mute = early{}, false, 0
}
