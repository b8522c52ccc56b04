package peer

// A path keeps two things up for as long as it runs: a connection to the peer,
// by which it sends, and a listener, by which it receives.

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tanist-ha/tanist/internal/mono"
)

// firstWait and longestWait bound the time from one attempt to the next.
const (
	firstWait   = 50 * time.Millisecond
	longestWait = time.Second
)

type path struct {
	link        *Link
	local, peer netip.Addr
	outbox      *outbox
	// kick has one slot: the peer just connected to us, so dialing is worth it.
	kick chan struct{}
	// rekey has one slot: the keys are others.
	rekey chan struct{}

	unproved, proving *door

	connected                           atomic.Bool
	reads                               atomic.Int64 // up to which kind of item the peer reads; 0: not connected
	heard                               atomic.Int64
	sent, tooLong, received, duplicates atomic.Uint64
	refusals                            refusals

	mu           sync.Mutex // guards the fields below
	incoming     *incoming  // by which the peer speaks
	listening    *listener
	sendError    Failure
	receiveError Failure
}

func newPath(l *Link, p Path) *path {
	return &path{
		link: l, local: p.Local, peer: p.Peer, outbox: newOutbox(),
		kick: make(chan struct{}, 1), rekey: make(chan struct{}, 1),
		unproved: newDoor(unprovedLimit), proving: newDoor(provingLimit),
	}
}

// terms is what this end brings to a connection made now.
func (p *path) terms() terms {
	l := p.link
	return terms{
		node: l.cfg.Node, peer: l.cfg.Peer, local: p.local, remote: p.peer,
		versions: l.versions, secrets: l.secrets.Load(), boot: l.cfg.boot, items: l.cfg.items,
	}
}

func failure(err error) Failure {
	f := Failure{Text: brief(err.Error()), At: now()} // which may quote what came
	var no *refusal
	if errors.As(err, &no) {
		f.Reason = no.reason
	}
	return f
}

func (p *path) failSend(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sendError = failure(err)
}

func (p *path) failReceive(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.receiveError = failure(err)
}

func (p *path) status() Status {
	p.noteDropped()
	p.mu.Lock()
	defer p.mu.Unlock()
	counts := p.refusals.load()
	s := Status{
		Peer: p.peer, Connected: p.connected.Load(), Accepted: p.incoming != nil, Heard: mono.Instant(p.heard.Load()),
		Sent: p.sent.Load(), Superseded: p.outbox.superseded(), TooLong: p.tooLong.Load(),
		Received: p.received.Load(), Duplicates: p.duplicates.Load(), Refusals: counts,
		SendError: p.sendError, ReceiveError: p.receiveError,
	}
	if p.incoming != nil {
		if k := p.incoming.agreed.key; k != nil {
			s.Proved, s.SecondKey = true, !p.link.secrets.Load().prefers(k)
		}
		s.Version = p.incoming.agreed.version
	}
	return s
}

// backoff spaces attempts: firstWait from one beginning to the next, then twice
// as long each time, up to longestWait.
type backoff struct {
	began  time.Time
	period time.Duration
}

func (b *backoff) begin() {
	b.began = time.Now()
	b.period = min(max(2*b.period, firstWait), longestWait)
}

// worked forgets earlier failures if what began at since held for long enough
// not to be one itself.
func (b *backoff) worked(since time.Time) {
	if time.Since(since) >= longestWait {
		b.period = 0
	}
}

// wait returns when the next attempt is due: at its time, or when kick says that
// it will succeed.
func (b *backoff) wait(ctx context.Context, kick <-chan struct{}) {
	t := time.NewTimer(time.Until(b.began.Add(b.period)))
	defer t.Stop()
	select {
	case <-t.C:
	case <-kick:
		b.period = 0
	case <-ctx.Done():
	}
}

// accepted reports whether the peer's connection to this node stands.
func (p *path) accepted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.incoming != nil
}
