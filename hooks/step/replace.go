package step

// Somebody else's file is replaced at once: complete, durable, with the owner, mode
// and attributes it had, and only if it is still the file that was read. The new file
// changes places with the old one, so that what came out can be looked at: if another
// program wrote it in the meantime, it goes back.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// FileLimit is the largest file a step edits, in bytes.
const FileLimit = 16 << 20

const (
	replaceTries = 25                    // each one lost to a writer that came in between
	longestPause = 64 * time.Millisecond // between two of them
	lockPoll     = 20 * time.Millisecond // between two attempts at somebody else's lock
	lockPatience = 5 * time.Second       // a lock held for longer is a refusal
)

// current is a file as it was read.
type current struct {
	path, real string // as asked for, and without symbolic links
	f          *os.File
	st         unix.Stat_t
	data       []byte
}

func open(path string) (*current, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	// Without O_NONBLOCK the open of a FIFO would wait for a writer.
	f, err := os.OpenFile(real, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	c := &current{path: path, real: real, f: f}
	if err := c.read(); err != nil {
		f.Close()
		return nil, err
	}
	return c, nil
}

// read reads from the beginning.
func (c *current) read() error {
	if err := unix.Fstat(int(c.f.Fd()), &c.st); err != nil {
		return fmt.Errorf("stat %s: %w", c.real, err)
	}
	if c.st.Mode&unix.S_IFMT != unix.S_IFREG {
		return refuse(ReasonNotRegular, 0, "")
	}
	data, err := io.ReadAll(io.NewSectionReader(c.f, 0, FileLimit+1))
	if err != nil {
		return err
	}
	if len(data) > FileLimit {
		return refuse(ReasonTooLarge, 0, "more than %d bytes", FileLimit)
	}
	c.data = data
	return nil
}

func (c *current) close() { c.f.Close() }

// sameAs reports whether nobody wrote, replaced or reowned the file between two reads.
// Its ctime is left out: changing its name, as a replacement does, changes that.
func (c *current) sameAs(b *current) bool {
	return c.real == b.real && c.st.Dev == b.st.Dev && c.st.Ino == b.st.Ino && c.st.Mtim == b.st.Mtim &&
		c.st.Uid == b.st.Uid && c.st.Gid == b.st.Gid && c.st.Mode == b.st.Mode && bytes.Equal(c.data, b.data)
}

// lock takes the advisory lock that writers who care about others take too, and reads
// again what they left.
func (c *current) lock(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, lockPatience, refuse(ReasonLocked, 0, ""))
	defer cancel()
	for {
		switch err := flock(c.f); {
		case err == nil:
			return c.read()
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("lock %s: %w", c.real, err)
		}
		if err := pause(ctx, lockPoll); err != nil {
			return err
		}
	}
}

// flock locks a file where it can be locked. That of NFS cannot through a descriptor
// for reading, and says EBADF; one for writing would break its own lease.
func flock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.ENOLCK) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EBADF) {
		return nil
	}
	return err
}

func (c *current) lockOrClose(ctx context.Context) error {
	err := c.lock(ctx)
	if err != nil {
		c.close()
	}
	return err
}

// obstacle says why no file can take the place of this one.
func (c *current) obstacle() error {
	dir := filepath.Dir(c.real)
	if c.st.Nlink > 1 {
		return refuse(ReasonHardLinked, 0, "%d", c.st.Nlink)
	}
	for _, path := range []string{c.real, dir} {
		var st unix.Statx_t
		if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, 0, &st); err != nil {
			continue // an older kernel; the rename will say
		}
		if st.Attributes&(unix.STATX_ATTR_IMMUTABLE|unix.STATX_ATTR_APPEND) != 0 {
			return refuse(ReasonImmutable, 0, "%s: see lsattr", path)
		}
		if path == c.real && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
			return refuse(ReasonMount, 0, "mount its directory instead")
		}
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err == nil && fs.Flags&unix.ST_RDONLY != 0 {
		return refuse(ReasonReadOnly, 0, "%s", dir)
	}
	return nil
}

var (
	errMoved   = errors.New("the file changed while it was edited")
	errWriting = errors.New("the file is open for writing")
)

// replace gives the content of path to edit and puts what it returns in its place.
// It follows symbolic links and keeps them. An edit that lost to another writer is
// made again from what that writer left.
func replace(ctx context.Context, path string, edit func([]byte) ([]byte, error)) error {
	wait := time.Millisecond
	var err error
	for range replaceTries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err = replaceOnce(ctx, path, edit); !errors.Is(err, errMoved) && !errors.Is(err, errWriting) {
			return err
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
		wait = min(2*wait, longestPause)
	}
	if errors.Is(err, errWriting) {
		return refuse(ReasonWriting, 0, "%d attempts", replaceTries)
	}
	return refuse(ReasonMoved, 0, "%d attempts", replaceTries)
}

func replaceOnce(ctx context.Context, path string, edit func([]byte) ([]byte, error)) error {
	c, data, err := settled(ctx, path, edit, true)
	if err != nil {
		return err
	}
	defer c.close()
	if bytes.Equal(c.data, data) {
		return tidy(c.real)
	}
	if err := c.obstacle(); err != nil {
		return err
	}
	return c.replaceWith(ctx, data)
}

// replaceWith writes data beside the file and lets it take the file's place.
func (c *current) replaceWith(ctx context.Context, data []byte) error {
	s, err := newStage(c)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.fill(c, data); err != nil {
		return errors.Join(err, s.remove())
	}
	if err := s.swap(ctx, c); err != nil {
		return errors.Join(err, s.remove())
	}
	return s.remove() // by now the old file
}

// unmoved compares the file with what was read of it.
func (c *current) unmoved() error {
	now, err := open(c.path)
	if err != nil {
		return errMoved
	}
	defer now.close()
	if !c.sameAs(now) || c.st.Ctim != now.st.Ctim {
		return errMoved
	}
	return nil
}

// lease has the kernel hold up whoever wants to open the file for writing until the
// file is closed here. On a file system without leases the comparison must do.
func (c *current) lease() (bool, error) {
	_, err := unix.FcntlInt(c.f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	if errors.Is(err, unix.EAGAIN) {
		return false, errWriting
	}
	return err == nil, nil
}

// wanted reports whether somebody waits for the end of the lease in order to write.
func (c *current) wanted() bool {
	kind, err := unix.FcntlInt(c.f.Fd(), unix.F_GETLEASE, 0)
	return err == nil && kind != unix.F_RDLCK
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
