// Package recall keeps what a node knows of its databases beyond what their servers
// say, over a restart: one small file for all instances, replaced whole.
package recall

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/replication"
)

// maxSize bounds the file: some 20,000 databases, and more than any host has.
const maxSize = 8 << 20

// File is the file and what it is to hold. Its methods may be called concurrently,
// but for Flush.
type File struct {
	path string

	mu        sync.Mutex // guards instances
	instances map[string][]failover.Remembered
}

type content struct {
	Instances map[string][]entry `json:"instances"`
}

type entry struct {
	Database string `json:"database"`
	Heard    string `json:"heard,omitempty"`
	Received string `json:"received,omitempty"`

	Promoted string  `json:"promoted,omitempty"`
	Beats    *uint64 `json:"beats,omitempty"` // absent: not known
}

// Open reads the file at path; one that is not there holds nothing. A file that
// cannot be read gives an error and a File that begins anew: without what it held a
// promotion is refused more often, never less.
func Open(path string) (*File, error) {
	f := &File{path: path, instances: map[string][]failover.Remembered{}}
	if err := f.read(); err != nil {
		return f, fmt.Errorf("read %s: %w", path, err)
	}
	return f, nil
}

func (f *File) read() error {
	file, err := os.Open(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	if err != nil {
		return err
	}
	if len(b) > maxSize {
		return fmt.Errorf("longer than %d bytes", maxSize)
	}
	var c content
	if err := json.Unmarshal(b, &c); err != nil {
		return err
	}
	for instance, entries := range c.Instances {
		for _, e := range entries {
			r, err := e.remembered()
			if err != nil {
				return fmt.Errorf("instance %s, database %s: %w", instance, e.Database, err)
			}
			f.instances[instance] = append(f.instances[instance], r)
		}
	}
	return nil
}

func (e entry) remembered() (failover.Remembered, error) {
	heard, err := replication.ParsePosition(e.Heard)
	if err != nil {
		return failover.Remembered{}, err
	}
	received, err := replication.ParsePosition(e.Received)
	if err != nil {
		return failover.Remembered{}, err
	}
	promoted, err := replication.ParsePosition(e.Promoted)
	r := failover.Remembered{Database: e.Database, Heard: heard, Received: received, Promoted: promoted}
	if e.Beats != nil {
		r.Beats, r.BeatsKnown = *e.Beats, true
	}
	return r, err
}

// Recall returns what is kept of an instance.
func (f *File) Recall(instance string) []failover.Remembered {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.instances[instance])
}

// Set replaces what is kept of an instance; Flush makes it durable.
func (f *File) Set(instance string, rs []failover.Remembered) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(rs) == 0 {
		delete(f.instances, instance)
		return
	}
	f.instances[instance] = slices.Clone(rs)
}

// Flush makes what was set durable. After an error the file holds what it held
// before, or all of it.
func (f *File) Flush() error {
	if err := f.write(); err != nil {
		return fmt.Errorf("write %s: %w", f.path, err)
	}
	return nil
}

func (f *File) write() error {
	b, err := f.content()
	if err != nil {
		return err
	}
	temporary := f.path + ".new"
	if err := writeDurably(temporary, append(b, '\n')); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	if err := os.Rename(temporary, f.path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(f.path))
}

func (f *File) content() ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := content{Instances: map[string][]entry{}}
	for instance, rs := range f.instances {
		entries := make([]entry, 0, len(rs))
		for _, r := range rs {
			e := entry{Database: r.Database, Heard: r.Heard.String(), Received: r.Received.String(), Promoted: r.Promoted.String()}
			if r.BeatsKnown {
				e.Beats = &r.Beats
			}
			entries = append(entries, e)
		}
		slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.Database, b.Database) })
		c.Instances[instance] = entries
	}
	return json.Marshal(c)
}

func writeDurably(path string, b []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(b)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
