package journal

// Opening never gives up for what is in the file: a failover daemon has to start.
// It keeps every whole record, and the damaged file for whoever wants to look.

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/hooks"
)

// DefaultLimit is the size in bytes beyond which Open rotates the file.
const DefaultLimit = 4 << 20

// ErrOwned is wrapped when another process has the journal open.
var ErrOwned = errors.New("another process has it open")

// Recovery is what Open found beside whole records, and what it did about it.
type Recovery struct {
	Torn    Damage   // cut off the end: a write that a crash interrupted
	Damage  []Damage // in the middle; every whole record around it was kept
	Foreign string   // why nothing of the file was read: another version
	Unread  int      // whole records that this release cannot read
	Aside   string   // where the file with Damage, or Foreign, was put
	Rotated string   // where the file was put for its size
	Err     error    // why the file stayed in its place instead
}

// Clean reports whether there is nothing to tell an operator.
func (r Recovery) Clean() bool {
	return r.Torn.Length == 0 && len(r.Damage) == 0 && r.Foreign == "" && r.Unread == 0 && r.Err == nil
}

func (r Recovery) String() string {
	var s []string
	if r.Foreign != "" {
		s = append(s, "not read: "+r.Foreign)
	}
	for _, d := range r.Damage {
		s = append(s, "damaged: "+d.String())
	}
	if r.Torn.Length > 0 {
		s = append(s, "cut off the end: "+r.Torn.String())
	}
	if r.Unread > 0 {
		s = append(s, fmt.Sprintf("%d records of a newer release", r.Unread))
	}
	if r.Aside != "" {
		s = append(s, "kept as "+r.Aside)
	}
	if r.Rotated != "" {
		s = append(s, "rotated to "+r.Rotated)
	}
	if r.Err != nil {
		s = append(s, "left in its place: "+r.Err.Error())
	}
	return strings.Join(s, "; ")
}

// Open opens the journal, or makes it with the directories above it, and returns
// its entries in the order in which they were appended. It fails when another
// process has the journal open (ErrOwned) and when the file system does not let
// it be read or written; damage in the file is no error, see Recovery.
func Open(path string) (*Journal, []Entry, error) { return open(path, DefaultLimit) }

func open(path string, limit int64) (*Journal, []Entry, error) {
	path, err := resolve(path)
	if err != nil {
		return nil, nil, fmt.Errorf("open journal %s: %w", path, err)
	}
	f, err := openOwned(path)
	if err != nil {
		return nil, nil, fmt.Errorf("open journal %s: %w", path, err)
	}
	j := &Journal{path: path, boot: bootID(), clock: time.Now, limit: limit, memories: map[string]hooks.Memory{}}
	entries, f, err := j.load(f)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open journal %s: %w", path, err), f.Close())
	}
	j.file = file{f}
	return j, entries, nil
}

// load reads f and puts in order what is wrong with it. It returns the file to go
// on with, which may be another.
func (j *Journal) load(f *os.File) ([]Entry, *os.File, error) {
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, f, err
	}
	c := scan(data)
	entries, unread := c.entries()
	j.recovery = Recovery{Torn: c.torn, Damage: c.damage, Foreign: c.foreign, Unread: unread}
	var next newFile
	switch {
	case c.foreign != "" || len(c.damage) > 0:
		next, err = j.setAside(c.records)
	case c.end > j.limit:
		if next, err = j.rotate(c.records); err == nil {
			j.recovery.Rotated = j.path + rotatedSuffix
		}
	}
	var undecided *undurableError
	if errors.As(err, &undecided) {
		// It is not known which file a crash would leave here.
		return nil, f, errors.Join(err, next.Close())
	}
	if err != nil && c.end == 0 {
		return nil, f, err // nothing in this one says that it may be changed
	}
	j.recovery.Err = err
	whole := next.whole
	if next.File != nil {
		// Whoever waits for the old file finds it replaced. It was only read.
		_ = f.Close()
		f = next.File
	} else {
		whole = data[:c.end]
		if int64(len(data)) > c.end {
			if err := f.Truncate(c.end); err != nil {
				return nil, f, err
			}
		}
	}
	j.begin(whole)
	for _, r := range c.records {
		j.remember(r)
	}
	j.numberFrom(entries)
	if err != nil && c.end > j.limit {
		j.rotateAt = c.end + j.limit/8
	}
	// What was read may still be on its way to the disk, from before a crash.
	if err := (file{f}).Sync(); err != nil {
		return nil, f, err
	}
	return entries, f, nil
}

const linkLimit = 40 // symbolic links followed, as the kernel does

// resolve follows symbolic links to where the file is, or is to be, so that a
// rename replaces the file and not the link. Missing directories are made.
func resolve(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	for range linkLimit {
		if err := makeDir(filepath.Dir(path)); err != nil {
			return "", err
		}
		dir, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			return "", err
		}
		path = filepath.Join(dir, filepath.Base(path))
		target, err := os.Readlink(path)
		switch {
		case errors.Is(err, unix.EINVAL), errors.Is(err, os.ErrNotExist):
			return path, nil
		case err != nil:
			return "", err
		case filepath.IsAbs(target):
			path = target
		default:
			path = filepath.Join(dir, target)
		}
	}
	return "", fmt.Errorf("more than %d symbolic links", linkLimit)
}

// makeDir makes a directory and those above it, durably.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil || !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := makeDir(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// openTries bounds how often the file may be replaced while it is being opened.
const openTries = 5

// openOwned opens or makes the file and takes its lock.
func openOwned(path string) (*os.File, error) {
	for range openTries {
		// O_NONBLOCK: the open of a FIFO would wait for somebody.
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
		if err != nil {
			return nil, err
		}
		current, err := own(f, path)
		switch {
		case err != nil:
			return nil, errors.Join(err, f.Close())
		case current:
			return f, nil
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("the file was replaced %d times: %w", openTries, ErrOwned)
}

// own locks f and reports whether it is still the file of that path: the owner
// before may have rotated it.
func own(f *os.File, path string) (current bool, err error) {
	opened, err := f.Stat()
	switch {
	case err != nil:
		return false, err
	case !opened.Mode().IsRegular():
		return false, fmt.Errorf("%s is not a regular file", path)
	}
	if err := lock(f); err != nil {
		return false, err
	}
	there, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil || !os.SameFile(opened, there) {
		return false, err
	}
	return true, syncDir(filepath.Dir(path))
}

func lock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrOwned
	}
	return os.NewSyscallError("flock", err)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// bootID names this boot of the kernel. An entry without it is still an entry.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// file is the disk of a real journal.
type file struct{ *os.File }

// Sync waits for the data and for what is needed to read it again.
func (f file) Sync() error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

func (f file) Forget() error {
	return os.NewSyscallError("fadvise", unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
}
