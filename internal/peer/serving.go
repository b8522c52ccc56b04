package peer

// The serving side of calls carries each out once: it remembers the IDs of the
// last ones, and of those before them that they are over. An ID is a number of
// one daemon of the peer, which counts up; another daemon begins anew, and ends
// what the one before it asked.

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tanist-ha/tanist/internal/failover"
)

// remembered is of how many calls that ended the IDs are known one by one. The peer
// asks few at once, so what is older was answered or given up long ago.
const remembered = 64

// KindClock is the call that every Link answers by itself: with its wall clock.
const KindClock = "clock"

// wanted is a call of the peer.
type wanted struct {
	id       uint64
	kind     string
	body     []byte
	patience time.Duration
}

type server struct {
	link *Link
	runs sync.WaitGroup // what serves

	mu     sync.Mutex                                                // guards the fields below
	within func(time.Duration) (context.Context, context.CancelFunc) // of the Run that serves
	caller word                                                      // whose calls these are: boot and youngest connection
	known  map[uint64]context.CancelFunc
	ended  []uint64 // those of known that are over, the first to end first
	floor  uint64   // the greatest ID that was forgotten
	busy   int      // how many run, those of a daemon that is gone included
	gone   *time.Timer
}

// open lets calls be served until ctx ends.
func (s *server) open(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.within = func(d time.Duration) (context.Context, context.CancelFunc) { return context.WithTimeout(ctx, d) }
	if s.known == nil {
		s.known = map[uint64]context.CancelFunc{}
	}
}

// close waits for what is being served. Nothing is received any more.
func (s *server) close() {
	s.mu.Lock()
	if s.gone != nil {
		s.gone.Stop()
	}
	s.mu.Unlock()
	s.runs.Wait()
}

// from reports whether a letter is of the daemon whose calls are served, or of one
// that follows it.
func (s *server) from(boot, connection uint64) bool {
	switch {
	case boot == s.caller.boot:
		s.caller.connection = max(s.caller.connection, connection)
		return true
	case connection <= s.caller.connection:
		return false
	}
	s.cancelAll()
	s.caller = word{boot: boot, connection: connection}
	clear(s.known)
	s.ended, s.floor = nil, 0
	return true
}

func (s *server) cancelAll() {
	for _, cancel := range s.known {
		if cancel != nil {
			cancel()
		}
	}
}

func (s *server) request(boot, connection uint64, w wanted) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.from(boot, connection) {
		return
	}
	if _, again := s.known[w.id]; again || w.id <= s.floor {
		return
	}
	switch {
	case w.kind == KindClock:
		s.answer(w, time.Now().Add(w.patience), outcomeBody, wallClock())
		s.end(w.id)
	case s.link.cfg.Serve == nil:
		s.answer(w, time.Now().Add(w.patience), outcomeUnknown, nil)
		s.end(w.id)
	case s.busy >= maxCalls:
		s.answer(w, time.Now().Add(w.patience), outcomeBusy, nil)
		s.end(w.id)
	default:
		ctx, cancel := s.within(w.patience)
		s.known[w.id] = cancel
		s.busy++
		s.runs.Go(func() { s.serve(ctx, cancel, boot, w) })
	}
}

// serve carries out one call, and answers if somebody still waits.
func (s *server) serve(ctx context.Context, cancel context.CancelFunc, boot uint64, w wanted) {
	defer cancel()
	body, err := s.link.cfg.Serve(ctx, w.kind, w.body)
	o := outcomeBody
	if err == nil && len(body) > MaxCall {
		err = fmt.Errorf("an answer of %d bytes, more than %d", len(body), MaxCall)
	}
	switch {
	case err == nil:
	case errors.Is(err, ErrUnknownCall):
		o, body = outcomeUnknown, nil
	case errors.Is(err, ErrBusy):
		o, body = outcomeBusy, nil
	default:
		text := err.Error()
		o, body = outcomeError, []byte(text[:min(len(text), maxSaidText)])
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy--
	if boot != s.caller.boot {
		return
	}
	if until, _ := ctx.Deadline(); ctx.Err() == nil {
		s.answer(w, until, o, body)
	}
	s.end(w.id)
}

// answer sends the answer to a call of the present caller.
func (s *server) answer(w wanted, until time.Time, o outcome, body []byte) {
	s.link.letters.put(&letter{
		kind: letterAnswer, id: w.id, to: s.caller.boot, until: now().Add(time.Until(until)),
		content: append([]byte{byte(o)}, body...),
	})
	s.link.Flush()
}

// end notes that a call is not to be carried out any more.
func (s *server) end(id uint64) {
	if cancel, known := s.known[id]; known && cancel == nil {
		return
	}
	s.known[id] = nil
	if s.ended = append(s.ended, id); len(s.ended) > remembered {
		delete(s.known, s.ended[0])
		s.floor = max(s.floor, s.ended[0])
		s.ended = append(s.ended[:0], s.ended[1:]...)
	}
}

// over ends a call for which nobody waits, also one that is yet to come.
func (s *server) over(boot, connection, id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.from(boot, connection) || id <= s.floor {
		return
	}
	if cancel := s.known[id]; cancel != nil {
		cancel() // serve ends it
	} else {
		s.end(id)
	}
	s.link.letters.drop(letterAnswer, id)
}

// left looks after a while whether the peer still has a connection: one that has
// none waits for no answer.
func (s *server) left() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone == nil {
		s.gone = time.AfterFunc(failover.LinkPatience, s.abandon)
	} else {
		s.gone.Reset(failover.LinkPatience)
	}
}

func (s *server) abandon() {
	for _, p := range s.link.paths {
		if p.accepted() {
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancelAll()
}

// wallClock is the answer to KindClock: nanoseconds since 1970, big-endian.
func wallClock() []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(time.Now().UnixNano()))
}
