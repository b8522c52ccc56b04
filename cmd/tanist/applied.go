package main

// The daemon leaves word of what it works with, for a release after a daemon that
// cannot read its configuration any more: the addresses would go with their lease,
// but nobody would know which databases to close.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/tanist-ha/tanist/internal/config"
)

// appliedName is the file in the state directory.
const appliedName = "applied"

// applied is its content.
type applied struct {
	At            time.Time `json:"at"`
	Node          string    `json:"node"`
	Name          string    `json:"name"`          // of the configuration file
	Configuration string    `json:"configuration"` // its essentials, see config.File
}

// keepApplied replaces the file, which is readable by its owner alone: after an
// error there is the one before.
func keepApplied(dir string, file *config.File, self int) error {
	text, err := file.Essentials()
	if err != nil {
		return err
	}
	b, err := json.Marshal(applied{time.Now().UTC(), file.Nodes[self].Label, file.Name, string(text)})
	if err != nil {
		return err
	}
	if err := replaceFile(filepath.Join(dir, appliedName), append(b, '\n')); err != nil {
		return fmt.Errorf("keep what `tanist release` needs: %w", err)
	}
	return nil
}

// keepApplied keeps what the daemon works with now.
func (d *daemon) keepApplied() {
	d.mu.Lock()
	file := d.file
	d.mu.Unlock()
	if err := keepApplied(d.common.stateDir, file, d.self); err != nil {
		d.log.Trouble("", "leave word for a release", err)
	}
}

func replaceFile(path string, content []byte) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// lastApplied reads what the last daemon worked with.
func lastApplied(dir string) (a applied, file *config.File, self int, err error) {
	f, err := os.Open(filepath.Join(dir, appliedName))
	if err != nil {
		return a, nil, 0, err
	}
	defer f.Close()
	const most = 8 * config.MaxSize // escapes in the text
	b, err := io.ReadAll(io.LimitReader(f, most))
	if err == nil {
		err = json.Unmarshal(b, &a)
	}
	if err != nil {
		return a, nil, 0, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	if file, err = config.Parse(f.Name(), []byte(a.Configuration)); err != nil {
		return a, nil, 0, err
	}
	self, _, err = file.Node(a.Node, "")
	return a, file, self, err
}
