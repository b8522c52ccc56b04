package journal

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tanist-ha/tanist/hooks"
)

// entriesOf reads one file, without what was rotated out of it.
func entriesOf(path string) ([]Entry, error) {
	data, err := os.ReadFile(path)
	entries, _ := scan(data).entries()
	return entries, err
}

func TestReadBesideTheOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, _ := mustOpen(t, path)
	mustAppend(t, j, story()...)
	c, err := Read(path)
	if err != nil || len(c.Entries) != len(story()) || !c.Open || c.Torn || c.Boot != bootID() {
		t.Errorf("beside the owner: %+v, %v", c, err)
	}
	mustAppend(t, j, story()[0])
	mustClose(t, j)
	if c, err = Read(path); err != nil || c.Open || len(c.Entries) != len(story())+1 {
		t.Errorf("without one: open %v, %d entries, %v", c.Open, len(c.Entries), err)
	}
	if _, entries := mustOpen(t, path); len(entries) != len(story())+1 {
		t.Errorf("after it was read %d entries are there", len(entries))
	}
}

// For every prefix of a journal the reader tells what the longest prefix of whole
// records tells, and so does the daemon that starts on it.
func TestMemoryOfEveryPrefix(t *testing.T) {
	for seed := range uint64(2) {
		path := filepath.Join(t.TempDir(), "journal")
		j, _ := mustOpen(t, path)
		mustAppend(t, j, random(rand.New(rand.NewPCG(seed, 7)), 20)...)
		mustClose(t, j)
		content := read(t, path)
		want, n, end := map[string]hooks.Memory{}, 0, headerSize
		whole := scan(content).records
		for cut := range len(content) + 1 {
			for n < len(whole) && end+len(whole[n].frame) <= cut {
				r := whole[n].entry.Record
				want[r.Instance] = want[r.Instance].Fold(r)
				end += len(whole[n].frame)
				n++
			}
			if err := os.WriteFile(path, content[:cut], 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := Read(path)
			if err != nil || len(c.Damage) > 0 || c.Torn != (cut != end && cut > 0) && cut > headerSize {
				t.Fatalf("seed %d, cut at %d: %+v, %v", seed, cut, c, err)
			}
			if diff := cmp.Diff(want, Memories(c.Entries), sameMemory); diff != "" {
				t.Fatalf("seed %d, cut at %d: %d whole records (-) and the reader (+) differ:\n%s", seed, cut, n, diff)
			}
			if !bytes.Equal(read(t, path), content[:cut]) {
				t.Fatal("reading changed the file")
			}
			if cut%17 != 0 {
				continue // each start syncs
			}
			j, entries := mustOpen(t, path)
			if diff := cmp.Diff(c.Entries, entries, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("seed %d, cut at %d: the reader (-) and the daemon (+) differ:\n%s", seed, cut, diff)
			}
			mustClose(t, j)
		}
	}
}

// What was rotated out is read too, and what was taken along is read once.
func TestReadAcrossARotation(t *testing.T) {
	const limit = 20_000
	path := filepath.Join(t.TempDir(), "journal")
	j, _ := mustOpen(t, path)
	mustAppend(t, j, random(rand.New(rand.NewPCG(4, 4)), 300)...)
	mustClose(t, j)
	before, err := entriesOf(path)
	if err != nil {
		t.Fatal(err)
	}
	j, _, err = open(path, limit)
	if err != nil || j.Recovery().Rotated == "" {
		t.Fatalf("%v, %v", err, j.Recovery())
	}
	mustAppend(t, j, story()...)
	mustClose(t, j)
	c, err := Read(path)
	if err != nil || len(c.Damage) > 0 {
		t.Fatalf("%v, %v", c.Damage, err)
	}
	after := c.Entries[min(len(before), len(c.Entries)):]
	if diff := cmp.Diff(before, c.Entries[:min(len(before), len(c.Entries))]); diff != "" {
		t.Errorf("before the rotation (-) and after (+) differ:\n%s", diff)
	}
	if diff := cmp.Diff(story(), records(after)); diff != "" {
		t.Errorf("appended after it (-) and read (+) differ:\n%s", diff)
	}
	if err := os.WriteFile(path+rotatedSuffix, []byte("somebody's notes, which are no journal of ours"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err = Read(path); err != nil || len(c.Damage) != 1 || !strings.Contains(c.Damage[0], path+rotatedSuffix) || len(c.Entries) < len(story()) {
		t.Errorf("with a rotated file that is none: %d entries, %v, %v", len(c.Entries), c.Damage, err)
	}
}

func TestReadWhatIsNotThere(t *testing.T) {
	dir := t.TempDir()
	if _, err := Read(filepath.Join(dir, "journal")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := Read(dir); err == nil {
		t.Error("a directory was read")
	}
}

// A kind of a newer release comes with its name.
func TestAnUnknownKindHasItsName(t *testing.T) {
	b := appendFrame(header(), []byte(`{"at":"2024-01-01T00:00:00Z","kind":"levitated","instance":"compass","epoch":7,"reason":"so"}`))
	c, err := Read(place(t, b))
	if err != nil || len(c.Entries) != 1 || c.Entries[0].Unknown != "levitated" || c.Entries[0].Record.Reason != "so" {
		t.Errorf("%+v, %v", c, err)
	}
}

// FuzzScan: what is read out of any bytes, written again, reads the same, and
// the reader agrees with the daemon.
func FuzzScan(f *testing.F) {
	golden, err := os.ReadFile(filepath.Join("testdata", "journal-1"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Add(golden[:len(golden)-3])
	f.Add(append(bytes.Clone(golden[:60]), golden[61:]...))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := scan(data)
		if c.end > int64(len(data)) || c.torn.Length < 0 {
			t.Fatalf("of %d bytes: end %d, torn %+v", len(data), c.end, c.torn)
		}
		b := header()
		for _, r := range c.records {
			b = append(b, r.frame...)
			if r.entry == nil || r.entry.Unknown != "" {
				continue
			}
			payload, err := marshal(*r.entry)
			if err != nil {
				continue // a value of a newer release
			}
			if again, err := unmarshal(payload); err != nil || !cmp.Equal(*r.entry, again) {
				t.Fatalf("%+v was written and read as %+v, %v", *r.entry, again, err)
			}
		}
		again := scan(b)
		if len(again.records) != len(c.records) || len(again.damage) > 0 || again.torn.Length > 0 || again.end != int64(len(b)) {
			t.Fatalf("%d records were written and read as %d, damage %v, torn %v", len(c.records), len(again.records), again.damage, again.torn)
		}
		for i := range c.records {
			if !bytes.Equal(c.records[i].frame, again.records[i].frame) {
				t.Fatalf("record %d changed", i)
			}
		}
	})
}
