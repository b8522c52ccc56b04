package mysql

// A round does something with many databases at once. Those that hang must not
// hold up the others.

import (
	"context"
	"sync"
	"time"

	"github.com/tanist-ha/tanist/replication"
)

const (
	// slotPatience is for how long a database counts among those at work. One that
	// takes longer waits for its server and costs nothing meanwhile.
	slotPatience = 50 * time.Millisecond
	// leastSilence is the least that a server must have been silent to be taken for
	// one that hangs: the rest of a round can be shorter than its own limit.
	leastSilence = DefaultMeasureTimeout / 2
)

// Each runs f on every database and returns when all have returned. No more than
// parallel are at work at a time; one that is not done within 50 ms makes room for
// the next. Those that did not answer to their latest measurement are begun with
// first and need no room.
func Each(all []*Database, parallel int, f func(i int, d *Database)) {
	slots := make(chan struct{}, parallel)
	var wg sync.WaitGroup
	var rest []int
	for i, d := range all {
		if !d.silent.Load() {
			rest = append(rest, i)
			continue
		}
		wg.Go(func() { f(i, d) })
	}
	for _, i := range rest {
		slots <- struct{}{} // freed within slotPatience
		wg.Go(func() {
			leave := sync.OnceFunc(func() { <-slots })
			defer leave()
			defer time.AfterFunc(slotPatience, leave).Stop()
			f(i, all[i])
		})
	}
	wg.Wait()
}

// MeasureAll measures every database once and returns the facts in their order. A
// database whose turn came when ctx was about to end is not known, not silent.
func MeasureAll(ctx context.Context, all []*Database, parallel int) []replication.Facts {
	facts := make([]replication.Facts, len(all))
	Each(all, parallel, func(i int, d *Database) {
		began := time.Now()
		facts[i] = d.Measure(ctx)
		if facts[i].Reach == replication.ReachTimedOut && time.Since(began) < leastSilence {
			facts[i].Reach, facts[i].ReachDetail = replication.ReachUnknown, "its turn came too late in this round"
		}
	})
	return facts
}

// Silent reports whether the latest measurement had no answer.
func (d *Database) Silent() bool { return d.silent.Load() }
