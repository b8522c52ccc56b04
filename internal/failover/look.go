package failover

import "github.com/tanist-ha/tanist/internal/mono"

// A frozen node whose new node does not speak asks the new node's kernel before it
// opens writes again: the daemon may have ended right after it had the address, and
// clients may have written there. It takes as much to find the address gone as before
// a takeover; an address that is there is the new node's.

type look struct {
	id     ID           // of the question that is out, 0: none
	asked  mono.Instant // when the latest was put
	at     mono.Instant // the next one
	until  mono.Instant // what the new node's kernel may have is gone by itself then, 0: not asked yet
	lived  bool         // the kernel answered
	misses int          // answers in a row that the address is not there
	quiet  int          // questions in a row without an answer
}

// lookFirst asks for as long as it is not known where the address is.
func (o *Orchestrator) lookFirst() {
	g := o.give
	l := &g.look
	switch {
	case o.linkFresh(), l.until != 0 && !o.now.Before(l.until):
		o.rollBack(g.why)
		return
	case l.until == 0:
		l.until = o.now.Add(o.peerLeaseMost() + leaseGrace)
	}
	l.id, l.asked = o.id(), o.now
	l.at = min(o.now.Add(retryDelay), l.until)
	o.emit(AskKernel{ID: l.id, Within: askLongest})
}

func (o *Orchestrator) lookedFirst(ev Asked) {
	g := o.give
	l := &g.look
	l.id = 0
	if g.stage != GiveUndoing {
		return
	}
	if ev.Err == nil && ev.Address {
		o.release()
		return
	}
	l.at = min(max(l.asked.Add(askAgain), o.now), l.until)
	switch {
	case ev.Err != nil, ev.Stranger != "":
		l.misses, l.quiet = 0, 0
	case !ev.Host && !l.lived:
		l.quiet++
		l.at = o.now
	case ev.Host && ev.OnLink:
		l.misses++
	}
	if ev.Host {
		l.lived, l.quiet = true, 0
	}
	if l.quiet >= asksWithoutAnswer || l.misses >= asksWithoutAddress {
		o.rollBack(g.why)
	}
}
