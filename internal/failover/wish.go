package failover

import (
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/vrrp"
)

// An operator may ask either node. The Active carries a switchover out; the
// other node passes the wish on and waits for the answer.

// wishPatience is how much longer than the operator's own time the answer to a
// wish may take: rolling back takes time too.
const wishPatience = 30 * time.Second

// preemptPatience bounds a switchover that nobody watches.
const preemptPatience = time.Minute

type wishing struct {
	wish    Wish
	command ID
	until   mono.Instant
}

func (o *Orchestrator) switchoverWanted(ev SwitchoverWanted) {
	r := ev.Request
	if r.To == "" {
		r.To = o.cfg.Peer
		if o.role != hooks.Active {
			r.To = o.cfg.Node
		}
	}
	switch {
	case r.To == o.cfg.Node && o.state == Active, r.To == o.cfg.Peer && o.linkFresh() && o.peer.state.State == Active && o.role != hooks.Active:
		o.emit(Answer{Command: ev.Command, Outcome: Done, Why: Why{Reason: o.why.Reason, Detail: r.To + " is active already"}})
	case o.role == hooks.Active:
		o.beginGive(&giving{cause: cause(r), request: r, command: ev.Command, until: o.now.Add(r.Timeout)})
	case o.wish != nil || o.bid != nil && o.bid.command != 0:
		o.refuse(ev.Command, Why{Reason: Busy, Detail: "another switchover was asked for"})
	case o.peerIsActive() || r.To == o.cfg.Peer:
		o.passOn(ev.Command, r)
	default:
		o.bidFor(r, ev.Command, HandoverID{})
	}
}

func cause(r Request) Reason {
	switch {
	case r.Force:
		return Forced
	case r.Preempt:
		return Preempting
	}
	return Requested
}

func (o *Orchestrator) refuse(command ID, w Why) {
	o.emit(Answer{Command: command, Outcome: RefusedTo, Why: w})
}

// passOn hands the command to the peer.
func (o *Orchestrator) passOn(command ID, r Request) {
	if !o.linkFresh() {
		o.refuse(command, Why{Reason: PeerUnreachable})
		return
	}
	o.wish = &wishing{
		wish:    Wish{ID: HandoverID{Boot: o.boot, Seq: uint64(o.id())}, Request: r},
		command: command, until: o.now.Add(r.Timeout + wishPatience),
	}
	o.dirty = true
}

// tickWish looks for the answer.
func (o *Orchestrator) tickWish() {
	w := o.wish
	if w == nil {
		return
	}
	switch g := o.peer.state.Granted; {
	case g != nil && g.ID == w.wish.ID:
		o.answerWish(g.Outcome, g.Why)
	case w.wish.Request.To == o.cfg.Node && o.state == Active && o.now.Sub(o.peer.at) > HandoverLease:
		o.answerWish(Incomplete, Why{Reason: o.why.Reason, Detail: o.cfg.Peer + " fell silent, and " + o.cfg.Node + " is active"})
	case !o.now.Before(w.until):
		o.answerWish(TimedOutBack, Why{Reason: PeerUnreachable, Detail: "no answer from " + o.cfg.Peer})
	}
}

func (o *Orchestrator) answerWish(out Outcome, w Why) {
	if o.wish.command != 0 {
		o.emit(Answer{Command: o.wish.command, Outcome: out, Why: w})
	}
	o.wish = nil
	o.dirty = true
}

// thinkPeerWish carries out what an operator asked the peer for.
func (o *Orchestrator) thinkPeerWish() {
	if !o.linkFresh() || o.peer.state.Wish == nil || o.peer.state.Wish.ID == o.granting {
		return
	}
	w := *o.peer.state.Wish
	o.granting = w.ID
	r := w.Request
	switch {
	case r.To == o.cfg.Node && o.state == Active:
		o.granted = &Grant{ID: w.ID, Outcome: Done, Why: Why{Reason: o.why.Reason, Detail: r.To + " is active already"}}
		o.dirty = true
	case o.role == hooks.Active:
		o.beginGive(&giving{cause: cause(r), request: r, wish: w.ID, until: o.now.Add(r.Timeout)})
	case r.To == o.cfg.Node:
		o.bidFor(r, 0, w.ID)
	default:
		o.granted = &Grant{ID: w.ID, Outcome: RefusedTo, Why: Why{Reason: Busy, Detail: o.cfg.Node + " is " + o.state.String()}}
		o.dirty = true
	}
}

// bidFor takes over while nobody is Active, because an operator says so.
func (o *Orchestrator) bidFor(r Request, command ID, wish HandoverID) {
	b := &bid{reason: cause(r), force: r.Force, request: r, command: command, wish: wish}
	if old := o.bid; old != nil && old.stage < bidJournaling && old.command == 0 && old.wish == (HandoverID{}) {
		o.bid = nil // the operator's takes its place
	}
	if r.Force && !r.DryRun {
		o.isolation.forced = o.now
	}
	w, faulty := o.fault()
	held := o.heldGate(o.bidCause())
	switch {
	case o.bid != nil, o.busy() && o.run.purpose != closing && o.run.purpose != settling, o.taking(), o.giving(),
		o.router.State() != vrrp.Backup, o.stopping:
		o.answerBid(b, RefusedTo, Why{Reason: Busy, Detail: o.cfg.Node + " is " + o.state.String()})
	case faulty:
		o.answerBid(b, RefusedTo, w) // not by force either
	case !o.silent && !r.Force:
		o.answerBid(b, RefusedTo, Why{Reason: Busy, Detail: "an Active was heard a moment ago"})
	case len(held) > 0 && !r.Force:
		o.answerBid(b, RefusedTo, Why{Reason: GateClosed, Gate: held})
	case r.DryRun:
		out, w := Done, Why{Reason: b.reason}
		if verdict := o.bidGate(); !verdict.Open && !r.Force {
			out, w = RefusedTo, Why{Reason: GateClosed, Gate: verdict.Reasons}
		}
		o.answerBid(b, out, w)
	default:
		o.beginBid(b)
	}
}

// rival is a weaker Active that is no Tanist: it never spoke over the link, and
// its advertisements prove nothing. No switchover can be asked of it; it lets go
// when it hears a stronger one (RFC 9568 §6.4.3).
type rival struct {
	priority uint8
	at       mono.Instant // when it was last heard, 0: never
}

func (o *Orchestrator) noteRival(ev Advertised) {
	o.rival = rival{}
	if p := ev.Advertisement.Priority; p > 0 && !ev.Proved && !o.peer.known {
		o.rival = rival{priority: p, at: o.now}
	}
	if b := o.bid; b != nil && b.contend && b.before(bidRunning) && !o.outranks() {
		b.contend = false // overtaken then
	}
}

// outranks reports whether a rival is there that has to give way.
func (o *Orchestrator) outranks() bool {
	return o.rival.at != 0 && !o.peer.known && o.rival.priority < o.cfg.Router.Priority &&
		o.now.Sub(o.rival.at) <= o.router.ActiveDownInterval()
}

// thinkPreempt takes the role back from a weaker Active once this node has been
// fit for it for PreemptDelay: by a switchover, or from a rival by outranking it.
func (o *Orchestrator) thinkPreempt() {
	switch {
	case !o.fit() || !o.mayAskBack() && !o.mayContend():
		o.better = 0
	case o.better == 0:
		o.better = o.now
	case o.now.Sub(o.better) < o.cfg.PreemptDelay:
	case o.mayContend():
		o.better = 0
		o.beginBid(&bid{reason: Preempting, contend: true})
	default:
		o.better = o.now.Add(failureDelay) // not again at once if it is refused
		o.passOn(0, Request{To: o.cfg.Node, Timeout: preemptPatience, Preempt: true})
	}
}

// fit reports whether this node is to preempt and could keep the role.
func (o *Orchestrator) fit() bool {
	_, unsampled := o.board.Unsampled()
	return o.cfg.Preempt && !unsampled && len(o.board.Unfit()) == 0 && o.run == nil && o.bids() && o.standingGate().Open
}

func (o *Orchestrator) mayAskBack() bool {
	p := o.peer.state
	return o.cfg.Router.Priority > o.cfg.PeerPriority && o.state == Backup && o.wish == nil && o.linkFresh() &&
		p.State == Active && p.Holds
}

func (o *Orchestrator) mayContend() bool {
	return (o.state == Backup || o.state == Refused) && o.bid == nil && !o.stopping && o.router.State() == vrrp.Backup &&
		o.outranks() && !o.now.Before(o.notUntil)
}
