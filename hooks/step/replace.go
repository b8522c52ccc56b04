package step

// Somebody else's file is replaced in one rename: complete, durable, with the
// owner, mode and attributes it had, and only if it is still the file that was
// read.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// FileLimit is the largest file a step edits, in bytes.
const FileLimit = 16 << 20

const (
	replaceTries = 5                     // each one lost to a writer that came in between
	lockPoll     = 20 * time.Millisecond // between two attempts at somebody else's lock
	lockPatience = 5 * time.Second       // a lock held for longer is a refusal
)

// readRegular returns the content of a regular file and what identified it.
func readRegular(path string) (*os.File, unix.Stat_t, []byte, error) {
	var st unix.Stat_t
	// Without O_NONBLOCK the open of a FIFO would wait for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, st, nil, err
	}
	data, err := readOpened(f, &st)
	if err != nil {
		f.Close()
		return nil, st, nil, err
	}
	return f, st, data, nil
}

func readOpened(f *os.File, st *unix.Stat_t) ([]byte, error) {
	if err := unix.Fstat(int(f.Fd()), st); err != nil {
		return nil, fmt.Errorf("stat %s: %w", f.Name(), err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, refuse(ReasonNotRegular, 0, "")
	}
	data, err := io.ReadAll(io.LimitReader(f, FileLimit+1))
	if err != nil {
		return nil, err
	}
	if len(data) > FileLimit {
		return nil, refuse(ReasonTooLarge, 0, "more than %d bytes", FileLimit)
	}
	return data, nil
}

var errMoved = errors.New("the file changed while it was edited")

// replace gives the content of path to edit and puts what it returns in its
// place. It follows symbolic links and keeps them. An edit that lost to another
// writer is made again from what that writer left.
func replace(ctx context.Context, path string, edit func([]byte) ([]byte, error)) error {
	for range replaceTries {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := replaceOnce(ctx, path, edit)
		if !errors.Is(err, errMoved) {
			return err
		}
	}
	return refuse(ReasonMoved, 0, "%d attempts", replaceTries)
}

func replaceOnce(ctx context.Context, path string, edit func([]byte) ([]byte, error)) error {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(real, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := lock(ctx, f); err != nil {
		return err
	}
	var st unix.Stat_t
	old, err := readOpened(f, &st)
	if err != nil {
		return err
	}
	data, err := edit(old)
	if err != nil || bytes.Equal(old, data) {
		return err
	}
	if st.Nlink > 1 {
		return refuse(ReasonHardLinked, 0, "%d", st.Nlink)
	}
	return commit(ctx, path, real, f, st, old, data)
}

// lock takes the advisory lock that writers who care about others take too.
func lock(ctx context.Context, f *os.File) error {
	ctx, cancel := context.WithTimeoutCause(ctx, lockPatience, refuse(ReasonLocked, 0, ""))
	defer cancel()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil || errors.Is(err, unix.ENOLCK) || errors.Is(err, unix.EOPNOTSUPP):
			return nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(lockPoll):
		}
	}
}

// commit writes data beside the file and renames it over the file, unless path
// leads elsewhere by now or the file is no longer st with the content old.
func commit(ctx context.Context, path, real string, f *os.File, st unix.Stat_t, old, data []byte) error {
	dir := filepath.Dir(real)
	tmp, err := renameio.NewPendingFile(real, renameio.WithTempDir(dir), renameio.WithExistingPermissions())
	if err != nil {
		return fmt.Errorf("create a file in %s: %w", dir, err)
	}
	defer tmp.Cleanup() //nolint:errcheck // after a rename there is nothing to clean, before it the first error counts
	if err := inherit(f, tmp.File, st); err != nil {
		return err
	}
	if _, err := tmp.Write(data); err != nil {
		return fmt.Errorf("write %s: %w", tmp.Name(), err)
	}
	// The slow part goes before the comparison, so that little time is left
	// between the comparison and the rename.
	if err := tmp.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", tmp.Name(), err)
	}
	if err := unmoved(path, real, st, old); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := tmp.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("replace %s: %w", real, err)
	}
	return syncDir(dir)
}

// inherit gives to the owner, the mode with its special bits and the extended
// attributes (access lists and security labels among them) of from.
func inherit(from, to *os.File, st unix.Stat_t) error {
	if err := to.Chown(int(st.Uid), int(st.Gid)); err != nil {
		return fmt.Errorf("give %s to user %d: %w", to.Name(), st.Uid, err)
	}
	if err := unix.Fchmod(int(to.Fd()), st.Mode&0o7777); err != nil { // after chown, which clears set-id bits
		return fmt.Errorf("set the mode of %s: %w", to.Name(), err)
	}
	for _, name := range attributes(from) {
		value := make([]byte, 1<<16)
		n, err := unix.Fgetxattr(int(from.Fd()), name, value)
		if err == nil {
			err = unix.Fsetxattr(int(to.Fd()), name, value[:n], 0)
		}
		if err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("copy attribute %s to %s: %w", name, to.Name(), err)
		}
	}
	return nil
}

func attributes(f *os.File) []string {
	buf := make([]byte, 1<<16) // the kernel's own limit of a list
	n, err := unix.Flistxattr(int(f.Fd()), buf)
	if err != nil || n == 0 {
		return nil
	}
	var names []string
	for _, name := range bytes.Split(bytes.TrimRight(buf[:n], "\x00"), []byte{0}) {
		names = append(names, string(name))
	}
	return names
}

func unmoved(path, real string, st unix.Stat_t, old []byte) error {
	if now, err := filepath.EvalSymlinks(path); err != nil || now != real {
		return errMoved
	}
	f, now, data, err := readRegular(real)
	if err != nil {
		return errMoved
	}
	defer f.Close()
	if now.Dev != st.Dev || now.Ino != st.Ino || now.Size != st.Size || now.Mtim != st.Mtim ||
		now.Uid != st.Uid || now.Gid != st.Gid || now.Mode != st.Mode || !bytes.Equal(data, old) {
		return errMoved
	}
	return nil
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
