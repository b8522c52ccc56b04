package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/hooks"
)

// numbers are those of entries, each behind its gap: "1 2 4099(4096)".
func numbers(entries []Entry) string {
	var words []string
	for _, e := range entries {
		w := fmt.Sprint(e.Number)
		if e.Skipped > 0 {
			w += fmt.Sprintf("(%d)", e.Skipped)
		}
		words = append(words, w)
	}
	return strings.Join(words, " ")
}

func TestNumbersGrowOverRestarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	var told []Entry
	for range 3 {
		j, entries := mustOpen(t, path)
		if next, _ := j.Next(); len(entries) != len(told) || next <= highestNumber(told) {
			t.Errorf("%d entries, next is %d", len(entries), next)
		}
		j.Tell(func(es []Entry) { told = append(told, es...) })
		mustAppend(t, j, story()[:2]...)
		mustAppend(t, j, story()[2])
		mustClose(t, j)
	}
	const want = "1 2 3 8196(8192) 8197 8198 16391(8192) 16392 16393"
	c, err := Read(path)
	if diff := cmp.Diff(told, c.Entries); err != nil || diff != "" || numbers(told) != want {
		t.Errorf("told %s: %v\n%s", numbers(told), err, diff)
	}
}

// A rotation keeps what it takes along as it was.
func TestNumbersOverARotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, _, err := open(path, 4096)
	if err != nil {
		t.Fatal(err)
	}
	told := map[uint64]Entry{}
	j.Tell(func(es []Entry) {
		for _, e := range es {
			if _, twice := told[e.Number]; twice {
				t.Errorf("%d twice", e.Number)
			}
			told[e.Number] = e
		}
	})
	rotations := 0
	for i := range 200 {
		mustAppend(t, j, hooks.Record{Kind: hooks.Stepped, Instance: "compass", Epoch: uint64(i), Reason: strings.Repeat("x", 100)})
		before := j.end
		if _, err := j.Maintain(); err != nil {
			t.Fatal(err)
		}
		if j.end < before {
			rotations++
		}
		c, err := Read(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range c.Entries {
			if diff := cmp.Diff(told[e.Number], e); diff != "" {
				t.Fatal(diff)
			}
		}
	}
	if rotations < 5 {
		t.Errorf("%d rotations", rotations)
	}
	mustClose(t, j)
}

// What is owed is numbered when it is written, before what comes then.
func TestNumbersOfWhatIsOwed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, _ := mustOpen(t, path)
	mustAppend(t, j, story()[0])
	j.Owe(story()[1])
	j.Owe(story()[2])
	mustAppend(t, j, story()[3])
	mustClose(t, j)
	c, err := Read(path)
	if err != nil || numbers(c.Entries) != "1 2 3 4" {
		t.Errorf("%s, %v", numbers(c.Entries), err)
	}
	if diff := cmp.Diff(story()[:4], records(c.Entries)); diff != "" {
		t.Error(diff)
	}
}

// A crash loses what no fsync confirmed. Whoever saw it never sees its number again.
func TestNumbersAreNeverGivenTwice(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	path := filepath.Join(t.TempDir(), "journal")
	seen := map[uint64]string{}
	for round := range 60 {
		j, _, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		j.Tell(func(es []Entry) {
			for _, e := range es {
				if was, twice := seen[e.Number]; twice {
					t.Fatalf("%d was %s and is %s", e.Number, was, e.Record.Reason)
				}
				seen[e.Number] = e.Record.Reason
			}
		})
		durable := j.end
		for i := range r.IntN(30) {
			if err := j.Append(hooks.Record{Kind: hooks.Stepped, Instance: "compass", Reason: fmt.Sprint(round, "/", i)}); err != nil {
				t.Fatal(err)
			}
			if r.IntN(3) == 0 {
				if err := j.Sync(); err != nil {
					t.Fatal(err)
				}
				durable = j.end
			}
		}
		end := j.end
		j.Tell(nil) // the power is gone before the end that follows
		mustClose(t, j)
		if cut := durable + r.Int64N(end-durable+1); cut > 0 { // what a power cut leaves
			if err := os.Truncate(path, cut); err != nil {
				t.Fatal(err)
			}
		}
	}
	c, err := Read(path)
	if err != nil || len(c.Entries) == 0 {
		t.Fatalf("%v", err)
	}
	for _, e := range c.Entries {
		if was, known := seen[e.Number]; known && was != e.Record.Reason {
			t.Errorf("%d is %s and was %s", e.Number, e.Record.Reason, was)
		}
	}
}

// More entries than the smallest ones that wait for an fsync are left out at a start.
func TestEnoughNumbersAreLeftOut(t *testing.T) {
	payload, err := marshal(Entry{Number: 1, Record: hooks.Record{Kind: hooks.Ended}})
	if err != nil {
		t.Fatal(err)
	}
	if most := (maxUnsynced + owedLimit) / (frameSize + len(payload)); most >= skippedAtStart {
		t.Errorf("%d entries can wait for the disk", most)
	}
}

// A file that was put aside does not take its numbers with it, where there is another.
func TestNumbersAfterAFileOfAnotherVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, _ := mustOpen(t, path)
	mustAppend(t, j, story()[:3]...)
	mustClose(t, j)
	if err := os.Rename(path, path+rotatedSuffix); err != nil {
		t.Fatal(err)
	}
	foreign := append([]byte(magic), 0, 2)
	foreign = binary.BigEndian.AppendUint32(foreign, crc32.Checksum(foreign, castagnoli))
	if err := os.WriteFile(path, foreign, 0o600); err != nil {
		t.Fatal(err)
	}
	j, _ = mustOpen(t, path)
	if next, skipped := j.Next(); j.Recovery().Foreign == "" || next != 4+skippedAtStart || skipped != skippedAtStart {
		t.Errorf("%v, next is %d", j.Recovery(), next)
	}
}
