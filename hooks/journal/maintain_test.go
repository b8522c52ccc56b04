package journal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/hooks"
)

func mustMaintain(t *testing.T, j *Journal) {
	t.Helper()
	if unwritable, trouble := j.Maintain(); unwritable != nil || trouble != nil {
		t.Fatal(unwritable, trouble)
	}
}

// What happened while the disk was full is in the journal once there is room, in
// its order and with its date.
func TestWhatIsOwedIsWrittenFirst(t *testing.T) {
	j, f := openFailing(t)
	now := time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)
	j.clock = func() time.Time { return now }
	f.write = true
	for _, r := range story()[1:3] {
		if err := j.Append(r); err == nil {
			t.Fatal("append succeeded")
		}
		j.Owe(r)
		now = now.Add(time.Hour)
	}
	if unwritable, _ := j.Maintain(); !errors.Is(unwritable, errDisk) {
		t.Errorf("maintain: %v", unwritable)
	}
	f.write = false
	mustAppend(t, j, story()[3])
	c, err := Read(j.path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(story()[:4], records(c.Entries)); diff != "" {
		t.Error(diff)
	}
	for i, hour := range []int{3, 4, 5} {
		if at := c.Entries[i+1].At; at.Hour() != hour {
			t.Errorf("entry %d is dated %s", i+1, at)
		}
	}
	f.write = true
	j.Owe(story()[4])
	f.write = false
	mustMaintain(t, j) // without another record
	if diff := cmp.Diff(story()[:5], reopened(t, j)); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsOwedIsBounded(t *testing.T) {
	for seed := range uint64(2) {
		rng := rand.New(rand.NewPCG(seed, 3))
		j, f := openFailing(t)
		first := random(rng, 50)
		mustAppend(t, j, first...)
		f.write = true
		all := append([]hooks.Record{story()[0]}, first...)
		for _, r := range random(rng, 2000) {
			r.Step.Detail = strings.Repeat("x", 200)
			j.Owe(r)
			all = append(all, r)
			if n := len(bytesOf(j.owed)); n > owedLimit {
				t.Fatalf("%d bytes are kept", n)
			}
		}
		f.write = false
		mustMaintain(t, j)
		want := map[string]hooks.Memory{}
		for _, r := range all {
			want[r.Instance] = want[r.Instance].Fold(r)
		}
		mustClose(t, j)
		entries, err := entriesOf(j.path)
		if diff := cmp.Diff(want, Memories(entries), sameMemory); diff != "" || err != nil {
			t.Fatalf("seed %d: what happened (-) and the journal (+) fold differently: %v\n%s", seed, err, diff)
		}
	}
}

// A journal that had room keeps it: a disk that is full by the night takes the
// records of the transition.
func TestRoomIsKept(t *testing.T) {
	onSmallDisk(t, "1m", func(dir string) {
		path := filepath.Join(dir, "journal")
		j, _, err := Open(path)
		if err != nil {
			t.Error(err)
			return
		}
		if unwritable, trouble := j.Maintain(); unwritable != nil || trouble != nil {
			t.Error(unwritable, trouble)
		}
		free := fillDisk(t, dir)
		if unwritable, _ := j.Maintain(); unwritable != nil {
			t.Errorf("with room kept: %v", unwritable)
		}
		r := story()[1]
		r.Step.Detail = strings.Repeat("x", 10_000)
		for range reserve / 2 / 10_500 {
			if err := errors.Join(j.Append(r), j.Sync()); err != nil {
				t.Error(err)
			}
		}
		for err == nil {
			err = j.Append(r)
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Error(err)
		}
		if unwritable, _ := j.Maintain(); !errors.Is(unwritable, unix.ENOSPC) || !strings.Contains(unwritable.Error(), "room") {
			t.Errorf("without room: %v", unwritable)
		}
		free()
		if unwritable, _ := j.Maintain(); unwritable != nil {
			t.Errorf("with room again: %v", unwritable)
		}
		if err := j.Close(); err != nil {
			t.Error(err)
		}
		if c, err := Read(path); err != nil || len(c.Damage) > 0 || c.Torn {
			t.Errorf("%+v, %v", c, err)
		}
	})
}

func TestAFileInUseIsRotated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, _, err := open(path, 20_000)
	if err != nil {
		t.Fatal(err)
	}
	var all []hooks.Record
	rng := rand.New(rand.NewPCG(8, 8))
	rotations, before := 0, int64(0)
	for range 60 {
		more := random(rng, 20)
		mustAppend(t, j, more...)
		all = append(all, more...)
		before = j.end
		mustMaintain(t, j)
		if j.end < before {
			rotations++
		}
		if j.end > 30_000 {
			t.Fatalf("%d bytes", j.end)
		}
		if _, _, err := Open(path); !errors.Is(err, ErrOwned) {
			t.Fatalf("a second owner: %v", err)
		}
		c, err := Read(path)
		if err != nil || len(c.Entries) < 20 || !c.Open {
			t.Fatalf("%d entries, %v", len(c.Entries), err)
		}
		if diff := cmp.Diff(all[len(all)-20:], records(c.Entries[len(c.Entries)-20:])); diff != "" {
			t.Fatal(diff)
		}
	}
	want := map[string]hooks.Memory{}
	for _, r := range all {
		want[r.Instance] = want[r.Instance].Fold(r)
	}
	mustClose(t, j)
	j, entries := mustOpen(t, path)
	if diff := cmp.Diff(want, Memories(entries), sameMemory); diff != "" || rotations < 3 || !j.Recovery().Clean() {
		t.Errorf("after %d rotations, %v: %s", rotations, j.Recovery(), diff)
	}
}

// A rotation that cannot be is trouble, and no reason not to write.
func TestARotationThatFailsIsTriedLater(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, _, err := open(path, 2000)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(path+".new", "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, random(rand.New(rand.NewPCG(1, 1)), 20)...)
	if unwritable, trouble := j.Maintain(); unwritable != nil || trouble == nil {
		t.Errorf("%v, %v", unwritable, trouble)
	}
	mustMaintain(t, j) // not at once
	mustAppend(t, j, story()...)
	if err := os.RemoveAll(path + ".new"); err != nil {
		t.Fatal(err)
	}
	before := j.end
	mustMaintain(t, j)
	if j.end >= before {
		t.Errorf("%d bytes, before it %d", j.end, before)
	}
	mustClose(t, j)
}

// Whoever removes the journal of a running daemon does not make it forget.
func TestAFileThatWasRemovedIsWrittenAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, _ := mustOpen(t, path)
	mustAppend(t, j, story()[:3]...)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, story()[3:]...)
	if diff := cmp.Diff(story(), reopened(t, j)); diff != "" {
		t.Error(diff)
	}
}

func TestAFileThatWasReplacedIsNotWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, _ := mustOpen(t, path)
	mustAppend(t, j, story()[:3]...)
	if err := os.Rename(path, path+".mine"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("a backup"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := j.Append(story()[3]); err != nil {
		t.Fatal(err)
	}
	if err := j.Sync(); err == nil || !strings.Contains(err.Error(), "another file is in its place") {
		t.Errorf("sync: %v", err)
	}
	if unwritable, _ := j.Maintain(); unwritable == nil {
		t.Error("nothing is said of the other file")
	}
	if string(read(t, path)) != "a backup" {
		t.Error("the other file was written")
	}
	if err := os.Rename(path+".mine", path); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(story()[:4], reopened(t, j)); diff != "" {
		t.Error(diff)
	}
}

// Wherever a rotation is cut off by a crash, nothing is lost or told twice.
func TestACrashInARotation(t *testing.T) {
	content := wrote(t)
	for stop := range 5 {
		path := place(t, content)
		var errs []error
		if stop > 0 { // a part of the new file is written
			errs = append(errs, os.WriteFile(path+".new", content[:30], 0o600))
		}
		if stop > 1 {
			errs = append(errs, os.WriteFile(path+".new", content[:headerSize], 0o600), os.Link(path, path+".old"))
		}
		if stop > 2 {
			errs = append(errs, os.Rename(path+".old", path+".1"))
		}
		if stop > 3 {
			kept := append(header(), bytesOf(compact(scan(content).records, 300, nil))...)
			errs = append(errs, os.WriteFile(path+".new", kept, 0o600), os.Rename(path+".new", path))
		}
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		for _, moment := range []string{"at once", "after the next start"} {
			c, err := Read(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(story(), records(c.Entries)); diff != "" || len(c.Damage) > 0 {
				t.Fatalf("stopped at %d, read %s: %v %s", stop, moment, c.Damage, diff)
			}
			j, entries := mustOpen(t, path)
			if got := Memories(entries)["compass"]; got.ActiveEpoch != 1 || got.Epoch != 2 || !j.Recovery().Clean() {
				t.Fatalf("stopped at %d: %+v, %v", stop, got, j.Recovery())
			}
			mustMaintain(t, j)
			mustClose(t, j)
		}
		j, _, err := open(path, 100)
		if err != nil || j.Recovery().Rotated == "" || j.Recovery().Err != nil {
			t.Fatalf("stopped at %d: the next rotation: %v, %v", stop, err, j.Recovery())
		}
		mustClose(t, j)
	}
}

// A directory that could not be synced after a rename leaves it open which file a
// crash would leave: nothing is durable until it could be.
func TestNothingIsDurableBeforeItsName(t *testing.T) {
	j, _ := openFailing(t)
	j.undecided = true
	path := j.path
	j.path = filepath.Join(filepath.Dir(path), "gone", "journal")
	if err := j.settle(); err == nil {
		t.Error("a directory that is not there was synced")
	}
	j.path = path
	mustAppend(t, j, story()[1])
	if j.undecided {
		t.Error("it is still not known")
	}
}

func TestTheProbeLeavesTheJournalAlone(t *testing.T) {
	j, _ := openFailing(t)
	before := read(t, j.path)
	mustMaintain(t, j)
	mustMaintain(t, j)
	if !bytes.Equal(before, read(t, j.path)) {
		t.Error("the journal changed")
	}
	if got := string(read(t, j.path+probeSuffix)); got != probeText {
		t.Errorf("the probe holds %q", got)
	}
	if err := os.Remove(j.path + probeSuffix); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(j.path+probeSuffix, 0o700); err != nil {
		t.Fatal(err)
	}
	if unwritable, _ := j.Maintain(); unwritable == nil || !strings.Contains(fmt.Sprint(unwritable), probeSuffix) {
		t.Errorf("a probe that cannot be written: %v", unwritable)
	}
}
