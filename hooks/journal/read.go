package journal

// Reading needs no daemon and disturbs none: it takes no lock and changes nothing.
// What a daemon is just writing looks like a torn tail, and is left out.

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Contents is what a journal and the file that was rotated out of it hold.
type Contents struct {
	Entries []Entry  // in the order in which they were appended
	Damage  []string // what could not be read, each with its file
	Torn    bool     // the last record is incomplete: a crash, or one that is being written
	Unread  int      // whole records that this release cannot read
	// Open says that a daemon has the journal open, as far as the kernel tells.
	Open bool
	Boot string // of the kernel that runs now, as in Entry
}

// Read returns the entries of a journal that another process may have open, and
// changes nothing. Damage is no error; it fails where the file is not there, may
// not be read, or has another version.
func Read(path string) (Contents, error) {
	for range openTries {
		c, moved, err := readBoth(path)
		if err != nil {
			return Contents{}, fmt.Errorf("read journal: %w", err)
		}
		if !moved {
			return c, nil
		}
	}
	return Contents{}, fmt.Errorf("read journal %s: it was rotated %d times meanwhile", path, openTries)
}

// readBoth reports moved when the file was replaced while it read: then the
// rotated one may not be that which came before.
func readBoth(path string) (c Contents, moved bool, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // the open of a FIFO would wait for somebody
	if err != nil {
		return c, false, err
	}
	defer f.Close()
	at, err := f.Stat()
	switch {
	case err != nil:
		return c, false, err
	case !at.Mode().IsRegular():
		return c, false, fmt.Errorf("%s is not a regular file", path)
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return c, false, err
	}
	rotated, err := os.ReadFile(path + rotatedSuffix)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		c.Damage = append(c.Damage, err.Error()) // the younger file is the one that counts
	}
	there, err := os.Stat(path)
	if err != nil || !os.SameFile(at, there) {
		return c, err == nil || errors.Is(err, os.ErrNotExist), err
	}
	now := scan(data)
	if now.foreign != "" {
		return c, false, fmt.Errorf("%s: %s", path, now.foreign)
	}
	old := scan(rotated)
	c.add(path+rotatedSuffix, old)
	c.add(path, withoutCopies(now, old))
	c.Torn = now.torn.Length > 0
	c.Open, c.Boot = locked(at), bootID()
	return c, false, nil
}

func (c *Contents) add(path string, from content) {
	entries, unread := from.entries()
	c.Entries = append(c.Entries, entries...)
	c.Unread += unread
	for _, d := range from.damage {
		c.Damage = append(c.Damage, path+": "+d.String())
	}
	if from.foreign != "" {
		c.Damage = append(c.Damage, path+": "+from.foreign)
	}
}

// withoutCopies leaves out what a rotation took along from the old file.
func withoutCopies(now, old content) content {
	copied := map[string]bool{}
	for _, r := range old.records {
		copied[string(r.frame)] = true
	}
	kept := now.records[:0:0]
	for _, r := range now.records {
		if !copied[string(r.frame)] {
			kept = append(kept, r)
		}
	}
	now.records = kept
	return now
}

// locked reports whether a process has the lock of a file, without trying it: that
// would be in the way of a daemon that is starting. The device is not compared:
// some file systems show another one there.
func locked(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	f, err := os.Open("/proc/locks")
	if err != nil {
		return false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// 1: FLOCK  ADVISORY  WRITE 4711 fe:00:131077 0 EOF
		fields := strings.Fields(lines.Text())
		if len(fields) > 5 && fields[1] == "FLOCK" && strings.HasSuffix(fields[5], ":"+strconv.FormatUint(st.Ino, 10)) {
			return true
		}
	}
	return false
}
