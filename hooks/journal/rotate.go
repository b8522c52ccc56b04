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

// newFile is a file that took the place of another, and what it holds. It is locked
// and durable.
type newFile struct {
	*os.File
	whole []byte
}

// setAside puts every whole record into a new file and keeps the old one beside
// it, as path.corrupt-1 and so on.
func (j *Journal) setAside(records []record) (newFile, error) {
	name := ""
	for n := 1; n <= asideLimit; n++ {
		name = fmt.Sprintf("%s.corrupt-%d", j.path, n)
		if _, err := os.Lstat(name); errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	f, err := j.replace(name, records)
	if err == nil {
		j.recovery.Aside = name
	}
	return f, err
}

// rotate keeps the old file as path.1 and begins a new one with what Memories
// needs, and the most recent history.
func (j *Journal) rotate(records []record) (newFile, error) {
	return j.replace(j.path+rotatedSuffix, compact(records, j.limit/4, nil))
}

// replace makes a new file of records, links the old one to name and puts the new
// one in its place. After an undurableError that is done; after any other the old
// one is still in its place.
func (j *Journal) replace(name string, records []record) (newFile, error) {
	whole := []byte{}
	if len(records) > 0 {
		whole = append(header(), bytesOf(records)...)
	}
	temporary := j.path + ".new"
	f, err := create(temporary, whole)
	if err != nil {
		return newFile{}, err
	}
	err = j.exchange(f, name)
	var undecided *undurableError
	if err != nil && !errors.As(err, &undecided) {
		_ = os.Remove(temporary) // the next replace does, if this one cannot
		return newFile{}, errors.Join(err, f.Close())
	}
	return newFile{f, whole}, err
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
// base is what the entries before the records say.
func compact(records []record, room int64, base map[string]hooks.Memory) []record {
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
		memory := func(indices []int) hooks.Memory {
			m := base[instance]
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
