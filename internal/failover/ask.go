package failover

import (
	"time"

	"github.com/tanist-ha/tanist/internal/mono"
)

// A silent daemon may have a kernel that still holds the address. Before a bid
// goes on, and again before it takes the address, the peer's kernel is asked.

// askAgain is the time between two questions to the peer's kernel.
const askAgain = mono.Instant(100_000_000)

// asksWithoutAnswer is how many questions in a row must go unanswered before
// a host counts as dead, or the address of a live one as gone: each repeats its
// packets, and still an answer can get lost.
const asksWithoutAnswer = 2

// silenceHolds is for how long the answer of the peer's kernel counts: most plans
// come to the address in less, and the others ask again.
const silenceHolds = 500 * time.Millisecond

func (o *Orchestrator) ask() {
	b := o.bid
	b.stage, b.wait, b.until = bidAsking, o.id(), o.now.Add(retryDelay)
	o.emit(AskKernel{ID: b.wait})
}

func (o *Orchestrator) asked(ev Asked) {
	if ev.ID != 0 && ev.ID == o.goneAsk {
		o.goneAsk = 0
		if ev.Err == nil && !ev.Host && !ev.Address {
			o.gone = o.now
		}
		return
	}
	b := o.bid
	if b == nil || ev.ID != b.wait || ev.ID == 0 {
		return
	}
	if b.stage == bidRunning {
		o.askedAtPivot(ev)
		return
	}
	if b.stage != bidAsking {
		return
	}
	b.wait = 0
	over := o.leaseOver(ev)
	switch {
	case ev.Err != nil:
		b.misses = 0
		o.enter(Refused, Why{Reason: CannotAsk, Detail: ev.Err.Error()})
	case !ev.Address && !ev.Host && (over || !o.kernelLived() && b.quiet+1 >= asksWithoutAnswer):
		// Dead or cut off: waiting would help nobody.
		b.dead, b.silence = true, o.now
		o.bidMeasure(bidMeasuring)
		return
	case ev.Address:
		b.misses = 0
		if over {
			o.enter(Conflict, Why{Reason: AddressAnswers, Detail: "the silent peer's host answers for the address after its lease must have ended"})
		}
	case !ev.Host && !o.kernelLived():
		b.quiet++
	default:
		b.misses++
		// A daemon that was never heard may not have got round to speaking, and
		// on another network the address would not have answered anyhow: then
		// only the lease tells that it is gone.
		if b.misses >= asksWithoutAnswer && (o.answered && ev.OnLink || over) {
			b.silence = o.now
			o.bidMeasure(bidMeasuring)
			return
		}
	}
	b.stage, b.until = bidWaiting, o.now+askAgain
	if b.quiet > 0 {
		o.ask() // at once: the peer had all the time it gets
	}
}

// clear reports whether the address may be taken now. A plan can take long, and
// what was true when it began may not be: a peer that speaks has to have heard of
// the claim, and one that does not is asked for again.
func (o *Orchestrator) clear() bool {
	b := o.bid
	switch {
	case o.linkFresh():
		return !o.peer.state.Echo.Before(b.claimed)
	case b.silence != 0 && o.now.Sub(b.silence) <= silenceHolds:
		return true
	case b.wait == 0 && !o.now.Before(b.askAt):
		o.askAtPivot()
	}
	return false
}

func (o *Orchestrator) askAtPivot() {
	b := o.bid
	b.wait = o.id()
	o.emit(AskKernel{ID: b.wait})
}

// leaseOver reports whether the silent peer's lease must have ended. It counts
// from the first answer of the peer's kernel, not from the daemon's last word: a
// host that was paused in between has a clock that stood meanwhile.
func (o *Orchestrator) leaseOver(ev Asked) bool {
	if (ev.Host || ev.Address) && !o.kernelLived() {
		o.alive = o.now
	}
	return o.now.After(max(o.alive, o.lastWord).Add(o.cfg.Lease + leaseGrace))
}

// kernelLived reports whether the peer's kernel answered since its daemon fell
// silent. After that, a question without an answer more likely got lost than the
// host died in between: only the lease tells.
func (o *Orchestrator) kernelLived() bool { return o.alive != 0 && !o.alive.Before(o.lastWord) }

// askedAtPivot takes the answer to a question that was put by a running plan.
func (o *Orchestrator) askedAtPivot(ev Asked) {
	b := o.bid
	b.wait = 0
	over := o.leaseOver(ev)
	switch {
	case ev.Err != nil:
		b.askAt = o.now + askAgain
	case ev.Address && over:
		o.withdrawBid(Why{Reason: AddressAnswers, Detail: "the silent peer's host answers for the address after its lease must have ended"})
		return
	case ev.Address:
		b.misses, b.askAt = 0, o.now+askAgain
	case !ev.Host && !o.kernelLived() && b.quiet+1 >= asksWithoutAnswer, over, ev.OnLink && b.misses+1 >= asksWithoutAnswer:
		b.silence, b.dead = o.now, !ev.Host
		return
	case !ev.Host && !o.kernelLived():
		b.quiet++
		b.askAt = o.now // at once: the peer had all the time it gets
	default:
		b.misses++
		b.askAt = o.now + askAgain
	}
	b.until = b.askAt
}
