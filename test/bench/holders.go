package main

// Who has the address: both routers' kernels are asked all the time.

import (
	"errors"
	"sync"
	"time"

	"github.com/tanist-ha/tanist/test/probe"
)

// sampleInterval is the time between two looks at both kernels. A time with two
// holders that is shorter may stay unseen.
const sampleInterval = time.Millisecond

// holding is a set of routers.
type holding [2]bool

func (h holding) String() string {
	switch h {
	case holding{true, true}:
		return "a+b"
	case holding{true, false}:
		return "a"
	case holding{false, true}:
		return "b"
	}
	return "none"
}

// sampler asks for the first instance's address.
type sampler struct {
	clock probe.Clock
	end   chan struct{}
	wait  sync.WaitGroup

	mu    sync.Mutex // guards the fields below
	looks []look     // changes only
	last  time.Duration
	slow  time.Duration // longest time between two looks since the count began
	count int
	err   error
}

type look struct {
	at   time.Duration
	held holding
}

func newSampler(p *pair, c probe.Clock) (*sampler, error) {
	s := &sampler{clock: c, end: make(chan struct{})}
	var ask [2]*asker
	for _, r := range []side{first, second} {
		a, err := newAsker(p.routers[r], vipOf(1))
		if err != nil {
			return nil, errors.Join(err, ask[first].close())
		}
		ask[r] = a
	}
	s.wait.Go(func() {
		probe.Punctual()
		for {
			select {
			case <-s.end:
				s.err = errors.Join(s.err, ask[first].close(), ask[second].close())
				return
			default:
			}
			s.note(look2(ask))
			probe.Sleep(sampleInterval)
		}
	})
	return s, nil
}

func look2(ask [2]*asker) (h holding, ok bool, err error) {
	ok = true
	for _, r := range []side{first, second} {
		held, whole, err := ask[r].look()
		if err != nil {
			return h, false, err
		}
		h[r], ok = held, ok && whole
	}
	return h, ok, nil
}

// note takes a look down. One during which a list changed says nothing; the next
// comes soon.
func (s *sampler) note(h holding, ok bool, err error) {
	now := s.clock.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.err = err
	}
	if !ok {
		return
	}
	if s.count > 0 {
		s.slow = max(s.slow, now-s.last)
	}
	s.count++
	s.last = now
	if len(s.looks) == 0 || s.looks[len(s.looks)-1].held != h {
		s.looks = append(s.looks, look{now, h})
	}
}

// now returns who had the address at the last look, and since when.
func (s *sampler) now() (holding, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.looks) == 0 {
		return holding{}, 0
	}
	l := s.looks[len(s.looks)-1]
	return l.held, l.at
}

// countAnew forgets how far apart the looks were until now.
func (s *sampler) countAnew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slow = 0
}

func (s *sampler) finish() error {
	close(s.end)
	s.wait.Wait()
	return s.err
}

// held is what the sampler saw in a span of time.
type held struct {
	both, none time.Duration
	last       holding
}

func (s *sampler) held(from, to time.Duration) held { return tally(s.looks, from, to) }

func tally(looks []look, from, to time.Duration) held {
	var h held
	for i, l := range looks {
		until := to
		if i+1 < len(looks) {
			until = min(to, looks[i+1].at)
		}
		if l.at > to {
			break
		}
		span := until - max(from, l.at)
		h.last = l.held
		if span > 0 {
			switch l.held {
			case holding{true, true}:
				h.both += span
			case holding{}:
				h.none += span
			}
		}
	}
	return h
}
