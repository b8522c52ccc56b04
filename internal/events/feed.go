package events

// The journal's writer leaves what it wrote here and goes on: readers take it from
// here at their own pace, each with its place, and none has one of the writer's locks
// for longer than a copy takes. Who wants older entries gets them from the file, which
// is read once for all who want it at the same time.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tanist-ha/tanist/hooks"
)

const (
	// maxReaders bounds the streams that are open at once, and maxPublic those of them that
	// nobody vouches for: whoever reaches the network port must not keep the host's own out.
	maxReaders = 128
	maxPublic  = 96
	// maxRecent and maxRecentBytes bound what is kept of the latest entries. A reader
	// that had caught up and is further behind than that is cut off.
	maxRecent      = 1024
	maxRecentBytes = 1 << 20
	// batch is how many entries a reader takes at once.
	batch = 256
	// heldFor is how long what was read of the file is kept for the next who wants it.
	heldFor = 10 * time.Second
	// entryBytes is what an entry takes beside its texts, about.
	entryBytes = 256
)

// Config is what a Feed needs.
type Config struct {
	// Held reads what the journal holds, the oldest first.
	Held func() ([]hooks.Entry, error)
	// State is what is the case now.
	State State
	// Next is the number that the journal's next entry gets, Skipped how many before it
	// no entry has.
	Next, Skipped uint64
	// Heartbeat is the time after which a reader is told that there is nothing new.
	Heartbeat time.Duration
}

// Feed hands out what the journal takes.
type Feed struct {
	cfg     Config
	readers chan struct{} // a place for each
	public  chan struct{} // and for each of ServePublic
	over    chan struct{} // closed by Run

	mu     sync.Mutex // guards the fields below
	next   uint64     // the number after the latest entry
	recent []hooks.Entry
	bytes  int           // that recent takes, about
	news   chan struct{} // closed when there is something new
	cut    map[Why]uint64

	reading sync.Mutex // guards the fields below; one reads the file at a time
	held    []hooks.Entry
	readAt  time.Time
}

// New returns a feed without readers.
func New(cfg Config) *Feed {
	return &Feed{
		cfg: cfg, readers: make(chan struct{}, maxReaders), public: make(chan struct{}, maxPublic), over: make(chan struct{}),
		next: cfg.Next, news: make(chan struct{}), cut: map[Why]uint64{},
	}
}

// Run gives memory back that nobody uses, until ctx ends. Then every reader is told
// that it is over.
func (f *Feed) Run(ctx context.Context) error {
	defer close(f.over)
	tick := time.NewTicker(heldFor)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		f.reading.Lock()
		if time.Since(f.readAt) > heldFor {
			f.held = nil
		}
		f.reading.Unlock()
	}
}

// Publish takes entries that the journal has taken, in their order. It never waits
// for a reader.
func (f *Feed) Publish(entries []hooks.Entry) {
	if len(entries) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range entries {
		e.Record.Step.Output = "" // stays in the journal
		f.recent = append(f.recent, e)
		f.bytes += size(e)
		f.next = e.Number + 1
	}
	drop := 0
	for bytes := f.bytes; drop < len(f.recent)-1 && (len(f.recent)-drop > maxRecent || bytes > maxRecentBytes); drop++ {
		bytes -= size(f.recent[drop])
		f.bytes = bytes
	}
	f.recent = slices.Delete(f.recent, 0, drop)
	close(f.news)
	f.news = make(chan struct{})
}

func size(e hooks.Entry) int {
	r := e.Record
	return entryBytes + len(r.Reason) + len(r.Step.Detail) + len(r.Step.Title) + len(r.Loss.Transactions) + len(r.Arguments)
}

// Readers returns how many streams are open, and why streams were ended, by reason.
func (f *Feed) Readers() (open int, cut map[string]uint64) {
	cut = map[string]uint64{}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range reasons() {
		cut[string(w)] = f.cut[w]
	}
	return len(f.readers), cut
}

func (f *Feed) ended(w Why) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut[w]++
}

// Next returns the number after the latest entry.
func (f *Feed) Next() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.next
}

// since returns entries from a number on, and what is closed when there are more.
// Known is false where entries after that number are no longer here.
func (f *Feed) since(from uint64) (entries []hooks.Entry, news <-chan struct{}, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if from >= f.next {
		return nil, f.news, true
	}
	if from < f.floor() {
		return nil, f.news, false
	}
	at, _ := slices.BinarySearchFunc(f.recent, from, byNumber)
	return slices.Clone(f.recent[at:min(len(f.recent), at+batch)]), f.news, true
}

// floor is the number from which on recent has all. The caller holds mu.
func (f *Feed) floor() uint64 {
	if len(f.recent) == 0 {
		return f.next - f.cfg.Skipped
	}
	return f.recent[0].Number - f.recent[0].Skipped
}

func byNumber(e hooks.Entry, n uint64) int {
	switch {
	case e.Number < n:
		return -1
	case e.Number > n:
		return 1
	}
	return 0
}

// older returns entries from a number on, as the journal's file has them, up to where
// since knows better.
func (f *Feed) older(from uint64) ([]hooks.Entry, error) {
	f.reading.Lock()
	defer f.reading.Unlock()
	f.mu.Lock()
	until, next := f.floor(), f.next
	f.mu.Unlock()
	if n := len(f.held); n == 0 || f.held[n-1].Number+1 < until {
		all, err := f.cfg.Held()
		if err != nil {
			return nil, err
		}
		f.held = numbered(all)
	}
	f.readAt = time.Now()
	at, _ := slices.BinarySearchFunc(f.held, from, byNumber)
	end, _ := slices.BinarySearchFunc(f.held, next, byNumber) // the file can be ahead of what was published
	return slices.Clone(f.held[min(at, end):min(end, at+batch)]), nil
}

// numbered leaves out what has no number, or one that came before.
func numbered(all []hooks.Entry) []hooks.Entry {
	var last uint64
	return slices.DeleteFunc(slices.Clone(all), func(e hooks.Entry) bool {
		if e.Number <= last {
			return true
		}
		last = e.Number
		return false
	})
}

// place is where a reader is.
type place struct {
	next uint64 // the number that it wants
	live bool   // it had caught up
}

var (
	errTooSlow  = errors.New("further behind than is kept")
	errGone     = errors.New("nobody reads it")
	errStopping = errors.New("the daemon leaves")
)

// take returns the next events of a reader; none where it has them all, and then what
// is closed when there are more.
func (f *Feed) take(p *place) ([]Event, <-chan struct{}, error) {
	entries, news, known := f.since(p.next)
	if !known {
		if p.live {
			return nil, nil, errTooSlow
		}
		var err error
		if entries, err = f.older(p.next); err != nil {
			return nil, nil, fmt.Errorf("read the journal: %w", err)
		}
		if len(entries) == 0 { // what was left is no longer there
			return []Event{p.gapTo(f.firstRecent())}, news, nil
		}
	}
	p.live = known
	var out []Event
	for _, e := range entries {
		if e.Number < p.next {
			continue
		}
		if p.next < e.Number-e.Skipped {
			out = append(out, p.gapTo(e.Number-e.Skipped, e.Number))
		}
		out = append(out, eventOf(e))
		p.next = e.Number + 1
	}
	return out, news, nil
}

// firstRecent returns from which number on since knows all.
func (f *Feed) firstRecent() (number, first uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.recent) == 0 {
		return f.floor(), f.next
	}
	return f.floor(), f.recent[0].Number
}

// gapTo moves on to a number and says what is left out.
func (p *place) gapTo(number, first uint64) Event {
	g := Event{Kind: KindGap, Gap: &Gap{From: p.next, To: number - 1, First: first, Why: NotHeld}}
	p.next = number
	return g
}
