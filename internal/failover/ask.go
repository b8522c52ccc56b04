package failover

import (
	"time"

	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/vrrp"
)

// A silent daemon may have a kernel that still holds the address. Before a bid
// goes on, and again before it takes the address, the peer's kernel is asked.

// askAgain is the time from one question to the peer's kernel to the next.
const askAgain = 100 * time.Millisecond

// How many questions in a row must go unanswered: each repeats its packets, and
// still all of them can get lost.
const (
	// asksWithoutAnswer is how many find a host dead. Each asks for the address and,
	// in several ways, for the host; where only the second path is left, in one.
	asksWithoutAnswer = 3
	// asksWithoutAddress is how many find the address of a live host gone. Only one
	// kind of packet tells that.
	asksWithoutAddress = 4
)

// silenceHolds is for how long the answer of the peer's kernel counts: most plans
// come to the address in less, and the others ask again.
const silenceHolds = 500 * time.Millisecond

// goodbyeHolds is for how long the goodbye of a Tanist counts for an answer of its
// kernel: what made it leave can be over, and it needs longer than this to find out that
// nobody else took the role.
const goodbyeHolds = 250 * time.Millisecond

// contendWithin bounds a question to the kernel of a rival, which is alive and has
// just been told to go: its clients wait.
const contendWithin = 25 * time.Millisecond

// hurries reports whether the kernel of a rival is asked in short questions: of
// two nodes that both contend, only the stronger one does.
func (o *Orchestrator) hurries() bool { return o.bid.contend && !o.yieldsTo() }

// yieldTime is how much later, besides an advertisement interval, the weaker of
// two nodes that wait for the same instant acts.
const yieldTime = 200 * time.Millisecond

func (o *Orchestrator) ask() {
	b := o.bid
	b.stage, b.wait, b.until, b.asked = bidAsking, o.id(), o.now.Add(retryDelay), o.now
	o.emit(AskKernel{ID: b.wait, Within: o.askWithin()})
}

func (o *Orchestrator) asked(ev Asked) {
	if ev.ID != 0 && ev.ID == o.guard.id {
		o.guarded(ev)
		return
	}
	if ev.ID != 0 && o.give != nil && ev.ID == o.give.look.id {
		o.lookedFirst(ev)
		return
	}
	if ev.ID != 0 && ev.ID == o.isolation.kernel {
		o.askedIsolated(ev)
		return
	}
	if ev.ID != 0 && ev.ID == o.early.id {
		o.askedEarly(ev)
		return
	}
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
	o.noteKernel(ev)
	if b.stage == bidRunning {
		o.askedAtPivot(ev)
		return
	}
	if b.stage != bidAsking {
		return
	}
	b.wait = 0
	over := o.leaseOver()
	switch {
	case ev.Err != nil:
		b.misses = 0
		o.enter(Refused, Why{Reason: CannotAsk, Detail: ev.Err.Error()})
	case ev.Stranger != "" && !ev.Address && !over:
		b.misses, b.quiet = 0, 0
		o.stranger(ev.Stranger)
	case !ev.Address && !ev.Host && (over || !o.kernelLived()) && b.quiet+1 >= asksWithoutAnswer:
		// Dead or cut off: waiting would help nobody.
		b.dead, b.silence = true, o.now
		o.bidMeasure(bidMeasuring)
		return
	case ev.Address:
		b.misses, b.quiet = 0, 0
		if over {
			o.enter(Conflict, Why{Reason: AddressAnswers, Detail: "the silent peer's host answers for the address after its lease must have ended"})
		}
	case !ev.Host && (over || !o.kernelLived()):
		b.quiet++
	case o.answered && ev.OnLink, over:
		b.quiet = 0
		b.misses++
		if b.misses >= asksWithoutAddress {
			b.silence = o.now
			o.bidMeasure(bidMeasuring)
			return
		}
	}
	b.stage, b.until = bidWaiting, b.asked.Add(askAgain)
	if ev.Address && over {
		b.until = o.now.Add(retryDelay) // nothing is in a hurry any more
	}
	if b.quiet > 0 || !o.now.Before(b.until) {
		o.ask() // of a host that may be dead at once: it had all the time it gets
	}
}

// stranger raises the alarm about a third host that answers for the address. It
// delays a takeover until the peer's lease must have ended and does not stop it:
// whoever wants to keep a service down would only have to answer.
func (o *Orchestrator) stranger(hardware string) {
	w := Why{Reason: StrangerAnswers, Detail: hardware + " answers for " + o.cfg.VIP + " and is not " + o.cfg.Peer}
	if o.state == Backup {
		o.enter(Backup, w)
	}
	if o.strange != hardware {
		o.strange = hardware
		o.emit(Note{State: o.state, Epoch: o.epoch, Why: w, Urgent: true})
	}
}

// doubt forgets what was found out so far.
func (b *bid) doubt() { b.silence, b.dead, b.misses, b.quiet = 0, false, 0, 0 }

// clear reports whether the address may be taken now. A plan can take long, and
// what was true when it began may not be: a peer that speaks has to have heard of
// the claim, and one that does not is asked for again.
func (o *Orchestrator) clear() bool {
	b := o.bid
	switch {
	case o.linkFresh():
		return o.echoed(b.claimed) && o.now.Sub(o.peer.state.Echo) <= LinkPatience
	case b.silence != 0 && o.now.Sub(b.silence) <= silenceHolds:
		return o.vouched(b)
	case b.wait == 0 && !o.now.Before(b.askAt):
		o.askAtPivot()
	}
	return false
}

// askAtPivot asks, and claims anew: without the link only an advertisement tells
// a rival on its way to the address to let go, and one alone can get lost.
func (o *Orchestrator) askAtPivot() {
	b := o.bid
	if o.router.State() == vrrp.Active {
		o.lease.progress = o.now
		o.send(o.router.Advertisement())
	}
	b.wait, b.asked = o.id(), o.now
	within := o.askWithin()
	switch {
	case o.hurries():
		within = min(within, contendWithin)
	case b.yields:
		within = askLongest
	}
	o.emit(AskKernel{ID: b.wait, Within: within})
}

// yieldOnce begins to count anew at the claim. Two live hosts without a link may
// find at the same time that the other does not have the address: the weaker one
// asks once more, for longer than a claim is under way, and either hears the
// other's before it acquires.
func (o *Orchestrator) yieldOnce() {
	b := o.bid
	b.yields = b.misses >= asksWithoutAddress && o.yieldsTo()
	b.misses, b.quiet = 0, 0
	if b.yields {
		b.silence, b.misses = 0, asksWithoutAddress-1
	}
}

// leaseOver reports whether the silent peer's lease must have ended. It counts
// from the first answer of the peer's kernel, not from the daemon's last word: a
// host that was paused in between has a clock that stood meanwhile.
func (o *Orchestrator) leaseOver() bool { return o.leaseOverAt(o.now) }

func (o *Orchestrator) leaseOverAt(at mono.Instant) bool {
	wait := o.peerLeaseMost() + leaseGrace
	if o.yieldsTo() {
		// Both may be waiting for the other's lease, and neither hears the other.
		wait += o.cfg.Router.Interval.Duration() + yieldTime
	}
	return at.After(max(o.alive, o.lastWord).Add(wait))
}

// noteKernel notes that the silent peer's kernel answers. One that answers again
// after as many questions without any answer as find a host dead, or after a time in
// which nobody asked, may have been paused meanwhile, and its lease with it.
func (o *Orchestrator) noteKernel(ev Asked) {
	switch {
	case ev.Host || ev.Address:
		if !o.kernelLived() || o.mute >= asksWithoutAnswer || o.unseen() {
			o.alive = o.now
		}
		o.aliveLast, o.mute = o.now, 0
	case ev.Err == nil:
		o.mute++
	}
}

// unseen reports whether so much time went by since the peer's kernel last answered
// that its host may have been paused for longer than leaseGrace allows for. A lease
// that was over by then no pause can prolong; but in a longer time it can be another.
func (o *Orchestrator) unseen() bool {
	gap := o.now.Sub(o.aliveLast)
	return gap > 2*retryDelay || gap > asksWithoutAnswer*askAgain+o.askWithin() && !o.leaseOverAt(o.aliveLast)
}

// kernelLived reports whether the peer's kernel answered since its daemon fell
// silent. After that, a question without an answer more likely got lost than the
// host died in between: only the lease tells.
func (o *Orchestrator) kernelLived() bool { return o.alive != 0 && !o.alive.Before(o.lastWord) }

// askedAtPivot takes the answer to a question that was put by a running plan.
func (o *Orchestrator) askedAtPivot(ev Asked) {
	b := o.bid
	b.wait = 0
	over := o.leaseOver()
	switch {
	case ev.Err != nil:
		b.askAt = b.asked.Add(askAgain)
	case ev.Address && over:
		o.withdrawBid(Why{Reason: AddressAnswers, Detail: "the silent peer's host answers for the address after its lease must have ended"})
		return
	case ev.Address, ev.Stranger != "" && !over:
		b.misses, b.quiet, b.askAt = 0, 0, b.asked.Add(askAgain)
	case !ev.Host && (over || !o.kernelLived()):
		b.quiet++
		b.askAt = o.now // at once: the peer had all the time it gets
	case ev.OnLink, over:
		b.quiet = 0
		b.misses++
		b.askAt = b.asked.Add(askAgain)
	default:
		b.askAt = b.asked.Add(askAgain)
	}
	if o.hurries() {
		b.askAt = o.now
	}
	switch {
	case b.quiet >= asksWithoutAnswer:
		b.silence, b.dead = o.now, true
	case b.misses >= asksWithoutAddress:
		b.silence, b.dead = o.now, false
	default:
		b.until = b.askAt
	}
}
