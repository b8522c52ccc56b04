package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/hooks/journal"
	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/internal/control"
)

// stateRoom is how much room the state directory should have, in bytes: a journal,
// the one rotated out of it, and time to notice.
const stateRoom = 16 << 20

// stateDir wants a directory in which a promotion could be journaled.
func (h *hostCheck) stateDir(ctx context.Context, c *common) {
	problem := func(hint, format string, args ...any) {
		h.problems = append(h.problems, config.Problem{File: c.stateDir, Message: fmt.Sprintf(format, args...), Hint: hint})
	}
	dir, st, err := mounted(c.stateDir)
	switch {
	case err != nil:
		problem("make it, or name another with --state-dir", "the state directory cannot be looked at: %v", err)
		return
	case st.Flags&unix.ST_RDONLY != 0:
		problem("mount it for writing: without a journal no promotion begins", "%s is on a file system that is read-only", dir)
	case st.Bfree < uint64(stateRoom/max(st.Bsize, 1)):
		problem("make room: without a journal no promotion begins", "%s has %d KiB free, less than %d", dir, st.Bfree*uint64(max(st.Bsize, 0))>>10, stateRoom>>10)
	}
	path := filepath.Join(c.stateDir, "journal")
	contents, err := journal.Read(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		problem("run this as root; a journal of another release is put aside at the next start", "%v", err)
	case len(contents.Damage) > 0:
		h.notices = append(h.notices, config.Problem{File: path, Message: "not readable: " + contents.Damage[0], Hint: "the next start of the daemon keeps the rest"})
	}
	ctx, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	if doc, err := control.Dial(c.socket).Status(ctx); err == nil && doc.Journal != nil && !doc.Journal.Writable {
		problem("the daemon goes on by itself when it can be written", "the running daemon cannot write its journal: %s", doc.Journal.Error)
	}
}

// mounted returns the file system of a directory, or of the nearest one above it that
// there is: systemd makes the directory when the service starts.
func mounted(dir string) (string, unix.Statfs_t, error) {
	var st unix.Statfs_t
	dir, err := filepath.Abs(dir)
	if err != nil {
		return dir, st, err
	}
	for {
		err := unix.Statfs(dir, &st)
		if !errors.Is(err, unix.ENOENT) || dir == filepath.Dir(dir) {
			return dir, st, err
		}
		dir = filepath.Dir(dir)
	}
}
