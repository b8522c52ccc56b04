package web

// Every question over HTTP costs the control loop a little. One look at the facts
// serves all who were waiting when it began, and between two looks is as much time as
// one takes: however many ask, the loop has half of its time for itself.

import (
	"context"
	"time"
)

// leastPause is the least time between two looks.
const leastPause = 2 * time.Millisecond

type answer struct {
	facts Facts
	err   error
}

type sharer struct {
	read  func(context.Context) (Facts, error)
	asked chan chan answer // unbuffered: who is taken is served by the next look
}

func newSharer(read func(context.Context) (Facts, error)) *sharer {
	return &sharer{read: read, asked: make(chan chan answer)}
}

// run looks whenever asked, until ctx ends.
func (s *sharer) run(ctx context.Context) {
	for {
		var waiting []chan answer
		select {
		case <-ctx.Done():
			return
		case a := <-s.asked:
			waiting = append(waiting, a)
		}
		for more := true; more; { // at most one for each open connection
			select {
			case a := <-s.asked:
				waiting = append(waiting, a)
			default:
				more = false
			}
		}
		began := time.Now()
		facts, err := s.look(ctx)
		for _, a := range waiting {
			a <- answer{facts, err}
		}
		pause := time.NewTimer(max(leastPause, time.Since(began)))
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
}

func (s *sharer) look(ctx context.Context) (Facts, error) {
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	return s.read(ctx)
}

// ask returns facts that are newer than the question.
func (s *sharer) ask(ctx context.Context) (Facts, error) {
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	mine := make(chan answer, 1)
	select {
	case s.asked <- mine:
	case <-ctx.Done():
		return Facts{}, ctx.Err()
	}
	select {
	case a := <-mine:
		return a.facts, a.err
	case <-ctx.Done():
		return Facts{}, ctx.Err()
	}
}
