package web

// /metrics and /status are made one at a time, and behind each is a rest of some times
// what it took: however many ask, the making of answers has a part of one processor.

import (
	"bytes"
	"context"
	"net/http"
	"time"
)

// restFactor is how much longer the rest is than the making, and longestRest its bound,
// so that one that the scheduler held up costs nobody much.
const (
	restFactor  = 4
	longestRest = 250 * time.Millisecond
)

// page is an answer in memory: who reads slowly holds no turn.
type page struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (p *page) Header() http.Header         { return p.header }
func (p *page) WriteHeader(status int)      { p.status = status }
func (p *page) Write(b []byte) (int, error) { return p.body.Write(b) }

func (p *page) sendTo(w http.ResponseWriter) {
	for name, values := range p.header {
		w.Header()[name] = values
	}
	w.WriteHeader(p.status)
	_, _ = w.Write(p.body.Bytes())
}

// maker has one slot: the turn to make a page.
type maker chan struct{}

func newMaker() maker { return make(maker, 1) }

// make waits for its turn and makes a page. The error is that of a context that ended
// first.
func (m maker) make(ctx context.Context, f func(*page)) (*page, error) {
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	select {
	case m <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p := &page{header: http.Header{}, status: http.StatusOK}
	began := time.Now()
	f(p)
	rest := min(restFactor*time.Since(began), longestRest)
	time.AfterFunc(rest, func() { <-m }) // the next turn
	return p, nil
}
