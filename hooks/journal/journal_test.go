package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/words"
)

var (
	update = flag.Bool("update", false, "write the golden files anew")

	sameMemory = cmp.AllowUnexported(hooks.Memory{})
	sameEntry  = cmpopts.IgnoreFields(Entry{}, "At", "Boot")
)

// story is what two promotions, one taken back, leave in a journal.
func story() []hooks.Record {
	return []hooks.Record{
		{Kind: hooks.Began, Instance: "compass", Epoch: 1, Role: hooks.Active, Reason: "elected"},
		{
			Kind: hooks.Stepped, Instance: "compass", Epoch: 1, Role: hooks.Active,
			Step: hooks.Result{Name: "lsyncd", Title: "unit start lsyncd.service", Outcome: hooks.Changed, Detail: "é \"quoted\"\n", Duration: 1234567},
		},
		{Kind: hooks.Ended, Instance: "compass", Epoch: 1, Role: hooks.Active, Ending: hooks.Completed, Duration: 2 * time.Second},
		{Kind: hooks.Override, Instance: "compass", Epoch: 1, Reason: "we know", UID: 1000},
		{Kind: hooks.Began, Instance: "compass", Epoch: 2, Role: hooks.Active, Planned: true, Reason: "requested"},
		{Kind: hooks.Reverted, Instance: "compass", Epoch: 2},
		{Kind: hooks.Began, Instance: "sextant", Epoch: 9, Role: hooks.Standby, Reason: "stopping"},
		{
			Kind: hooks.Strayed, Instance: "sextant", Epoch: 9, Role: hooks.Standby,
			Step: hooks.Result{Name: "lsyncd", Title: "unit stop lsyncd.service", Outcome: hooks.Changed, Detail: "would change"},
		},
		{
			Kind: hooks.Mended, Instance: "sextant", Epoch: 9, Role: hooks.Standby,
			Step: hooks.Result{Name: "lsyncd", Title: "unit stop lsyncd.service", Outcome: hooks.Unchanged, Duration: 7 * time.Second},
		},
	}
}

func mustOpen(t *testing.T, path string) (*Journal, []Entry) {
	t.Helper()
	j, entries, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
	return j, entries
}

func mustClose(t *testing.T, j *Journal) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

func mustAppend(t *testing.T, j *Journal, r ...hooks.Record) {
	t.Helper()
	if err := j.Append(r...); err != nil {
		t.Fatal(err)
	}
	if err := j.Sync(); err != nil {
		t.Fatal(err)
	}
}

func records(entries []Entry) []hooks.Record {
	var out []hooks.Record
	for _, e := range entries {
		out = append(out, e.Record)
	}
	return out
}

// wrote returns the bytes of a journal of the story, dated as the golden file.
func wrote(t *testing.T) []byte {
	t.Helper()
	return wroteAll(t, story())
}

func wroteAll(t *testing.T, rs []hooks.Record) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "journal")
	j, _ := mustOpen(t, path)
	n := 0
	j.boot, j.clock = "6f0d7b52-0000-4000-8000-00000000c0de", func() time.Time {
		n++
		return time.Date(2024, 2, 29, 23, 59, 59, n, time.FixedZone("", 3600))
	}
	for _, r := range rs {
		mustAppend(t, j, r)
	}
	mustClose(t, j)
	return read(t, path)
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func place(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "journal")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWhatIsAppendedIsReadBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "var", "lib", "journal")
	j, entries := mustOpen(t, path)
	if len(entries) != 0 || !j.Recovery().Clean() {
		t.Errorf("a new journal holds %v, %v", entries, j.Recovery())
	}
	before := time.Now()
	mustAppend(t, j, story()[:3]...)
	mustAppend(t, j, story()[3:]...)
	mustClose(t, j)
	j, entries = mustOpen(t, path)
	if diff := cmp.Diff(story(), records(entries)); diff != "" {
		t.Errorf("appended (-) and read (+) differ:\n%s", diff)
	}
	if !j.Recovery().Clean() {
		t.Errorf("recovery: %v", j.Recovery())
	}
	for _, e := range entries {
		if e.At.Before(before.Add(-time.Second)) || e.At.Location() != time.UTC || len(e.Boot) != 36 {
			t.Errorf("dated %v, boot %q", e.At, e.Boot)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	again, err := Read(path)
	if diff := cmp.Diff(entries, again.Entries); diff != "" || err != nil {
		t.Errorf("opened (-) and read beside the owner (+) differ: %v\n%s", err, diff)
	}
}

func TestMemories(t *testing.T) {
	var entries []Entry
	want := map[string]hooks.Memory{}
	for _, r := range story() {
		entries = append(entries, Entry{Record: r})
		want[r.Instance] = want[r.Instance].Fold(r)
	}
	got := Memories(entries)
	if diff := cmp.Diff(want, got, sameMemory); diff != "" {
		t.Error(diff)
	}
	if m := got["compass"]; m.Epoch != 2 || m.ActiveEpoch != 1 || m.Role != hooks.Standby || len(got) != 2 {
		t.Errorf("compass: %+v", m)
	}
}

func TestFormatIsGolden(t *testing.T) {
	got, file := wrote(t), filepath.Join("testdata", "journal-1-numbered")
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(string(read(t, file)), string(got)); diff != "" {
		t.Errorf("%s (-) and this release (+) differ; a change needs another Version:\n%s", file, diff)
	}
	_, entries := mustOpen(t, place(t, read(t, file)))
	if diff := cmp.Diff(story(), records(entries)); diff != "" {
		t.Error(diff)
	}
}

// Journals of before entries had numbers are of the same version, and their entries
// have none.
func TestJournalsWithoutNumbers(t *testing.T) {
	for file, want := range map[string][]hooks.Record{"journal-1": story(), "journal-1-notices": notices()} {
		path := place(t, read(t, filepath.Join("testdata", file)))
		j, entries := mustOpen(t, path)
		if diff := cmp.Diff(want, records(entries)); diff != "" || highestNumber(entries) != 0 {
			t.Errorf("%s: %s", file, diff)
		}
		mustAppend(t, j, story()[0])
		mustClose(t, j)
		c, err := Read(path)
		if last := c.Entries[len(c.Entries)-1]; err != nil || last.Number != 1 || last.Skipped != 0 {
			t.Errorf("%s: the first number is %d after %d: %v", file, last.Number, last.Skipped, err)
		}
	}
}

// Every field of a record is stored, with values that a float64 cannot hold.
func TestEveryFieldIsStored(t *testing.T) {
	var r hooks.Record
	n := uint64(0)
	var fill func(v reflect.Value)
	fill = func(v reflect.Value) {
		n++
		if at, ok := v.Addr().Interface().(*time.Time); ok {
			*at = time.Unix(int64(n), 123456789).UTC()
			return
		}
		switch v.Kind() {
		case reflect.Bool:
			v.SetBool(true)
		case reflect.Uint8:
			v.SetUint(2)
		case reflect.Uint32, reflect.Uint64:
			v.SetUint(1<<(v.Type().Bits()-1) + n)
		case reflect.Int64:
			v.SetInt(1<<62 + int64(n))
		case reflect.String:
			v.SetString(fmt.Sprint("text ", n))
		case reflect.Struct:
			for i := range v.NumField() {
				fill(v.Field(i))
			}
		default:
			t.Fatalf("a %s in Record: teach the journal about it", v.Type())
		}
	}
	fill(reflect.ValueOf(&r).Elem())
	path := filepath.Join(t.TempDir(), "journal")
	j, _ := mustOpen(t, path)
	mustAppend(t, j, r)
	mustClose(t, j)
	_, entries := mustOpen(t, path)
	if diff := cmp.Diff([]hooks.Record{r}, records(entries)); diff != "" {
		t.Errorf("appended (-) and read (+) differ:\n%s", diff)
	}
}

func TestEveryValueHasAName(t *testing.T) {
	for v := range uint8(100) {
		for _, e := range []struct {
			text  string // of the core, `Type(n)` past the last value
			named bool
		}{
			{hooks.RecordKind(v).String(), words.Of(hooks.Began, hooks.RecordKind(v)) != words.UnknownText},
			{hooks.Role(v).String(), words.Of(hooks.Standby, hooks.Role(v)) != words.UnknownText},
			{hooks.Ending(v).String(), words.Of(hooks.Completed, hooks.Ending(v)) != words.UnknownText},
			{hooks.Outcome(v).String(), words.Of(hooks.Pending, hooks.Outcome(v)) != words.UnknownText},
		} {
			if exists := !strings.Contains(e.text, "("); exists && !e.named {
				t.Errorf("%s has no name in the journal", e.text)
			}
		}
	}
}

// A crash can cut the file at any byte.
func TestCutAtEveryByte(t *testing.T) {
	content := wrote(t)
	whole := scan(content).records
	for cut := range len(content) + 1 {
		path := place(t, content[:cut])
		end, n := headerSize, 0
		for n < len(whole) && end+len(whole[n].frame) <= cut {
			end += len(whole[n].frame)
			n++
		}
		if cut < headerSize {
			end = 0
		}
		j, entries := mustOpen(t, path)
		if diff := cmp.Diff(story()[:n], records(entries), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("cut at %d: whole records (-) and read (+) differ:\n%s", cut, diff)
		}
		if r := j.Recovery(); r.Torn.Length != int64(cut-end) || r.Aside != "" || len(r.Damage) > 0 || r.Clean() != (cut == end) {
			t.Fatalf("cut at %d, after %d: %+v", cut, end, r)
		}
		if got := read(t, path); !bytes.Equal(got, content[:end]) {
			t.Fatalf("cut at %d: %d bytes are left, want %d", cut, len(got), end)
		}
		mustAppend(t, j, story()[0])
		mustClose(t, j)
		j, entries = mustOpen(t, path)
		if len(entries) != n+1 || !j.Recovery().Clean() {
			t.Fatalf("cut at %d, then appended: %d entries, %v", cut, len(entries), j.Recovery())
		}
		mustClose(t, j)
	}
}

// A crash can leave zeros, or old bytes, where a write was on its way.
func TestTailOfOtherBytes(t *testing.T) {
	content := wrote(t)
	for name, tail := range map[string][]byte{
		"zeros":             make([]byte, 5000),
		"ones":              bytes.Repeat([]byte{0xff}, 300),
		"a frame of zeros":  append([]byte{0, 0, 0, 16}, make([]byte, 20)...),
		"text":              []byte(strings.Repeat("lorem ipsum ", 50)),
		"half of a journal": content[:len(content)/2-3][headerSize+5 : headerSize+60],
	} {
		path := place(t, append(bytes.Clone(content), tail...))
		j, entries := mustOpen(t, path)
		if len(entries) != len(story()) || j.Recovery().Torn.Length != int64(len(tail)) || j.Recovery().Aside != "" {
			t.Errorf("%s: %d entries, %v", name, len(entries), j.Recovery())
		}
	}
}

// One wrong bit costs one record at most, and the file with it is kept.
func TestEveryBitFlipped(t *testing.T) {
	content := wrote(t)
	whole := scan(content).records
	last := len(content) - len(whole[len(whole)-1].frame)
	for bit := range len(content) * 8 {
		flipped := bytes.Clone(content)
		flipped[bit/8] ^= 1 << (bit % 8)
		c := scan(flipped)
		var want []hooks.Record
		at := headerSize
		for i, r := range whole {
			if bit/8 < at || bit/8 >= at+len(r.frame) {
				want = append(want, story()[i])
			}
			at += len(r.frame)
		}
		entries, unread := c.entries()
		if !slices.Equal(want, records(entries)) || unread != 0 || c.foreign != "" {
			t.Fatalf("bit %d: %d entries, %d unread, %q", bit, len(entries), unread, c.foreign)
		}
		if tail := bit/8 >= last; tail != (len(c.damage) == 0) || tail != (c.torn.Length > 0) {
			t.Fatalf("bit %d: damage %v, torn %v", bit, c.damage, c.torn)
		}
	}
}

func TestDamageInTheMiddleIsSetAside(t *testing.T) {
	content := wrote(t)
	damaged := bytes.Clone(content)
	at := headerSize + len(scan(content).records[0].frame)
	damaged[at+20] ^= 0x10
	path := place(t, damaged)
	for n := range 3 {
		j, entries := mustOpen(t, path)
		want := append(story()[:1:1], story()[2:]...)
		if diff := cmp.Diff(want, records(entries)); diff != "" {
			t.Fatal(diff)
		}
		r := j.Recovery()
		aside := fmt.Sprintf("%s.corrupt-%d", path, n+1)
		if r.Clean() || r.Aside != aside || len(r.Damage) != 1 || r.Damage[0].Offset != int64(at) || r.Err != nil {
			t.Fatalf("recovery: %v", r)
		}
		if !strings.Contains(r.String(), fmt.Sprintf("at offset %d: a record's checksum is wrong", at)) {
			t.Errorf("recovery in words: %v", r)
		}
		if !bytes.Equal(read(t, aside), damaged) {
			t.Error("the file set aside is not the damaged one")
		}
		mustAppend(t, j, story()[0])
		mustClose(t, j)
		j, entries = mustOpen(t, path)
		if len(entries) != len(want)+1 || !j.Recovery().Clean() {
			t.Fatalf("opened again: %d entries, %v", len(entries), j.Recovery())
		}
		mustClose(t, j)
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDamagedFilesKeptAreBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	for range asideLimit + 3 {
		if err := os.WriteFile(path, []byte("this is no journal, whoever wrote it"), 0o600); err != nil {
			t.Fatal(err)
		}
		j, entries := mustOpen(t, path)
		if len(entries) != 0 || j.Recovery().Aside == "" {
			t.Fatalf("%d entries, %v", len(entries), j.Recovery())
		}
		mustClose(t, j)
	}
	names, err := filepath.Glob(path + "*")
	if err != nil || len(names) != asideLimit+1 {
		t.Errorf("%v, %v", names, err)
	}
}

func TestAnotherVersionIsSetAsideUnread(t *testing.T) {
	content := wrote(t)
	h := append([]byte(magic), 0, 2)
	h = binary.BigEndian.AppendUint32(h, crc32.Checksum(h, castagnoli))
	copy(content, h)
	path := place(t, content)
	if _, err := Read(path); err == nil || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("read: %v", err)
	}
	j, entries := mustOpen(t, path)
	if r := j.Recovery(); len(entries) != 0 || !strings.Contains(r.Foreign, "version 2") || r.Aside != path+".corrupt-1" {
		t.Errorf("%d entries, %v", len(entries), r)
	}
	mustAppend(t, j, story()...)
}

func TestNewerRecordsAreKept(t *testing.T) {
	b := header()
	for _, payload := range []string{
		`{"at":"2024-01-01T00:00:00Z","kind":"levitated","instance":"compass","epoch":7,"altitude":3}`,
		`{"at":7}`,
		`{"at":"2024-01-01T00:00:00Z","kind":"began","instance":"compass","epoch":8,"role":"hermit"}`,
	} {
		b = appendFrame(b, []byte(payload))
	}
	path := place(t, b)
	j, entries := mustOpen(t, path)
	if len(entries) != 2 || j.Recovery().Unread != 1 || j.Recovery().Aside != "" {
		t.Errorf("%v, %v", entries, j.Recovery())
	}
	if m := Memories(entries)["compass"]; m.Epoch != 8 || m.Role == hooks.Active || m.ActiveEpoch != 0 {
		t.Errorf("memory %+v", m)
	}
	if !bytes.Equal(read(t, path), b) {
		t.Error("the file changed")
	}
}

func TestASecondOwnerIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, _ := mustOpen(t, path)
	if _, _, err := Open(path); !errors.Is(err, ErrOwned) || !strings.Contains(err.Error(), path) {
		t.Errorf("a second open: %v", err)
	}
	mustAppend(t, j, story()...)
	mustClose(t, j)
	if err := j.Append(story()...); !errors.Is(err, os.ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
	if err := j.Sync(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("sync after close: %v", err)
	}
	_, entries := mustOpen(t, path)
	if len(entries) != len(story()) {
		t.Errorf("%d entries", len(entries))
	}
}

func TestOwnershipOutlastsRotation(t *testing.T) {
	path := place(t, wrote(t))
	j, _, err := open(path, 100)
	if err != nil || j.Recovery().Rotated == "" {
		t.Fatalf("%v, %v", err, j.Recovery())
	}
	if _, _, err := Open(path); !errors.Is(err, ErrOwned) {
		t.Errorf("a second open after a rotation: %v", err)
	}
	mustClose(t, j)
}

// Whoever opened the file just before a rotation does not own what is there now.
func TestTheLockOfAReplacedFileIsWorthNothing(t *testing.T) {
	path := place(t, wrote(t))
	early, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	j, _, err := open(path, 100)
	if err != nil {
		t.Fatal(err)
	}
	if current, err := own(early, path); current || err != nil {
		t.Errorf("the rotated file counts as the journal: %v, %v", current, err)
	}
	mustClose(t, j)
}

func TestAFileThatIsNone(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, fifo, filepath.Join(fifo, "journal")} {
		if _, _, err := Open(path); err == nil {
			t.Errorf("%s was opened as a journal", path)
		}
	}
}

func TestASymbolicLinkIsFollowedAndKept(t *testing.T) {
	for _, exists := range []bool{true, false} {
		dir := t.TempDir()
		link, target := filepath.Join(dir, "journal"), filepath.Join(dir, "big", "disk", "real")
		if err := os.Symlink(filepath.Join("big", "disk", "real"), link); err != nil {
			t.Fatal(err)
		}
		if exists {
			if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(target, wrote(t), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		j, _, err := open(link, 100)
		if err != nil {
			t.Fatal(err)
		}
		if j.Path() != target || exists != (j.Recovery().Rotated == target+".1") {
			t.Errorf("path %s, %v", j.Path(), j.Recovery())
		}
		mustAppend(t, j, story()[0])
		if _, _, err := Open(target); !errors.Is(err, ErrOwned) {
			t.Errorf("the target beside the link: %v", err)
		}
		mustClose(t, j)
		if got, err := os.Readlink(link); err != nil || got != filepath.Join("big", "disk", "real") {
			t.Errorf("the link leads to %s, %v", got, err)
		}
	}
	loop := filepath.Join(t.TempDir(), "loop")
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(loop); err == nil {
		t.Error("a link to itself was opened")
	}
}

func TestARecordThatCannotBeStored(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, _ := mustOpen(t, path)
	mustAppend(t, j, story()[0])
	for name, r := range map[string]hooks.Record{
		"too long": {Kind: hooks.Override, Instance: "compass", Reason: strings.Repeat("x", MaxRecord)},
		"no kind":  {Instance: "compass"},
	} {
		if err := j.Append(story()[1], r); err == nil || len(err.Error()) > 300 {
			t.Errorf("%s: %v", name, err)
		}
	}
	mustAppend(t, j, story()[2])
	mustClose(t, j)
	_, entries := mustOpen(t, path)
	if diff := cmp.Diff([]hooks.Record{story()[0], story()[2]}, records(entries)); diff != "" {
		t.Error(diff)
	}
}
