package failover

import (
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/vrrp"
)

// A standby that misses advertisements asks the peer's kernel before the
// Active_Down_Interval is over, so that a dead host costs no time beyond it.

// Bounds of a question to the peer's kernel.
const (
	askShortest = 5 * time.Millisecond
	askLongest  = 65 * time.Millisecond
)

// earlyTime is how long before the silence counts the questions that find a host
// dead begin: as long as they last, and some for how late each answer comes.
func earlyTime(within time.Duration) time.Duration {
	return asksWithoutAnswer*within + within*3/4
}

// askSlack is how much later than its bound an answer may come.
const askSlack = 50 * time.Millisecond

type early struct {
	id    ID           // the question that is out, 0: none
	until mono.Instant // its answer counts until then
	quiet int          // questions in a row that nobody answered, all after the peer's last word
	over  bool         // enough is known until the peer's next word
	found mono.Instant // when the latest of quiet came back
}

// askWithin bounds one question: the questions that find a host dead fit into
// the second half of the time that its silence takes to count.
func (o *Orchestrator) askWithin() time.Duration {
	return min(max(o.router.ActiveDownInterval()/(2*asksWithoutAnswer), askShortest), askLongest)
}

func (o *Orchestrator) earlyDeadline() mono.Instant {
	e := &o.early
	if e.id != 0 {
		return e.until
	}
	if e.over || o.left || o.deaf || o.role != hooks.Standby || o.router.State() != vrrp.Backup || o.bid != nil || o.taking() || o.giving() {
		return mono.Never
	}
	down, armed := o.router.Deadline()
	if !armed {
		return mono.Never
	}
	within := o.askWithin()
	return max(down.Add(-earlyTime(within)), o.lastWord.Add(o.earlyPause()))
}

// earlyPause is for how long a word over the link puts the questions off: until
// the next one is due, unless the silence counts before.
func (o *Orchestrator) earlyPause() time.Duration {
	return min(o.router.ActiveDownInterval()/(2*asksWithoutAnswer), TellInterval*5/4)
}

func (o *Orchestrator) tickEarly() {
	if o.now.Before(o.earlyDeadline()) {
		return
	}
	if o.early.id != 0 { // the answer was lost
		o.early.id, o.early.over = 0, true
		return
	}
	o.askEarly()
}

func (o *Orchestrator) askEarly() {
	within := o.askWithin()
	o.early.id, o.early.until = o.id(), o.now.Add(within+askSlack)
	o.emit(AskKernel{ID: o.early.id, Within: within})
}

// askedEarly takes the answer in, and asks again if there was none.
func (o *Orchestrator) askedEarly(ev Asked) {
	e := &o.early
	e.id = 0
	o.noteKernel(ev)
	switch {
	case ev.Err != nil, ev.Host, ev.Address, ev.Stranger != "", o.kernelLived():
		e.quiet, e.over = 0, true
	default:
		e.quiet, e.found = e.quiet+1, o.now
		if e.quiet < asksWithoutAnswer {
			o.askEarly()
			return
		}
		e.over = true
	}
}

// hostSilent reports whether the peer's whole host was found silent after its
// last word. What it said before is void then.
func (o *Orchestrator) hostSilent() bool { return o.early.quiet >= asksWithoutAnswer }
