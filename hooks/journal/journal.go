package journal

// A Journal knows up to where its file is whole, and holds what was written since
// the last successful Sync. So it can always go back to a state that it knows:
// cut what a failed write left, write again what a failed fsync may have lost.

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"time"

	"github.com/tanist-ha/tanist/hooks"
)

// maxUnsynced bounds what is held for a second attempt, in bytes. An Append
// beyond it syncs first.
const maxUnsynced = 256 << 10

// Journal is the open file. One goroutine uses it at a time.
type Journal struct {
	path     string
	file     disk
	boot     string
	clock    func() time.Time
	recovery Recovery

	end      int64  // of the last whole record; 0: there is no header yet
	sum      uint32 // CRC32C of everything before end
	unsynced []byte // the bytes before end that no Sync has confirmed
	cut      bool   // a failed write may have left something after end
	suspect  bool   // a Sync failed: what the disk has of unsynced is not known

	next    uint64        // the number of the next entry
	skipped uint64        // how many before it no entry has
	told    func([]Entry) // takes what was appended
	untold  []Entry       // what it was not given yet
	// anchored says that a number of this start, or of one after which nothing was left
	// out, is on the disk.
	anchored bool

	memories  map[string]hooks.Memory // of what is before end
	owed      []record                // to be written before anything else
	limit     int64                   // length beyond which it is rotated
	rotateAt  int64                   // and tried again, after that failed
	room      int64                   // up to where there is room for certain
	undecided bool                    // which file a crash would leave at path is not known
}

// disk is the file, as far as a Journal uses it.
type disk interface {
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	Truncate(size int64) error
	// Sync returns when what was written is on the disk.
	Sync() error
	// Forget drops what the page cache has of the file, so that the next ReadAt
	// reads the disk.
	Forget() error
	// Reserve makes certain that the disk has room for a stretch of the file.
	Reserve(from, length int64) error
	Stat() (os.FileInfo, error)
	Close() error
}

// Path returns the file's path, symbolic links resolved.
func (j *Journal) Path() string { return j.path }

// Recovery returns what Open found and did.
func (j *Journal) Recovery() Recovery { return j.recovery }

// Append writes records with the present date and does not wait for the disk.
// After an error none of them is in the file, and the next Append begins where
// this one did: on a full disk, once there is room again. What is owed goes first,
// with a date of its own.
func (j *Journal) Append(records ...hooks.Record) error {
	if err := j.append(records); err != nil {
		return fmt.Errorf("append to journal %s: %w", j.path, err)
	}
	return nil
}

func (j *Journal) append(records []hooks.Record) error {
	if j.file == nil {
		return os.ErrClosed
	}
	all, err := j.frames(records)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return nil
	}
	b := bytesOf(all)
	if j.end == 0 {
		b = append(header(), b...)
	}
	if err := j.trim(); err != nil {
		return err
	}
	if j.suspect || len(j.unsynced)+len(b) > maxUnsynced {
		if err := j.sync(); err != nil {
			return err
		}
	}
	if _, err := j.file.WriteAt(b, j.end); err != nil {
		j.cut = true
		return errors.Join(err, j.trim())
	}
	j.end += int64(len(b))
	j.sum = crc32.Update(j.sum, castagnoli, b)
	j.unsynced = append(j.unsynced, b...)
	j.owed = nil
	for _, r := range all {
		j.remember(r)
	}
	j.numbered(all)
	return nil
}

// frames dates records, puts what is owed before them, and returns all as they are
// to be written.
func (j *Journal) frames(records []hooks.Record) (all []record, err error) {
	entries := make([]Entry, 0, len(j.owed)+len(records))
	for _, r := range j.owed {
		entries = append(entries, *r.entry)
	}
	at := j.clock()
	for _, r := range records {
		entries = append(entries, Entry{At: at, Boot: j.boot, Record: r})
	}
	j.number(entries)
	for i := range entries {
		e := &entries[i]
		payload, err := marshal(*e)
		if err != nil {
			return nil, fmt.Errorf("%s of %s: %w", e.Record.Kind, e.Record.Instance, err)
		}
		all = append(all, record{frame: appendFrame(nil, payload), entry: e})
	}
	return all, nil
}

func (j *Journal) remember(r record) {
	if r.entry != nil {
		i := r.entry.Record.Instance
		j.memories[i] = j.memories[i].Fold(r.entry.Record)
	}
}

// begin goes on from what a file holds, all of which is durable.
func (j *Journal) begin(whole []byte) {
	j.end, j.sum = int64(len(whole)), crc32.Checksum(whole, castagnoli)
	j.unsynced, j.room, j.cut = nil, 0, false
}

// Sync returns nil when everything appended is on the disk. After an error the
// state of what was appended since the last Sync is not known; the next Append or
// Sync writes it again and reads the whole file back from the disk, and fails as
// long as that does.
func (j *Journal) Sync() error {
	if j.file == nil {
		return fmt.Errorf("sync journal %s: %w", j.path, os.ErrClosed)
	}
	if err := j.sync(); err != nil {
		return fmt.Errorf("sync journal %s: %w", j.path, err)
	}
	return nil
}

func (j *Journal) sync() error {
	if err := j.inPlace(); err != nil {
		return err
	}
	if err := j.settle(); err != nil {
		return err
	}
	if j.suspect {
		return j.rewrite()
	}
	if len(j.unsynced) == 0 {
		return nil
	}
	if err := j.file.Sync(); err != nil {
		j.suspect = true
		return err
	}
	j.unsynced = j.unsynced[:0]
	j.anchor()
	return nil
}

// Close syncs and closes the file, which gives up its ownership. Later calls fail
// with os.ErrClosed.
func (j *Journal) Close() error {
	err := j.Append() // what is owed
	err = errors.Join(err, j.Sync())
	if j.file == nil {
		return err
	}
	if e := j.file.Close(); e != nil {
		err = errors.Join(err, fmt.Errorf("close journal %s: %w", j.path, e))
	}
	j.file = nil
	return err
}

// rewrite brings the file back to a state that is known after a failed sync.
func (j *Journal) rewrite() error {
	// A failed fsync marks its pages clean, so a second fsync alone would
	// succeed without writing them.
	if _, err := j.file.WriteAt(j.unsynced, j.end-int64(len(j.unsynced))); err != nil {
		return fmt.Errorf("write again after a failed sync: %w", err)
	}
	if err := j.file.Sync(); err != nil {
		return err
	}
	if err := j.verify(); err != nil {
		return err
	}
	j.suspect, j.unsynced = false, j.unsynced[:0]
	j.anchor()
	return nil
}

// trim cuts what a failed write left.
func (j *Journal) trim() error {
	if !j.cut {
		return nil
	}
	j.room = 0 // it is cut as well
	if err := j.file.Truncate(j.end); err != nil {
		return fmt.Errorf("cut an incomplete record: %w", err)
	}
	j.cut = false
	return nil
}

// verify reads the file back from the disk.
func (j *Journal) verify() error {
	if err := j.file.Forget(); err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	data := make([]byte, j.end)
	if _, err := j.file.ReadAt(data, 0); err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	if crc32.Checksum(data, castagnoli) != j.sum {
		return fmt.Errorf("read back: the first %d bytes are not what was written", j.end)
	}
	return nil
}
