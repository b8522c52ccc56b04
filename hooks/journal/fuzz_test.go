package journal

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tanist-ha/tanist/hooks"
)

// FuzzEntry: a record comes back as it was stored.
func FuzzEntry(f *testing.F) {
	f.Add(uint8(1), "compass", uint64(3), uint8(2), true, "elected", "step", "title", uint8(3), "detail", int64(5), uint8(1), int64(7), uint32(9))
	f.Fuzz(func(t *testing.T, kind uint8, instance string, epoch uint64, role uint8, planned bool, reason, name, title string,
		outcome uint8, detail string, stepTook int64, ending uint8, took int64, uid uint32,
	) {
		for _, s := range []string{instance, reason, name, title, detail} {
			if !utf8.ValidString(s) {
				return // JSON has no such strings
			}
		}
		want := Entry{At: time.Unix(epochTime(took), 0).UTC(), Boot: name, Record: hooks.Record{
			Kind: hooks.RecordKind(1 + kind%5), Instance: instance, Epoch: epoch, Role: hooks.Role(role % 3), Planned: planned,
			Reason: reason, Ending: hooks.Ending(ending % 4), Duration: time.Duration(took), UID: uid,
			Step: hooks.Result{Name: name, Title: title, Outcome: hooks.Outcome(outcome % 9), Detail: detail, Duration: time.Duration(stepTook)},
		}}
		payload, err := marshal(want)
		if err != nil {
			t.Skip(err)
		}
		got, err := unmarshal(payload)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("stored (-) and read (+) differ: %v\n%s", err, diff)
		}
	})
}

// epochTime keeps a date within the years that RFC 3339 can write.
func epochTime(n int64) int64 { return (n%(1<<36) + 1<<36) % (1 << 36) }

// FuzzOpen: whatever is in the file, it opens, what it returns it finds again,
// and it takes another record.
func FuzzOpen(f *testing.F) {
	golden, err := os.ReadFile(filepath.Join("testdata", "journal-1"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Add(golden[:len(golden)-3])
	f.Add(append(bytes.Clone(golden[:60]), golden[61:]...))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, content []byte) {
		path := place(t, content)
		j, entries := mustOpen(t, path)
		mustAppend(t, j, story()[0])
		mustClose(t, j)
		j, again := mustOpen(t, path)
		r := j.Recovery()
		if r.Torn.Length > 0 || len(r.Damage) > 0 || r.Foreign != "" || r.Aside != "" {
			t.Fatalf("opened again: %v", r)
		}
		want := append(entries, Entry{Record: story()[0]})
		last := len(again) - 1
		if diff := cmp.Diff(want[:len(want)-1], again[:max(last, 0)], cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("first (-) and second time (+) differ:\n%s", diff)
		}
		if diff := cmp.Diff(want[len(want)-1], again[last], sameEntry, cmpopts.IgnoreFields(Entry{}, "Number", "Skipped")); diff != "" {
			t.Fatal(diff)
		}
	})
}
