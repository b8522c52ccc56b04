package replication

// The heartbeat table is a second witness of lag. The source counts in it, its
// node says over the peer link how far it counted, and the age of a count that is
// not here yet is that of hearing it: no clock is compared with another.

import (
	"slices"
	"time"

	"github.com/tanist-ha/tanist/internal/mono"
)

// Beat is the row of one server in the heartbeat table. The zero value is none.
type Beat struct {
	Server uint32 // server_id
	Epoch  uint64 // of the promotion in which it was written
	Count  uint64 // grows by one with each write
}

// covers reports whether a row says that other has been written.
func (b Beat) covers(other Beat) bool {
	return b.Server == other.Server && (b.Epoch > other.Epoch || b.Epoch == other.Epoch && b.Count >= other.Count)
}

// beatFresh is how old the newest count heard may be for its presence here to say
// that nothing is behind: a source that stopped counting proves nothing.
const beatFresh = 3 * time.Second

// beats are the counts heard of one source.
type beats struct {
	last    Beat
	at      mono.Instant   // when last was first heard
	pending []beatSighting // by time, none of them settled
}

type beatSighting struct {
	beat Beat
	at   mono.Instant
}

// NoteBeat takes in how far the source has counted, heard at an instant. The zero
// Beat says nothing. A count of another server, or a lower one, begins anew.
func (h *Heard) NoteBeat(b Beat, at mono.Instant) {
	k := &h.beats
	if b.Server == 0 || b == k.last {
		return
	}
	at = max(at, k.at)
	if !b.covers(k.last) {
		k.pending = nil
	}
	k.pending = thinned(k.pending, beatSighting{b, at})
	k.last, k.at = b, at
}

// thinned appends as appendPending does: a count may look older, never younger.
func thinned(pending []beatSighting, s beatSighting) []beatSighting {
	if len(pending) < maxPending {
		return append(slices.Clip(pending), s)
	}
	half := make([]beatSighting, 0, maxPending)
	for i := 0; i < len(pending); i += 2 {
		one := pending[i]
		if i+1 < len(pending) {
			one.beat = pending[i+1].beat
		}
		half = append(half, one)
	}
	return append(half, s)
}

// SettleBeats forgets the counts that are here by rows of the heartbeat table.
func (h *Heard) SettleBeats(rows []Beat) {
	k := &h.beats
	n := 0
	for n < len(k.pending) && here(rows, k.pending[n].beat) {
		n++
	}
	k.pending = slices.Clone(k.pending[n:])
}

func here(rows []Beat, b Beat) bool {
	return slices.ContainsFunc(rows, func(r Beat) bool { return r.covers(b) })
}

// BeatLag returns for how long a count of the source has been known and is not in
// rows: 0 when the newest one is there and was heard no more than 3 s ago. False
// when no count was heard, or none for longer.
func (h Heard) BeatLag(rows []Beat, now mono.Instant) (time.Duration, bool) {
	k := h.beats
	if k.last.Server == 0 {
		return 0, false
	}
	for _, s := range k.pending {
		if !here(rows, s.beat) {
			return max(now.Sub(s.at), 0), true
		}
	}
	if !here(rows, k.last) { // the row went back after it was settled
		return max(now.Sub(k.at), 0), true
	}
	return 0, now.Sub(k.at) <= beatFresh
}

// LastBeat returns the count heard last, the zero Beat before there was one.
func (h Heard) LastBeat() Beat { return h.beats.last }

// Beat returns the row that the measured server itself wrote, the zero Beat when
// there is none or it is not known.
func (f Facts) Beat() Beat {
	id, known := f.ServerID.Get()
	rows, _ := f.Beats.Get()
	if i := slices.IndexFunc(rows, func(b Beat) bool { return b.Server == id }); known && i >= 0 {
		return rows[i]
	}
	return Beat{}
}
