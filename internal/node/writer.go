package node

import (
	"errors"
	"sync"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
)

// writerSize bounds the records that wait for a slow disk. A plan has some tens
// of steps, a promotion may lack something of each database; when a disk has not
// taken that many, it is not taking any.
const writerSize = 2048

var errJournalBehind = errors.New("the journal does not keep up: the disk is slow or hangs")

// writer puts records into the journal in their order, away from the loop.
type writer struct {
	journal Journal
	kept    Positions // nil: they are not kept
	unkept  bool      // what was set is not durable yet
	log     Log
	queue   chan entry // the loop closes it
	ended   chan struct{}

	mu       sync.Mutex // guards the fields below
	memories map[string]hooks.Memory
	disk     diskState
	late     []entry // for which the queue had no room
}

type entry struct {
	in      *instance
	e       failover.Append
	only    bool         // the positions: there is no record
	late    bool         // it found no room before
	written chan<- error // with room for one; nil: nobody waits
}

func newWriter(j Journal, kept Positions, log Log) *writer {
	return &writer{
		journal: j, kept: kept, log: log, queue: make(chan entry, writerSize), ended: make(chan struct{}),
		memories: map[string]hooks.Memory{},
	}
}

// append hands a record over without waiting. A record that somebody waits for
// and that finds no room is answered with an error, for no demotion waits for a disk.
// One that decides something is kept all the same, see behind.go.
func (w *writer) append(in *instance, e failover.Append) failover.Event {
	in.unwritten.Add(1)
	if w.enqueue(entry{in: in, e: e}) {
		return nil
	}
	if !w.keepLate(in, e.Record) {
		in.unwritten.Add(-1)
	}
	w.log.Trouble(in.Name, "journal a record", errJournalBehind)
	if e.ID == 0 {
		return nil
	}
	return failover.Durable{ID: e.ID, Err: errJournalBehind}
}

// remember hands positions over without waiting. The next ones say it all again.
func (w *writer) remember(in *instance, e failover.Remember) {
	if w.kept == nil {
		return
	}
	w.enqueue(entry{in: in, e: failover.Append{Positions: e.Positions}, only: true})
}

// keep takes positions in and returns why those of a record that is waited for are
// not durable. Others become so when nothing else is to be written.
func (w *writer) keep(e entry) error {
	if w.kept == nil {
		return nil
	}
	awaited := !e.only && len(e.e.Positions) > 0
	if e.only || awaited {
		w.kept.Set(e.in.Name, e.e.Positions)
		w.unkept = true
	}
	if !w.unkept || !awaited && len(w.queue) > 0 {
		return nil
	}
	w.unkept = false
	err := w.kept.Flush()
	if err != nil && !awaited {
		w.log.Trouble(e.in.Name, "keep positions", err)
		return nil
	}
	return err
}

// appendFor hands a record over and answers when it is durable.
func (w *writer) appendFor(in *instance, e failover.Append, written chan<- error) {
	in.unwritten.Add(1)
	if !w.enqueue(entry{in: in, e: e, written: written}) {
		in.unwritten.Add(-1)
		written <- errJournalBehind
	}
}

// start runs the writer until finish.
func (w *writer) start(n *Node) {
	go func() {
		defer close(w.ended)
		w.work(n)
		if err := w.journal.Sync(); err != nil {
			w.log.Trouble("", "sync the journal", err)
		}
	}()
}

// work writes what is queued until the queue is closed, and looks after the journal
// when nothing is.
func (w *writer) work(n *Node) {
	look := time.NewTimer(0)
	defer look.Stop()
	for {
		w.writeLate(n)
		select {
		case e, ok := <-w.queue:
			if !ok {
				w.writeLate(n)
				return
			}
			w.write(n, e)
			continue
		case <-look.C:
		}
		if len(w.queue) > 0 || w.lateLen() > 0 {
			look.Reset(mendEvery)
			continue
		}
		w.maintain(n)
		look.Reset(w.pause())
	}
}

// finish waits until what was queued is written. Nothing may be appended any more.
func (w *writer) finish() {
	close(w.queue)
	<-w.ended
}

func (w *writer) write(n *Node, e entry) {
	err := w.keep(e)
	if e.only {
		return
	}
	written := false
	if err == nil {
		err = w.onDisk(n, false, func() error {
			if err := w.journal.Append(e.e.Record); err != nil {
				return err
			}
			written = true
			if e.e.ID == 0 && e.written == nil && !e.late && e.e.Record.Kind != hooks.Ended {
				return nil
			}
			return w.journal.Sync()
		})
	}
	if err != nil {
		w.log.Trouble(e.in.Name, "journal a record", err)
		if e.written == nil { // whoever asked for it is told, and it never was
			w.owe(e.e.Record, written)
		}
	}
	w.fold(e.e.Record, err)
	e.in.unwritten.Add(-1)
	if e.written != nil {
		e.written <- err
	}
	if e.e.ID != 0 {
		n.result(e.in, failover.Durable{ID: e.e.ID, Err: err})
	}
}

// fold folds a record as the journal does when it is read at a start. One that
// could not be written happened all the same, but for the beginning of a promotion:
// nothing begins that is not in the journal.
func (w *writer) fold(r hooks.Record, err error) {
	if err != nil && r.Kind == hooks.Began && r.Role == hooks.Active {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.memories[r.Instance] = w.memories[r.Instance].Fold(r)
}

// memory returns what the journal would say of an instance now.
func (w *writer) memory(instance string) hooks.Memory {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.memories[instance]
}

// recall sets what the journal said of an instance when the daemon started, unless
// more is known by now.
func (w *writer) recall(instance string, m hooks.Memory) hooks.Memory {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, known := w.memories[instance]; !known {
		w.memories[instance] = m
	}
	return w.memories[instance]
}
