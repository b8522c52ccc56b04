package journal

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/hooks"
)

// random returns a plausible history of some instances.
func random(rng *rand.Rand, n int) []hooks.Record {
	out := make([]hooks.Record, n)
	epoch := uint64(0)
	for i := range out {
		epoch += rng.Uint64N(2)
		out[i] = hooks.Record{
			Kind: hooks.RecordKind(1 + rng.IntN(5)), Instance: []string{"compass", "sextant", "log"}[min(rng.IntN(40), 2)],
			Epoch: epoch - min(epoch, rng.Uint64N(3)), Role: hooks.Role(rng.IntN(3)), Ending: hooks.Ending(rng.IntN(4)), Reason: "some reason",
		}
	}
	return out
}

func TestRotationKeepsTheMemories(t *testing.T) {
	const limit = 20_000
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 1))
		path := filepath.Join(t.TempDir(), "journal")
		j, _ := mustOpen(t, path)
		mustAppend(t, j, random(rng, 300)...)
		mustClose(t, j)
		before := read(t, path)
		entries, err := entriesOf(path)
		if err != nil {
			t.Fatal(err)
		}
		j, returned, err := open(path, limit)
		if err != nil {
			t.Fatal(err)
		}
		if r := j.Recovery(); r.Rotated != path+".1" || !r.Clean() {
			t.Fatalf("seed %d: %v", seed, r)
		}
		if len(returned) != len(entries) || !bytes.Equal(read(t, path+".1"), before) {
			t.Errorf("seed %d: the rotated file is another, or the caller was given %d of %d entries", seed, len(returned), len(entries))
		}
		kept, err := entriesOf(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(Memories(entries), Memories(kept), sameMemory); diff != "" {
			t.Fatalf("seed %d: memories before (-) and after (+) differ:\n%s", seed, diff)
		}
		if size := len(read(t, path)); size > limit/2 {
			t.Errorf("seed %d: %d bytes are left of %d", seed, size, len(before))
		}
		if diff := cmp.Diff(entries[len(entries)-20:], kept[len(kept)-20:]); diff != "" {
			t.Errorf("seed %d: the recent history changed:\n%s", seed, diff)
		}
		more := random(rng, 50)
		mustAppend(t, j, more...)
		mustClose(t, j)
		j, after, err := open(path, limit)
		if err != nil || !j.Recovery().Clean() || j.Recovery().Rotated != "" {
			t.Fatalf("seed %d: opened again: %v, %v", seed, err, j.Recovery())
		}
		for _, r := range more {
			entries = append(entries, Entry{Record: r})
		}
		if diff := cmp.Diff(Memories(entries), Memories(after), sameMemory); diff != "" {
			t.Fatalf("seed %d: later records fold differently after a rotation:\n%s", seed, diff)
		}
		mustClose(t, j)
	}
}

func TestCompactIsQuickOnAFullFile(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var in []record
	for _, r := range random(rng, 40_000) {
		e := Entry{Record: r}
		payload, err := marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		in = append(in, record{frame: appendFrame(nil, payload), entry: &e})
	}
	began := time.Now()
	out := compact(in, DefaultLimit/4, nil)
	took := time.Since(began)
	t.Logf("%d records to %d in %v", len(in), len(out), took)
	if took > 10*time.Second || len(out) > len(in)/2 {
		t.Errorf("%d records to %d in %v", len(in), len(out), took)
	}
}

// A rotation that a crash interrupted leaves files that do no harm.
func TestLeftoversOfARotation(t *testing.T) {
	path := place(t, wrote(t))
	for _, name := range []string{".new", ".old", ".1"} {
		if err := os.WriteFile(path+name, []byte("left over"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	j, entries, err := open(path, 100)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(story()) || j.Recovery().Rotated == "" || j.Recovery().Err != nil {
		t.Errorf("%d entries, %v", len(entries), j.Recovery())
	}
	mustClose(t, j)
	names, err := filepath.Glob(path + "*")
	if diff := cmp.Diff([]string{path, path + ".1"}, names); diff != "" || err != nil {
		t.Error(diff, err)
	}
}
