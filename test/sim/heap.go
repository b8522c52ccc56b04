package sim

import (
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
)

// Everything that will happen is an item in one heap, ordered by time and then
// by the order in which it was thought of. Nothing else decides what comes next.

type kind uint8

const (
	kAdvert   kind = iota // an advertisement arrives; id: when it was sent, and in 8 bits its priority
	kTell                 // a message of the peer arrives over the link
	kAnswer               // the daemon gets ev
	kMeasure              // the databases are read
	kStep                 // a step comes to its end
	kCatchUp              // a look whether the databases are there
	kAsk                  // the question reaches the peer's kernel
	kClose                // the emergency close takes effect
	kDurable              // the journal is synced
	kStart                // the daemon starts
	kRelease              // the service manager releases for a daemon that is gone
	kResume               // the paused daemon goes on
	kPower                // the host is back
	kThaw                 // the frozen host goes on
	kDatabase             // the database is back
	kRejoin               // an operator looks after the replication of a standby
	kNotice               // the kernel tells of the interface or the address
	kScript               // the scenario goes on; id: where
)

type item struct {
	at    time.Duration
	seq   uint64
	id    uint64
	kind  kind
	node  uint8
	life  uint32         // of the daemon it belongs to
	from  uint32         // life of the sender
	ev    failover.Event // also what a message says
	catch *failover.CatchUp
	step  hooks.StepID
	wait  time.Duration  // of a question
	epoch failover.Epoch // that an advertisement proves
	do    func()         // of a script
}

func (a *item) before(b *item) bool {
	return a.at < b.at || a.at == b.at && a.seq < b.seq
}

type queue struct{ items []*item }

func (q *queue) push(it *item) {
	q.items = append(q.items, it)
	i := len(q.items) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !it.before(q.items[up]) {
			break
		}
		q.items[i] = q.items[up]
		i = up
	}
	q.items[i] = it
}

func (q *queue) pop() *item {
	first := q.items[0]
	n := len(q.items) - 1
	it := q.items[n]
	q.items[n] = nil
	q.items = q.items[:n]
	if n == 0 {
		return first
	}
	i := 0
	for {
		down := 2*i + 1
		if down >= n {
			break
		}
		if down+1 < n && q.items[down+1].before(q.items[down]) {
			down++
		}
		if !q.items[down].before(it) {
			break
		}
		q.items[i] = q.items[down]
		i = down
	}
	q.items[i] = it
	return first
}
