package node

import (
	"errors"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
)

// writerSize bounds the records that wait for a slow disk. A plan has some tens
// of steps; when a disk has not taken that many, it is not taking any.
const writerSize = 256

var errJournalBehind = errors.New("the journal does not keep up: the disk is slow or hangs")

// writer puts records into the journal in their order, away from the loop.
type writer struct {
	journal Journal
	log     Log
	queue   chan entry // the loop closes it
	ended   chan struct{}
}

type entry struct {
	in *instance
	e  failover.Append
}

func newWriter(j Journal, log Log) *writer {
	return &writer{journal: j, log: log, queue: make(chan entry, writerSize), ended: make(chan struct{})}
}

// append hands a record over without waiting. A record that somebody waits for
// and that finds no room is answered with an error; another goes missing, for no
// demotion waits for a disk.
func (w *writer) append(in *instance, e failover.Append) failover.Event {
	select {
	case w.queue <- entry{in, e}:
		return nil
	default:
	}
	w.log.Trouble(in.Name, "journal a record", errJournalBehind)
	if e.ID == 0 {
		return nil
	}
	return failover.Durable{ID: e.ID, Err: errJournalBehind}
}

// start runs the writer until finish.
func (w *writer) start(n *Node) {
	go func() {
		defer close(w.ended)
		for e := range w.queue {
			w.write(n, e)
		}
		if err := w.journal.Sync(); err != nil {
			w.log.Trouble("", "sync the journal", err)
		}
	}()
}

// finish waits until what was queued is written. Nothing may be appended any more.
func (w *writer) finish() {
	close(w.queue)
	<-w.ended
}

func (w *writer) write(n *Node, e entry) {
	err := w.journal.Append(e.e.Record)
	if err == nil && (e.e.ID != 0 || e.e.Record.Kind == hooks.Ended) {
		err = w.journal.Sync()
	}
	if err != nil {
		w.log.Trouble(e.in.Name, "journal a record", err)
	}
	if e.e.ID != 0 {
		n.result(e.in, failover.Durable{ID: e.e.ID, Err: err})
	}
}
