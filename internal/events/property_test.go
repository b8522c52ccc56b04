package events

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/hooks/journal"
)

// Whatever restarts, power cuts, rotations and lost connections there are: a reader
// that goes on from its last number gets every event that is held, each once and in
// order, hears of every other one as a gap, and no number ever means two things.
func TestNoEventIsLostOrComesTwice(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { t.Parallel(); property(t, rand.New(rand.NewPCG(seed, 7))) })
	}
}

func property(t *testing.T, r *rand.Rand) {
	n := newNode(t)
	var mu sync.Mutex
	seen := map[uint64]string{} // what readers got
	var gaps []Gap
	ctx, enough := context.WithCancel(t.Context())
	defer enough()
	var target atomic.Uint64 // the number to reach; 0: not yet
	over := make(chan struct{})
	go func() {
		defer close(over)
		last, streams := uint64(0), 0
		for ctx.Err() == nil {
			query, id := "?from=1", ""
			if streams > 0 {
				id = fmt.Sprint(last)
			}
			rd, err := n.tryRead(ctx, query, id, true)
			if err != nil || rd.status != http.StatusOK {
				if err == nil {
					_ = rd.body.Close()
				}
				time.Sleep(time.Millisecond) // the daemon is down
				continue
			}
			streams++
			for {
				e, ok := rd.next()
				if !ok || e.Kind == KindCut {
					break
				}
				mu.Lock()
				switch {
				case e.Gap != nil:
					if e.Gap.From != last+1 && e.Gap.Why == NotHeld || e.Gap.Why == NeverGiven {
						t.Errorf("after %d: %+v", last, e.Gap)
					}
					gaps = append(gaps, *e.Gap)
					last = e.Gap.To
				case e.Number > 0:
					if _, twice := seen[e.Number]; twice || e.Number <= last {
						t.Errorf("%d after %d, twice: %t", e.Number, last, twice)
					}
					seen[e.Number] = e.Step.Name
					last = e.Number
				}
				mu.Unlock()
				if to := target.Load(); to != 0 && last >= to {
					_ = rd.body.Close()
					return
				}
			}
			_ = rd.body.Close()
		}
	}()
	wrote := map[uint64]string{} // by number, as the journal has it in the end
	big := strings.Repeat("x", 50<<10)
	for life := range 16 {
		durable := fileSize(t, n.path)
		if r.IntN(3) > 0 {
			n.handler.Store(nil) // nobody is let in
			n.server.CloseClientConnections()
		}
		for i := range 5 + r.IntN(40) {
			rec := step(fmt.Sprintf("%d/%d", life, i))
			if r.IntN(2) == 0 {
				rec.Reason = big
			}
			if err := n.journal.Append(rec); err != nil {
				t.Fatal(err)
			}
			if r.IntN(4) == 0 {
				if err := n.journal.Sync(); err != nil {
					t.Fatal(err)
				}
				if _, err := n.journal.Maintain(); err != nil { // rotates when it is time
					t.Fatal(err)
				}
				durable = fileSize(t, n.path)
			}
			if r.IntN(15) == 0 {
				n.server.CloseClientConnections()
			}
		}
		n.handler.Store(n.feed)
		end := fileSize(t, n.path)
		n.stop()
		if r.IntN(2) == 0 && end > durable { // the power went, and took what was not synced
			if err := os.Truncate(n.path, durable+r.Int64N(end-durable)); err != nil {
				t.Fatal(err)
			}
		}
		n.start()
	}
	n.add(step("end"))
	c, err := journal.Read(n.path)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range c.Entries {
		wrote[e.Number] = e.Record.Step.Name
	}
	target.Store(c.Entries[len(c.Entries)-1].Number)
	n.add(step("behind the end"))
	select {
	case <-over:
	case <-time.After(patience):
		t.Fatal("the reader does not come to the end")
	}
	mu.Lock()
	defer mu.Unlock()
	for number, name := range wrote {
		// What is held in the end was so when the reader came to it.
		if got, is := seen[number]; !is || got != name {
			inGap := slices.ContainsFunc(gaps, func(g Gap) bool { return g.From <= number && number <= g.To })
			t.Errorf("%d is %s; the reader got %q, gap: %t", number, name, got, inGap)
		}
	}
	t.Logf("%d events, %d gaps, %d held in the end, the file read %d times", len(seen), len(gaps), len(wrote), n.reads.Load())
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
