package node

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tanist-ha/tanist/hooks"
)

// A record of an operator is there when Record returns, and what cannot be written
// is said: somebody is about to act on it.
func TestRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := active(t, "a")
		r := hooks.Record{Kind: hooks.Override, Instance: "a", Role: hooks.Standby, Reason: "tested"}
		if err := w.node.Record(t.Context(), "a", r); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(w.journal.kinds(), hooks.Override) {
			t.Errorf("the journal has %v", w.journal.kinds())
		}
		if err := w.node.Record(t.Context(), "b", r); err == nil {
			t.Error("a record of an instance that is not there")
		}
		w.journal.mu.Lock()
		w.journal.err = errFull
		w.journal.mu.Unlock()
		if err := w.node.Record(t.Context(), "a", r); !errors.Is(err, errFull) {
			t.Errorf("a full disk: %v", err)
		}
		w.journal.mu.Lock()
		w.journal.err = nil
		w.journal.mu.Unlock()
		w.journal.hang()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.node.Record(ctx, "a", r); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a hung disk: %v", err)
		}
		w.journal.release()
		synctest.Wait()
	})
}
