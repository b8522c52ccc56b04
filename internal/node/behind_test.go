package node

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
)

// What decides something outlives a disk that hangs for longer than the queue is, in
// its order and behind what was queued. What only tells stays out before that.
func TestADiskThatHangsForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := active(t, "a")
		synctest.Wait()
		w.journal.hang()
		j, in := w.node.journal, w.node.byName["a"]
		before := len(w.journal.kinds())
		put := func(n int, r hooks.Record) {
			t.Helper()
			r.Instance = "a"
			for range n {
				if ev := j.append(in, failover.Append{Record: r}); ev != nil {
					t.Fatalf("nobody waits, and yet %+v", ev)
				}
			}
		}
		full := func() bool { return len(j.queue) == writerSize }
		put(writerSize+10, hooks.Record{Kind: hooks.Stepped, Epoch: 1})
		if n := len(j.queue); n > tellingSize {
			t.Fatalf("%d steps wait, more than %d", n, tellingSize)
		}
		j.remember(in, failover.Remember{})
		for !full() {
			put(1, hooks.Record{Kind: hooks.Learned, Epoch: 1})
		}
		late := []hooks.Record{
			{Kind: hooks.Began, Role: hooks.Standby, Epoch: 2, Instance: "a"},
			{Kind: hooks.Ended, Role: hooks.Standby, Epoch: 2, Ending: hooks.Completed, Instance: "a"},
			{Kind: hooks.Learned, Epoch: 3, Instance: "a"},
			{Kind: hooks.Acquired, Role: hooks.Active, Epoch: 4, Instance: "a"},
			{Kind: hooks.Reverted, Epoch: 4, Instance: "a"},
			{Kind: hooks.Override, Epoch: 5, UID: 7, Instance: "a"},
		}
		for _, r := range late {
			put(1, r)
			put(1, hooks.Record{Kind: hooks.Mended, Epoch: 9})
		}
		ev, _ := j.append(in, failover.Append{ID: 300, Record: hooks.Record{Kind: hooks.Began, Role: hooks.Active, Epoch: 6}}).(failover.Durable)
		if ev.ID != 300 || ev.Err == nil {
			t.Errorf("a promotion begins without its record: %+v", ev)
		}
		if h := w.node.Journal(); h.Awaiting != writerSize+len(late) {
			t.Errorf("%d records wait", h.Awaiting)
		}
		w.journal.release()
		time.Sleep(time.Second)
		synctest.Wait()
		w.journal.mu.Lock()
		defer w.journal.mu.Unlock()
		got := w.journal.records[before:]
		if len(got) < writerSize+len(late) {
			t.Fatalf("%d records written", len(got))
		}
		var since []hooks.Record
		for _, r := range got {
			if r.Epoch > 1 {
				since = append(since, r)
			}
		}
		if diff := cmp.Diff(late, since); diff != "" {
			t.Error(diff)
		}
		if n := in.unwritten.Load(); n != 0 {
			t.Errorf("%d records count as on their way", n)
		}
	})
}

func TestLateRecordsAreBounded(t *testing.T) {
	w := newWriter(&disk{}, nil, nil)
	kept := 0
	for range 2 * lateSize {
		if w.keepLate(nil, hooks.Record{Kind: hooks.Learned}) {
			kept++
		}
	}
	if kept != lateSize {
		t.Errorf("%d kept", kept)
	}
}
