package node

// The journal's worker looks after the journal when nothing is to be written, and
// knows whether it can be: status and the cores are told before a promotion needs it.

import (
	"context"
	"fmt"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/mono"
)

const (
	// maintainEvery is the time between two looks, while all is well and while not.
	maintainEvery = 10 * time.Second
	mendEvery     = time.Second
	// diskPatience is how long the disk may take over one record, or one look.
	diskPatience = 5 * time.Second
)

// What the log is told of the journal, as Log.Trouble calls it.
const (
	DoingJournal = "write the journal, and until it can be written no promotion begins"
	JournalAgain = "the journal can be written again"
)

// JournalHealth is whether records can be written.
type JournalHealth struct {
	Err      error         // why not; nil: they can
	Since    time.Duration // how long it has been so, or how long the disk is at it
	Refused  uint64        // records that were not written at once since the start
	Awaiting int           // records that wait for the disk
}

// diskState is what the worker found last. The writer's mu guards it.
type diskState struct {
	err     error
	changed mono.Instant // when it began to fail, or ended
	busy    mono.Instant // since when the disk is at something, 0: it is not
	refused uint64
}

// Journal returns whether the journal can be written. A disk that hangs counts as one
// that fails.
func (n *Node) Journal() JournalHealth {
	w := n.journal
	w.mu.Lock()
	defer w.mu.Unlock()
	now := n.now()
	h := JournalHealth{Err: w.disk.err, Refused: w.disk.refused, Awaiting: len(w.queue) + len(w.late)}
	if w.disk.changed != 0 {
		h.Since = now.Sub(w.disk.changed)
	}
	if w.disk.busy != 0 && now.Sub(w.disk.busy) > diskPatience && h.Err == nil {
		h.Err, h.Since = errJournalBehind, now.Sub(w.disk.busy)
	}
	return h
}

// hearOfJournal tells the cores when the journal can no longer be written, or again.
func (n *Node) hearOfJournal(work context.Context) {
	err := n.Journal().Err
	for _, in := range n.instances {
		if text(in.knows) != text(err) {
			in.knows = err
			in.step(work, failover.JournalChanged{Err: err})
		}
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// onDisk lets do be at the disk, and notes what came of it. That one record was taken
// does not mean that the next will be: only a look says that all is well.
func (w *writer) onDisk(n *Node, look bool, do func() error) error {
	w.mu.Lock()
	w.disk.busy = n.now()
	w.mu.Unlock()
	err := do()
	w.mu.Lock()
	was, since := w.disk.err, w.disk.changed
	w.disk.busy = 0
	if err != nil || look {
		w.disk.err = err
	}
	now := w.disk.err
	if (was == nil) != (now == nil) {
		w.disk.changed = n.now()
	}
	w.mu.Unlock()
	if was != nil && now == nil {
		w.log.Trouble("", JournalAgain, fmt.Errorf("for %s it could not: %w", n.now().Sub(since).Round(time.Millisecond), was))
	}
	if text(was) != text(now) {
		n.rouse()
	}
	return err
}

// maintain looks after the journal.
func (w *writer) maintain(n *Node) {
	var trouble error
	err := w.onDisk(n, true, func() (err error) {
		err, trouble = w.journal.Maintain()
		return err
	})
	if err != nil {
		w.log.Trouble("", DoingJournal, err)
	}
	if trouble != nil {
		w.log.Trouble("", "look after the journal", trouble)
	}
}

// pause is the time until the next look.
func (w *writer) pause() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.disk.err != nil {
		return mendEvery
	}
	return maintainEvery
}

// owe keeps a record that was not written. The beginning of a promotion is not owed:
// it was refused, and as it may be on the disk all the same, that is.
func (w *writer) owe(r hooks.Record, written bool) {
	w.mu.Lock()
	w.disk.refused++
	w.mu.Unlock()
	switch {
	case r.Kind != hooks.Began || r.Role != hooks.Active:
		if !written { // else the journal itself sees to it
			w.journal.Owe(r)
		}
	case written:
		w.journal.Owe(hooks.Record{Kind: hooks.Reverted, Instance: r.Instance, Epoch: r.Epoch, Role: hooks.Standby})
	}
}
