package journal

// A file that is damaged or too long is replaced in one rename, by one that was
// complete and durable before. At every instant the path leads to a journal.

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"

	"github.com/tanist-ha/tanist/hooks"
)

// asideLimit is how many damaged files are kept; the last makes room.
const asideLimit = 16

// rotatedSuffix ends the name of the file that was in the path's place before.
const rotatedSuffix = ".1"

// setAside puts every whole record into a new file and keeps the old one beside
// it, as path.corrupt-1 and so on.
func (j *Journal) setAside(old *os.File, records []record) ([]byte, *os.File, error) {
	name := ""
	for n := 1; n <= asideLimit; n++ {
		name = fmt.Sprintf("%s.corrupt-%d", j.path, n)
		if _, err := os.Lstat(name); errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	whole, f, err := j.replace(old, name, records)
	if err == nil {
		j.recovery.Aside = name
	}
	return whole, f, err
}

// rotate keeps the old file as path.1 and begins a new one with what Memories
// needs, and the most recent history.
func (j *Journal) rotate(old *os.File, records []record, limit int64) ([]byte, *os.File, error) {
	name := j.path + rotatedSuffix
	whole, f, err := j.replace(old, name, compact(records, limit/4))
	if err == nil {
		j.recovery.Rotated = name
	}
	return whole, f, err
}

// replace makes a new file of records, links the old one to name and puts the new
// one in its place. It returns what the new file holds; after an error, the old
// file, still in its place and owned.
func (j *Journal) replace(old *os.File, name string, records []record) ([]byte, *os.File, error) {
	whole := []byte{}
	if len(records) > 0 {
		whole = header()
	}
	for _, r := range records {
		whole = append(whole, r.frame...)
	}
	temporary := j.path + ".new"
	f, err := create(temporary, whole)
	if err != nil {
		return nil, old, err
	}
	if err := j.exchange(f, name); err != nil {
		_ = os.Remove(temporary) // the next replace does, if this one cannot
		return nil, old, errors.Join(err, f.Close())
	}
	// Whoever waits for the old file finds it replaced. It was only read.
	_ = old.Close()
	return whole, f, nil
}

// create makes a file that is locked and durable.
func create(path string, data []byte) (*os.File, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err = f.Write(data); err == nil {
		err = errors.Join(lock(f), f.Sync())
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	return f, nil
}

// exchange puts the new file in the place of the one at the path, which stays
// under name. After an undurableError it is done all the same.
func (j *Journal) exchange(f *os.File, name string) error {
	link := j.path + ".old"
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Link(j.path, link); err != nil {
		return err
	}
	if err := os.Rename(link, name); err != nil {
		return errors.Join(err, os.Remove(link))
	}
	dir := filepath.Dir(j.path)
	if err := syncDir(dir); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), j.path); err != nil {
		return err
	}
	if err := syncDir(dir); err != nil {
		return &undurableError{err}
	}
	return nil
}

// undurableError is a rename that is done and may not outlast a crash.
type undurableError struct{ error }

func (e *undurableError) Unwrap() error { return e.error }

// compact returns the records to go on with: the last ones, of room bytes at
// most, and before them the few without which some instance's Memory would be
// another. What those are it asks Fold, by leaving out whatever changes nothing.
func compact(records []record, room int64) []record {
	last := len(records)
	for last > 0 && room >= int64(len(records[last-1].frame)) {
		last--
		room -= int64(len(records[last].frame))
	}
	byInstance := map[string][]int{}
	for i, r := range records[:last] {
		if r.entry != nil {
			byInstance[r.entry.Record.Instance] = append(byInstance[r.entry.Record.Instance], i)
		}
	}
	after := map[string][]hooks.Record{}
	for _, r := range records[last:] {
		if r.entry != nil {
			after[r.entry.Record.Instance] = append(after[r.entry.Record.Instance], r.entry.Record)
		}
	}
	var keep []int
	for instance, indices := range byInstance {
		memory := func(indices []int) (m hooks.Memory) {
			for _, i := range indices {
				m = m.Fold(records[i].entry.Record)
			}
			for _, r := range after[instance] {
				m = m.Fold(r)
			}
			return m
		}
		want := memory(indices)
		keep = append(keep, reduce(indices, func(some []int) bool {
			return len(some)+len(after[instance]) > 0 && reflect.DeepEqual(memory(some), want)
		})...)
	}
	slices.SortFunc(keep, cmp.Compare[int])
	var out []record
	for _, i := range keep {
		out = append(out, records[i])
	}
	return append(out, records[last:]...)
}

// reduce leaves out of in, in ever smaller pieces, what enough does not miss.
func reduce(in []int, enough func([]int) bool) []int {
	for size := len(in); size > 0; size /= 2 {
		for at := 0; at < len(in); {
			some := slices.Concat(in[:at], in[min(at+size, len(in)):])
			if enough(some) {
				in = some
			} else {
				at += size
			}
		}
	}
	return in
}
