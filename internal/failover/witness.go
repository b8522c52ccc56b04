package failover

import (
	"fmt"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/vrrp"
)

// A witness is a third party that both nodes can ask when they do not hear each other.
// It is asked beside the peer's kernel, so that a takeover waits for neither longer
// than for the other: to take the role a standby needs its yes, to keep it an Active
// needs to hear somebody.

// Purpose is what a node asks its witness about.
type Purpose uint8

// What a witness is asked about.
const (
	ToHold Purpose = iota + 1 // this node has the role, or only wants to know
	ToTake                    // it is about to take it
)

// String returns the purpose in one word.
func (p Purpose) String() string {
	return nameOf([]string{"none", "hold", "take"}, "Purpose", uint8(p))
}

// Verdict is a witness's answer. One that is not known is a no to who wants to take
// the role, and neither yes nor no to who has it.
type Verdict uint8

// The answers of a witness.
const (
	VerdictUnknown Verdict = iota // the question could not be put
	VerdictYes
	VerdictNo
)

// String returns the verdict in one word.
func (v Verdict) String() string {
	return nameOf([]string{"unknown", "yes", "no"}, "Verdict", uint8(v))
}

const (
	// witnessWithin bounds one question to the witness, which answers at once.
	witnessWithin = 200 * time.Millisecond
	// witnessHolds is for how long a yes counts, from when the question was put.
	witnessHolds = 500 * time.Millisecond
	// witnessPatience is for how long a takeover waits for the yes: three questions.
	witnessPatience = 3 * (witnessWithin + askSlack)
	// witnessEvery is how often the witness is asked so that status can show it.
	witnessEvery = 10 * time.Second
)

// witnessing is what is known of the witness.
type witnessing struct {
	id      ID // of the question that is out, 0: none
	until   mono.Instant
	asked   mono.Instant // when the latest question was put, 0: never
	yes     mono.Instant // when the latest was put that it answered with a yes, 0: none
	verdict Verdict      // its latest answer
	detail  string
	at      mono.Instant // when that came, 0: never
	noes    int          // questions since the latest sign of anybody, all without a yes
}

// Witnessing is the witness as status shows it.
type Witnessing struct {
	Kind    string
	Known   bool // it was asked
	Verdict Verdict
	Age     time.Duration // of the verdict
	Detail  string
}

func (o *Orchestrator) witnessing() *Witnessing {
	if o.cfg.Witness == "" {
		return nil
	}
	w := &Witnessing{Kind: o.cfg.Witness, Known: o.witness.at != 0, Verdict: o.witness.verdict, Detail: o.witness.detail}
	if w.Known {
		w.Age = o.now.Sub(o.witness.at)
	}
	return w
}

// witnessWanted returns what the witness is to be asked now, and how long after the
// question before.
func (o *Orchestrator) witnessWanted() (Purpose, time.Duration) {
	if b := o.bid; b != nil && !o.lease.held {
		if o.unheard(b) {
			if o.now.Sub(o.witness.yes) <= witnessHolds/2 && o.witness.yes != 0 {
				return ToTake, witnessHolds / 2
			}
			return ToTake, askAgain
		}
		return ToHold, witnessEvery
	}
	switch {
	case o.linkFresh():
	case o.role == hooks.Active:
		return ToHold, o.isolationAsks()
	case o.early.id != 0 && o.router.State() == vrrp.Backup:
		return ToTake, askAgain
	case o.silent:
		return ToTake, retryDelay / 2
	}
	return ToHold, witnessEvery
}

func (o *Orchestrator) witnessDeadline() mono.Instant {
	w := &o.witness
	switch {
	case o.cfg.Witness == "":
		return mono.Never
	case w.id != 0:
		return w.until
	case w.asked == 0:
		return o.now
	}
	_, after := o.witnessWanted()
	return w.asked.Add(after)
}

func (o *Orchestrator) tickWitness() {
	w := &o.witness
	if o.now.Before(o.witnessDeadline()) {
		return
	}
	if w.id != 0 { // the answer was lost
		o.witnessed(Witnessed{ID: w.id, Detail: "no answer to the question"})
		return
	}
	purpose, _ := o.witnessWanted()
	epoch := o.activeEpoch
	if purpose == ToTake {
		epoch = o.epoch + 1
	}
	w.id, w.asked, w.until = o.id(), o.now, o.now.Add(witnessWithin+askSlack)
	o.emit(AskWitness{ID: w.id, Within: witnessWithin, Epoch: epoch, Purpose: purpose})
	if o.role == hooks.Active && !o.linkFresh() {
		o.askIsolated()
	}
}

// witnessed takes the answer.
func (o *Orchestrator) witnessed(ev Witnessed) {
	w := &o.witness
	if ev.ID == 0 || ev.ID != w.id {
		return
	}
	o.dirty = o.dirty || w.at == 0 || w.verdict != ev.Verdict
	w.id, w.verdict, w.detail, w.at = 0, ev.Verdict, ev.Detail, o.now
	if ev.Verdict == VerdictYes {
		w.yes, w.noes = w.asked, 0
	} else {
		w.noes++
	}
}

// unheard reports whether a bid is one that the witness has a say in: nobody told this
// node that the role is free.
func (o *Orchestrator) unheard(b *bid) bool {
	if b.force || o.linkFresh() {
		return false
	}
	return !o.left || !o.proved || o.now.Sub(o.lastWord) > goodbyeHolds
}

// vouched reports whether the witness lets a bid go on.
func (o *Orchestrator) vouched(b *bid) bool {
	if o.cfg.Witness == "" || !o.unheard(b) {
		return true
	}
	return o.witness.yes != 0 && o.now.Sub(o.witness.yes) <= witnessHolds
}

// awaitWitness lets a bid wait for the witness, which is asked again and again.
func (o *Orchestrator) awaitWitness() {
	b := o.bid
	b.stage, b.wait, b.until = bidVouching, 0, o.now.Add(witnessPatience)
	o.enterQuietly(Why{Reason: b.reason, Detail: "waiting for the witness"})
}

// unvouched reports whether a bid waited for its witness at the address for so long that
// there will be no answer.
func (o *Orchestrator) unvouched() bool {
	b := o.bid
	if b.stage != bidRunning || o.run == nil || o.run.pivot == 0 || o.vouched(b) {
		b.unvouched = 0
		return false
	}
	if b.unvouched == 0 {
		b.unvouched = o.now
	}
	return o.now.Sub(b.unvouched) > witnessPatience
}

func (o *Orchestrator) witnessSilent() Why {
	return Why{Reason: WitnessSilent, Detail: fmt.Sprintf("the witness (%s) does not answer, and %s is not heard", o.cfg.Witness, o.cfg.Peer)}
}
