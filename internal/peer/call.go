package peer

// A call asks the peer something that its state does not say, and waits for the
// answer. It is carried out at most once: a peer that was started again meanwhile
// is not asked a second time.

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// MaxCall is the longest body of a call and of its answer, in bytes.
	MaxCall = 64 << 10
	// MaxCallTime is the longest that a call waits, whatever its context says.
	MaxCallTime = 5 * time.Minute

	maxCallKind = 64
	maxCalls    = 4 // at once, of each node
	maxSaidText = 1024
)

// Why a call got no answer. Beside these it can end by an error of its context, or
// by a RemoteError.
var (
	// ErrUnreachable: no path to the peer stands, or its daemon was started again
	// during the call.
	ErrUnreachable = errors.New("the peer is not reachable")
	// ErrTimedOut: the deadline passed. The call may have been carried out.
	ErrTimedOut = errors.New("the peer did not answer in time")
	// ErrBusy: too many calls wait, here or there. This one was not carried out.
	ErrBusy = errors.New("too many calls at once")
	// ErrUnknownCall: the peer answers calls, but not of this kind.
	ErrUnknownCall = errors.New("the peer does not know this kind of call")
	// ErrOldRelease: the peer is of a release that does not know calls.
	ErrOldRelease = errors.New("the peer's release does not know calls")
)

// RemoteError is an error of the peer, by its text.
type RemoteError struct{ Text string }

func (e *RemoteError) Error() string { return fmt.Sprintf("the peer says: %.*q", maxSaidText, e.Text) }

// outcome is how a call ended at the peer. The numbers are sent.
type outcome byte

const (
	outcomeBody    outcome = 1
	outcomeError   outcome = 2 // the body is its text
	outcomeUnknown outcome = 3
	outcomeBusy    outcome = 4
)

// asked are the calls of this node that wait.
type asked struct {
	mu      sync.Mutex // guards the fields below
	last    uint64     // ID
	waiting map[uint64]*call
	ended   <-chan struct{} // by the end of the Run; nil while there is none
}

type call struct {
	id      uint64
	outcome chan result // one slot: the first counts
	ended   <-chan struct{}
}

type result struct {
	body []byte
	err  error
}

func (c *call) end(r result) {
	select {
	case c.outcome <- r:
	default: // it has ended before
	}
}

// Call asks the peer and waits for its answer until ctx ends, MaxCallTime at most.
// It goes by every path that stands or comes to stand meanwhile, and is carried out
// once at most. Of MaxCall bytes each way more is an error. At most four calls wait
// at once, and as many are served; see ErrBusy. Its errors are those above, and
// context.Canceled.
func (l *Link) Call(ctx context.Context, kind string, body []byte) ([]byte, error) {
	answer, err := l.ask(ctx, kind, body)
	if err != nil {
		return nil, fmt.Errorf("call %s of %s: %w", kind, l.cfg.Peer, err)
	}
	return answer, nil
}

func (l *Link) ask(ctx context.Context, kind string, body []byte) ([]byte, error) {
	switch {
	case kind == "" || len(kind) > maxCallKind:
		return nil, fmt.Errorf("a kind has 1 to %d bytes", maxCallKind)
	case len(body) > MaxCall:
		return nil, fmt.Errorf("%d bytes, more than %d", len(body), MaxCall)
	}
	if err := l.reachable(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, MaxCallTime)
	defer cancel()
	c, err := l.asked.begin()
	if err != nil {
		return nil, err
	}
	defer l.finish(c)
	deadline, _ := ctx.Deadline()
	content := append(binary.AppendUvarint(nil, uint64(len(kind))), kind...)
	l.letters.put(&letter{
		kind: letterRequest, id: c.id, until: now().Add(time.Until(deadline)), content: append(content, body...),
		lost: func() { c.end(result{err: ErrUnreachable}) },
	})
	l.Flush()
	select {
	case r := <-c.outcome:
		return r.body, r.err
	case <-c.ended:
		return nil, ErrUnreachable
	case <-ctx.Done():
	}
	switch {
	case !errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, ctx.Err()
	case l.reachable() != nil:
		return nil, ErrUnreachable
	}
	return nil, ErrTimedOut
}

// reachable says why no path would take a call now.
func (l *Link) reachable() error {
	err := ErrUnreachable
	for _, p := range l.paths {
		switch reads := p.reads.Load(); {
		case reads >= kindLetter:
			return nil
		case reads > 0:
			err = ErrOldRelease
		}
	}
	return err
}

// finish forgets a call and tells the peer that nobody waits for it any more.
func (l *Link) finish(c *call) {
	l.asked.forget(c)
	if to := l.letters.drop(letterRequest, c.id); to != 0 {
		l.letters.put(&letter{kind: letterOver, id: c.id, to: to, until: now().Add(overTime)})
		l.Flush()
	}
}

// open lets calls wait until ctx ends.
func (a *asked) open(ctx context.Context) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = ctx.Done()
	if a.waiting == nil {
		a.waiting = map[uint64]*call{}
	}
}

func (a *asked) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = nil
}

func (a *asked) begin() (*call, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.ended == nil:
		return nil, ErrUnreachable
	case len(a.waiting) >= maxCalls:
		return nil, ErrBusy
	}
	a.last++
	c := &call{id: a.last, outcome: make(chan result, 1), ended: a.ended}
	a.waiting[c.id] = c
	return c, nil
}

func (a *asked) forget(c *call) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.waiting, c.id)
}

// take ends the call that an answer is for, if it still waits.
func (a *asked) take(id uint64, o outcome, body []byte) {
	a.mu.Lock()
	c := a.waiting[id]
	a.mu.Unlock()
	if c == nil {
		return
	}
	r := result{body: body}
	switch o {
	case outcomeBody:
	case outcomeUnknown:
		r = result{err: ErrUnknownCall}
	case outcomeBusy:
		r = result{err: ErrBusy}
	default:
		r = result{err: &RemoteError{Text: string(body[:min(len(body), maxSaidText)])}}
	}
	c.end(r)
}
