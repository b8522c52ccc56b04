package node

// A disk that hangs for long takes no record, and its queue fills up. What a start
// decides by then has room of its own; what only tells is left out before that.

import (
	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
)

const (
	// tellingSize is how many records may wait before those are left out that decide
	// nothing.
	tellingSize = writerSize / 2
	// lateSize bounds the deciding records for which the queue has no room: some tens
	// of transitions.
	lateSize = 256
)

// telling reports a record that no Memory depends on.
func telling(k hooks.RecordKind) bool {
	switch k {
	case hooks.Stepped, hooks.Strayed, hooks.Mended, hooks.Notified, hooks.Parted, hooks.Adopted:
		return true
	case hooks.Began, hooks.Ended, hooks.Override, hooks.Reverted, hooks.Learned, hooks.Acquired, hooks.Missed, hooks.Commanded,
		hooks.Blocking, hooks.Maintaining, hooks.Leasing, hooks.Diverged, hooks.Reconciled:
	}
	return false
}

// deciding reports a record of what happened, without which a start would decide
// otherwise or nobody would know who overrode what. The beginning of a promotion has
// not happened when it finds no room.
func deciding(r hooks.Record) bool {
	switch r.Kind {
	case hooks.Began:
		return r.Role != hooks.Active
	case hooks.Ended, hooks.Override, hooks.Reverted, hooks.Learned, hooks.Acquired, hooks.Commanded,
		hooks.Blocking, hooks.Maintaining, hooks.Leasing, hooks.Diverged, hooks.Reconciled:
		return true
	case hooks.Stepped, hooks.Missed, hooks.Strayed, hooks.Mended, hooks.Notified, hooks.Parted, hooks.Adopted:
	}
	return false
}

// enqueue hands an entry over if there is room. Behind late records nothing else is:
// they are to be read in their order.
func (w *writer) enqueue(e entry) bool {
	tells := e.only || telling(e.e.Record.Kind)
	if w.lateLen() > 0 || tells && len(w.queue) >= tellingSize {
		return false
	}
	select {
	case w.queue <- e:
		return true
	default:
		return false
	}
}

// keepLate keeps a record that found no room and for which nobody waits any more.
func (w *writer) keepLate(in *instance, r hooks.Record) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !deciding(r) || len(w.late) >= lateSize {
		return false
	}
	w.late = append(w.late, entry{in: in, e: failover.Append{Record: r}, late: true})
	return true
}

func (w *writer) lateLen() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.late)
}

// writeLate writes the late records once all that was queued before them is written.
func (w *writer) writeLate(n *Node) {
	for len(w.queue) == 0 {
		w.mu.Lock()
		if len(w.late) == 0 {
			w.mu.Unlock()
			return
		}
		e := w.late[0]
		w.mu.Unlock()
		w.write(n, e)
		w.mu.Lock()
		w.late = w.late[1:] // only now: what comes meanwhile comes after it
		w.mu.Unlock()
	}
}
