package node

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
)

func (d *disk) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

// A disk that is full shows without anybody writing, and so does its end.
func TestAFullDiskShowsBeforeTheNight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := active(t, "a")
		if h := w.node.Journal(); h.Err != nil || h.Refused != 0 {
			t.Errorf("%+v", h)
		}
		w.journal.fail(errFull)
		time.Sleep(maintainEvery + time.Second)
		synctest.Wait()
		if h := w.node.Journal(); !errors.Is(h.Err, errFull) || h.Since > maintainEvery+time.Second {
			t.Errorf("%+v", h)
		}
		if !errors.Is(w.node.byName["a"].knows, errFull) {
			t.Error("the core was not told")
		}
		w.journal.fail(nil)
		time.Sleep(mendEvery + time.Second)
		if h := w.node.Journal(); h.Err != nil || h.Since > 2*time.Second || w.node.byName["a"].knows != nil {
			t.Errorf("with room again: %+v", h)
		}
	})
}

func TestADiskThatHangsShows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := active(t, "a")
		w.journal.hang()
		time.Sleep(maintainEvery + diskPatience + time.Second)
		if h := w.node.Journal(); !errors.Is(h.Err, errJournalBehind) || !errors.Is(w.node.byName["a"].knows, errJournalBehind) {
			t.Errorf("%+v", h)
		}
		w.journal.release()
		time.Sleep(time.Second)
		if h := w.node.Journal(); h.Err != nil || w.node.byName["a"].knows != nil {
			t.Errorf("%+v", h)
		}
	})
}

// A demotion that a full disk did not take is in the journal when there is room.
func TestADemotionOnAFullDiskIsOwed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := active(t, "a")
		w.journal.fail(errFull)
		w.heed(failover.TellInterval)
		time.Sleep(time.Second)
		if w.status("a").Role != hooks.Standby {
			t.Fatal("it still has the role")
		}
		n := len(w.journal.kinds())
		w.journal.fail(nil)
		time.Sleep(2 * mendEvery)
		late := w.journal.kinds()[n:]
		for _, k := range []hooks.RecordKind{hooks.Began, hooks.Stepped, hooks.Ended} {
			if !slices.Contains(late, k) {
				t.Errorf("owed were %v, without %s", late, k)
			}
		}
		if h := w.node.Journal(); h.Refused == 0 {
			t.Errorf("%+v", h)
		}
	})
}

// What is owed of a promotion that was refused is that it was.
func TestARefusedPromotionIsNotOwed(t *testing.T) {
	began := hooks.Record{Kind: hooks.Began, Instance: "a", Epoch: 7, Role: hooks.Active}
	for name, tt := range map[string]struct {
		r       hooks.Record
		written bool // Append took it, Sync failed
		want    []hooks.RecordKind
	}{
		"not appended":             {began, false, nil},
		"appended, and not synced": {began, true, []hooks.RecordKind{hooks.Reverted}},
		"a demotion":               {hooks.Record{Kind: hooks.Began, Role: hooks.Standby}, false, []hooks.RecordKind{hooks.Began}},
		"a demotion, appended":     {hooks.Record{Kind: hooks.Began, Role: hooks.Standby}, true, nil},
	} {
		d := &disk{}
		newWriter(d, nil, nil).owe(tt.r, tt.written)
		var got []hooks.RecordKind
		for _, r := range d.owed {
			got = append(got, r.Kind)
			if r.Kind == hooks.Reverted && r.Epoch != tt.r.Epoch {
				t.Errorf("%s: %+v", name, r)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: owed are %v, want %v", name, got, tt.want)
		}
	}
}
