package events

// The stream over HTTP, as server-sent events or as lines of JSON. A reader says from
// which number on; without one it gets what is new.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/tanist-ha/tanist/internal/control"
)

const (
	// writePatience is how long a reader may leave an answer unread.
	writePatience = 5 * time.Second
	// statePatience bounds the daemon's word on what is the case.
	statePatience = 2 * time.Second
	// retryAfter is when somebody who was turned away, or cut off, may come again.
	retryAfter = 2 * time.Second
)

// State says what is the case.
type State func(ctx context.Context) (control.Document, error)

// ServeHTTP is the stream of one reader. It returns when that goes, or is cut off.
func (f *Feed) ServeHTTP(w http.ResponseWriter, r *http.Request) { f.serve(w, r, f.cfg.State) }

// ServePublic is the stream of a reader whom anybody on the network may be. Of those
// there are fewer, and state has to bear as many questions as they like to ask.
func (f *Feed) ServePublic(w http.ResponseWriter, r *http.Request, state State) {
	select {
	case f.public <- struct{}{}:
		defer func() { <-f.public }()
	default:
		full(w, maxPublic)
		return
	}
	f.serve(w, r, state)
}

func full(w http.ResponseWriter, readers int) {
	w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter.Seconds())))
	http.Error(w, fmt.Sprintf("there are %d readers of events already", readers), http.StatusServiceUnavailable)
}

func (f *Feed) serve(w http.ResponseWriter, r *http.Request, state State) {
	p, never, err := f.wanted(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	select {
	case f.readers <- struct{}{}:
		defer func() { <-f.readers }()
	default:
		full(w, maxReaders)
		return
	}
	out := http.NewResponseController(w)
	_ = out.SetReadDeadline(time.Time{}) // the request is here; the stream lasts
	first, err := first(r.Context(), p, state)
	_ = out.SetWriteDeadline(time.Now().Add(writePatience))
	if err != nil {
		http.Error(w, "the daemon does not answer: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	lines := strings.Contains(r.Header.Get("Accept"), "application/x-ndjson")
	w.Header().Set("Content-Type", "text/event-stream")
	if lines {
		w.Header().Set("Content-Type", "application/x-ndjson")
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would keep it back
	if r.Method == http.MethodHead {
		return
	}
	s := stream{feed: f, out: out, w: w, lines: lines}
	if !lines {
		s.buffer.WriteString("retry: " + strconv.FormatInt(retryAfter.Milliseconds(), 10) + "\n\n")
	}
	s.put(first, p.next-1)
	if never != nil {
		s.put(*never, p.next-1)
	}
	s.run(r.Context(), p)
}

// wanted is from where on a reader wants to read. A number that the journal has not
// come to is another journal's: then all that is held is new to the reader.
func (f *Feed) wanted(r *http.Request) (p place, never *Event, err error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return p, nil, errors.New("the query is not understood")
	}
	given, from := values["from"], uint64(0)
	delete(values, "from")
	if len(values) > 0 || len(given) > 1 {
		return p, nil, errors.New("the query may hold one from, the number to begin with, and nothing else")
	}
	next := f.Next()
	// A reader that comes again names the last one that it had, and the query is that of
	// its first time.
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		if from, err = strconv.ParseUint(last, 10, 64); err != nil {
			return p, nil, errors.New("Last-Event-ID wants the number of an event")
		}
		if from < math.MaxUint64 { // no journal comes so far
			from++
		}
	} else if len(given) == 1 {
		if from, err = strconv.ParseUint(given[0], 10, 64); err != nil {
			return p, nil, errors.New("from wants the number of an event: 1 for all that is held")
		}
		from = max(from, 1)
	} else {
		return place{next: next, live: true}, nil, nil
	}
	if from > next {
		g := Event{Kind: KindGap, Gap: &Gap{From: next, To: from - 1, First: next, Why: NeverGiven}}
		if held, err := f.older(1); err == nil && len(held) > 0 {
			g.Gap.First = held[0].Number
		}
		return place{next: 1}, &g, nil
	}
	return place{next: from}, nil, nil
}

// first says what is the case. What happens from then on comes as events; some of it
// may be in the state already.
func first(ctx context.Context, p place, state State) (Event, error) {
	ctx, cancel := context.WithTimeout(ctx, statePatience)
	defer cancel()
	doc, err := state(ctx)
	doc = doc.WithoutOutput() // which stays in the journal
	return Event{Kind: KindState, At: time.Now().UTC(), Next: p.next, Status: &doc}, err
}

// stream writes events to one reader.
type stream struct {
	feed   *Feed
	out    *http.ResponseController
	w      http.ResponseWriter
	lines  bool
	buffer bytes.Buffer
}

// put adds an event to what is sent next. A reader that comes again behind it has all
// up to last.
func (s *stream) put(e Event, last uint64) {
	body, err := json.Marshal(e)
	if err != nil { // of a status only, whose gate has a code without a name
		body, _ = json.Marshal(Event{Kind: e.Kind, Next: e.Next, Detail: err.Error()})
	}
	if !s.lines {
		fmt.Fprintf(&s.buffer, "id: %d\nevent: %s\ndata: %s\n\n", last, e.Kind, body)
		return
	}
	s.buffer.Write(append(body, '\n'))
}

// flush sends what was put.
func (s *stream) flush() error {
	if s.buffer.Len() == 0 {
		return nil
	}
	_ = s.out.SetWriteDeadline(time.Now().Add(writePatience))
	_, err := s.w.Write(s.buffer.Bytes())
	s.buffer.Reset()
	if err = errors.Join(err, s.out.Flush()); err != nil {
		return fmt.Errorf("%w: %w", errGone, err)
	}
	return nil
}

func (s *stream) run(ctx context.Context, p place) {
	err := s.pass(ctx, &p)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.feed.ended(TooSlow) // it hears nothing any more
		return
	case err == nil, errors.Is(err, errGone), ctx.Err() != nil:
		return
	}
	cut := Event{Kind: KindCut, Why: Unreadable, Next: p.next, Detail: err.Error()}
	switch {
	case errors.Is(err, errTooSlow):
		cut.Why = TooSlow
	case errors.Is(err, errStopping):
		cut.Why = Stopping
	}
	s.feed.ended(cut.Why)
	s.put(cut, p.next-1)
	_ = s.flush() // who does not hear it finds the connection closed
}

// pass sends events as they come. It returns nil when ctx ends.
func (s *stream) pass(ctx context.Context, p *place) error {
	quiet := time.NewTimer(s.feed.cfg.Heartbeat)
	defer quiet.Stop()
	for stopping := false; ; {
		list, news, err := s.feed.take(p)
		if err != nil {
			return errors.Join(s.flush(), err)
		}
		for _, e := range list {
			last := e.Number
			if e.Gap != nil {
				last = e.Gap.To
			}
			s.put(e, last)
		}
		if err := s.flush(); err != nil {
			return err
		}
		if len(list) > 0 {
			quiet.Reset(s.feed.cfg.Heartbeat)
			if ctx.Err() != nil {
				return nil
			}
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-news:
		case <-s.feed.over:
			if stopping {
				return errStopping
			}
			stopping = true // and what came meanwhile goes first
		case <-quiet.C:
			quiet.Reset(s.feed.cfg.Heartbeat)
			s.heartbeat()
		}
	}
}

func (s *stream) heartbeat() {
	if s.lines {
		s.put(Event{Kind: KindHeartbeat}, 0)
		return
	}
	s.buffer.WriteString(": nothing new\n\n")
}
