package probe

// What is in the file system. Any of this can hang for as long as a server of it
// does: the prober takes that for a failure.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Disk wants room on the file system of a path, of blocks and of inodes, and that
// it can be written.
type Disk struct {
	Path    string
	MinFree float64 // per cent of what an ordinary user can have
}

// Probe asks the file system.
func (d Disk) Probe(context.Context) error {
	var st unix.Statfs_t
	err := unix.Statfs(d.Path, &st)
	for errors.Is(err, unix.EINTR) {
		err = unix.Statfs(d.Path, &st)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Unusable("%s does not exist", d.Path)
	case err != nil:
		return fmt.Errorf("look at the file system of %s: %w", d.Path, err)
	case st.Blocks == 0:
		return Unusable("the file system of %s has no size", d.Path)
	case st.Flags&unix.ST_RDONLY != 0:
		return fmt.Errorf("the file system of %s is read-only", d.Path)
	}
	// As df counts: what is kept for root is neither used nor free.
	if all := st.Blocks - st.Bfree + st.Bavail; share(st.Bavail, all) < d.MinFree {
		return fmt.Errorf("%.1f%% of %s is free, less than %g%%", share(st.Bavail, all), d.Path, d.MinFree)
	}
	// Some file systems make inodes as they need them, and count none.
	if st.Files > 0 && share(st.Ffree, st.Files) < d.MinFree {
		return fmt.Errorf("%.1f%% of the inodes of %s are free, less than %g%%", share(st.Ffree, st.Files), d.Path, d.MinFree)
	}
	return nil
}

func share(part, whole uint64) float64 {
	if whole == 0 {
		return 0
	}
	return 100 * float64(part) / float64(whole)
}

// fileLimit bounds what is read of a file to find a text in it.
const fileLimit = 1 << 20

// File wants a file that exists.
type File struct {
	Path     string
	MaxAge   time.Duration // since it was last written, 0: any
	Contains string        // in its first MiB, empty: anything
}

// Probe looks at the file.
func (f File) Probe(context.Context) error {
	st, err := os.Stat(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s does not exist", f.Path)
	}
	if err != nil {
		return err
	}
	if age := time.Since(st.ModTime()); f.MaxAge > 0 && age > f.MaxAge {
		return fmt.Errorf("%s was last written %s ago, more than %s", f.Path, age.Round(time.Second), f.MaxAge)
	}
	if f.Contains == "" {
		return nil
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", f.Path)
	}
	// Should it have become a pipe meanwhile, opening it does not wait for a writer.
	file, err := os.OpenFile(f.Path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, fileLimit))
	if err != nil {
		return err
	}
	if !bytes.Contains(text, []byte(f.Contains)) {
		return fmt.Errorf("%s does not contain %q", f.Path, f.Contains)
	}
	return nil
}
