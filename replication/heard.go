package replication

// Heard is what the peer said of its database's position, and when. Its last
// word tells what is missing once the source is lost; its earlier words tell how
// old the missing transactions are while it lives, without comparing two clocks.

import (
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/tanist-ha/tanist/internal/mono"
)

// The bounds of what is remembered of one database.
const (
	maxPending = 64 // positions not yet applied; more are thinned, and look older for it
	maxPace    = 32 // readings the write rate is taken from, at least paceInterval apart

	// paceInterval is longer than the time between two measurements of a source, which
	// come with more words than that: a shorter one would find rates of nothing and of
	// twice as much.
	paceInterval = 500 * time.Millisecond
)

// Heard keeps the positions heard of one database's peer. The zero value has
// heard nothing. Make a new one when the peer's database is replaced. Copies may
// be read; only the original may be changed afterwards.
type Heard struct {
	known    bool
	timed    bool // at says when; false after Restore
	last     Position
	at       mono.Instant
	pending  []sighting // by time, each position first heard then, none settled
	pace     []reading  // by time, for Rate
	sequence uint64     // transactions heard of since pace began
	semi     acknowledged
	beats    beats
}

type sighting struct {
	position Position
	at       mono.Instant
}

type reading struct {
	sequence uint64
	at       mono.Instant
}

// Restore sets the position kept from before this host or daemon started. Of
// such a position the age is not known. A position heard since is kept. One from
// before this database was itself a source must not come back: what it wrote as
// a source would look errant.
func (h *Heard) Restore(p Position) {
	if h.timed {
		return
	}
	h.known, h.last = true, p
}

// Note takes a position heard at an instant. The latest word counts, also when
// it is lower: a source that crashed can have lost its newest transactions. An
// instant before the last one is taken for the last one.
func (h *Heard) Note(p Position, at mono.Instant) {
	if h.timed && at.Before(h.at) {
		at = h.at
	}
	switch {
	case !h.timed || !p.Covers(h.last):
		h.pending = []sighting{{p, at}}
		h.pace = []reading{{0, at}}
		h.sequence = 0
	case !h.last.Covers(p):
		h.pending = appendPending(h.pending, sighting{p, at})
		h.sequence = addSaturating(h.sequence, h.last.Missing(p))
	}
	h.known, h.timed, h.last, h.at = true, true, p, at
	h.readPace(at)
}

// appendPending adds s. When there are too many, every second one gives its
// position to the one before it: so a transaction may look older than it is,
// never younger.
func appendPending(pending []sighting, s sighting) []sighting {
	if len(pending) < maxPending {
		return append(slices.Clip(pending), s)
	}
	thinned := make([]sighting, 0, maxPending)
	for i := 0; i < len(pending); i += 2 {
		one := pending[i]
		if i+1 < len(pending) {
			one.position = pending[i+1].position
		}
		thinned = append(thinned, one)
	}
	return append(thinned, s)
}

// readPace moves the latest reading along until it is far enough from the one
// before, so that all but it are.
func (h *Heard) readPace(at mono.Instant) {
	if n := len(h.pace); n > 1 && h.pace[n-1].at.Sub(h.pace[n-2].at) < paceInterval {
		h.pace = append(slices.Clone(h.pace[:n-1]), reading{h.sequence, at})
		return
	}
	if len(h.pace) == maxPace {
		h.pace = h.pace[1:]
	}
	h.pace = append(slices.Clip(h.pace), reading{h.sequence, at})
}

// Settle forgets the earlier positions that applied covers. Without it the
// answers stay right and coarser.
func (h *Heard) Settle(applied Position) {
	n := 0
	for n < len(h.pending) && applied.Covers(h.pending[n].position) {
		n++
	}
	h.pending = slices.Clone(h.pending[n:])
}

// Last returns the position heard last, and whether any was heard or restored.
func (h Heard) Last() (Position, bool) { return h.last, h.known }

// At returns when the last position was heard; false when none was, or when it
// was restored.
func (h Heard) At() (mono.Instant, bool) { return h.at, h.timed }

// MissingSince returns when the oldest position that applied does not cover was
// first heard. False when applied covers all that was heard, or when the missing
// part was only ever restored.
func (h Heard) MissingSince(applied Position) (mono.Instant, bool) {
	for _, s := range h.pending {
		if !applied.Covers(s.position) {
			return s.at, true
		}
	}
	if h.timed && !applied.Covers(h.last) {
		// The applied position went back after Settle.
		return h.at, true
	}
	return 0, false
}

// WrittenSince returns about how many transactions the source wrote between its
// last word and now, at the highest rate seen between two recent readings,
// rounded up. False when too little was heard to know a rate.
func (h Heard) WrittenSince(now mono.Instant) (uint64, bool) {
	if !h.timed || len(h.pace) < 2 {
		return 0, false
	}
	silence := max(now.Sub(h.at), 0)
	var most uint64
	known := false
	for i := 1; i < len(h.pace); i++ {
		// A shorter interval would make a rate out of chance.
		span := h.pace[i].at.Sub(h.pace[i-1].at)
		if span < paceInterval {
			continue
		}
		known = true
		most = max(most, scale(h.pace[i].sequence-h.pace[i-1].sequence, silence, span))
	}
	return most, known
}

// scale returns n times part by whole, rounded up, at most math.MaxUint64.
func scale(n uint64, part, whole time.Duration) uint64 {
	hi, lo := bits.Mul64(n, uint64(part))
	lo, carry := bits.Add64(lo, uint64(whole)-1, 0)
	hi += carry
	if hi >= uint64(whole) {
		return math.MaxUint64
	}
	q, _ := bits.Div64(hi, lo, uint64(whole))
	return q
}
