package step

// The file that takes another's place. It has one fixed name beside that file and is
// locked by whoever makes it, so that what a killed run left is known and removed.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

type stage struct {
	f    *os.File
	name string
	// stranded: the name is that of the file whose place was taken, and could not
	// be given back.
	stranded bool
}

// newStage makes the file, empty and readable by nobody else. errMoved is somebody
// else who makes one.
func newStage(c *current) (*stage, error) {
	if err := tidy(c.real); err != nil {
		return nil, err
	}
	name := leftoverOf(c.real)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil, errMoved
	}
	if err != nil {
		return nil, fmt.Errorf("create a file beside %s: %w", c.real, err)
	}
	if mine, err := claim(f, name); err != nil || !mine {
		f.Close()
		return nil, errors.Join(errMoved, err)
	}
	return &stage{f: f, name: name}, nil
}

// claim locks a file and reports whether it is still the one of that name. As long as
// it stays locked nobody removes the name.
func claim(f *os.File, name string) (bool, error) {
	switch err := flock(f); {
	case errors.Is(err, unix.EWOULDBLOCK):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("lock %s: %w", name, err)
	}
	return identical(f, name), nil
}

func identical(f *os.File, name string) bool {
	var a, b unix.Stat_t
	return unix.Fstat(int(f.Fd()), &a) == nil && unix.Lstat(name, &b) == nil && a.Dev == b.Dev && a.Ino == b.Ino
}

// claimLeftover opens and locks what a killed run left, nil if there is nothing.
func claimLeftover(real string) *os.File {
	name := leftoverOf(real)
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	if mine, err := claim(f, name); err != nil || !mine {
		f.Close()
		return nil
	}
	return f
}

func leftBehind(real string) bool {
	f := claimLeftover(real)
	if f != nil {
		f.Close()
	}
	return f != nil
}

// tidy removes what a killed run left, or puts it aside where it is what another
// program wrote.
func tidy(real string) error {
	f := claimLeftover(real)
	if f == nil {
		return nil
	}
	defer f.Close()
	if overtaken(f, real) {
		err := putAside(f.Name(), real)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS): // else nothing was exchanged there either
			return fmt.Errorf("keep what another program wrote into %s, which is now %s: %w", real, f.Name(), err)
		}
	}
	if err := os.Remove(f.Name()); err != nil {
		return fmt.Errorf("remove what an earlier run left: %w", err)
	}
	return nil
}

// overtaken reports whether the leftover came out of the file's place, and is yet newer
// than what went in: the run was killed before it could put it back. A leftover that
// never was in the place was made after the file there was last touched.
func overtaken(leftover *os.File, real string) bool {
	var out, in unix.Statx_t
	const want = unix.STATX_BTIME | unix.STATX_MTIME | unix.STATX_CTIME
	if unix.Statx(int(leftover.Fd()), "", unix.AT_EMPTY_PATH, want, &out) != nil || unix.Statx(unix.AT_FDCWD, real, 0, want, &in) != nil {
		return false
	}
	exchanged := out.Mask&unix.STATX_BTIME == 0 || !later(out.Btime, in.Ctime)
	return exchanged && later(out.Mtime, in.Mtime)
}

func later(a, b unix.StatxTimestamp) bool { return a.Sec > b.Sec || a.Sec == b.Sec && a.Nsec > b.Nsec }

// asideMost is how many versions are put aside, until somebody looks at them.
const asideMost = 9

func asideOf(real string) string { return leftoverOf(real) + "-kept" }

func putAside(name, real string) (err error) {
	for n := range asideMost {
		to := asideOf(real)
		if n > 0 {
			to += "." + strconv.Itoa(n)
		}
		err = unix.Renameat2(unix.AT_FDCWD, name, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
		if !errors.Is(err, unix.EEXIST) {
			break
		}
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(real))
}

// aside returns what stands beside a file since it was put aside.
func aside(real string) []string {
	kept, _ := filepath.Glob(literal.Replace(asideOf(real)) + "*")
	return kept
}

// fill writes data and gives the file everything else that the old one has.
func (s *stage) fill(c *current, data []byte) error {
	if _, err := s.f.Write(data); err != nil {
		return fmt.Errorf("write %s: %w", s.name, err)
	}
	if err := inherit(c.f, s.f, c.st); err != nil {
		return err
	}
	if err := s.f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", s.name, err)
	}
	return nil
}

// swap puts the new file in the place of the old one, which then has the name of the
// stage. If the old one is not what was read, both go back.
func (s *stage) swap(ctx context.Context, c *current) error {
	leased, err := c.lease()
	if err != nil {
		return err
	}
	if err := c.unmoved(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	err = exchange(s.name, c.real)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // a file system that cannot
		if err := os.Rename(s.name, c.real); err != nil {
			return fmt.Errorf("replace %s: %w", c.real, err)
		}
		return syncDir(filepath.Dir(c.real))
	}
	if errors.Is(err, os.ErrNotExist) {
		return errMoved
	}
	if err != nil {
		return fmt.Errorf("replace %s: %w", c.real, err)
	}
	if !c.displaced(s.name) {
		return s.back(c)
	}
	// Who opened the old file in the meantime is by now held up by the lease.
	synced := syncDir(filepath.Dir(c.real))
	if leased && c.wanted() {
		return s.back(c)
	}
	return synced
}

// displaced reports whether the file that was read, and nothing else, is what came out
// under the name.
func (c *current) displaced(name string) bool {
	out, err := open(name)
	if err != nil {
		return false
	}
	defer out.close()
	out.real = c.real
	return c.sameAs(out)
}

// back undoes an exchange. What somebody has put in the place of the new file since is
// newer than both and stays.
func (s *stage) back(c *current) error {
	err := exchange(s.name, c.real)
	if err == nil && !identical(s.f, s.name) {
		err = exchange(s.name, c.real)
	}
	if err != nil {
		s.stranded = true
		return fmt.Errorf("put %s back, which is now %s: %w", c.real, s.name, err)
	}
	return errors.Join(errMoved, syncDir(filepath.Dir(c.real)))
}

func exchange(a, b string) error {
	return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
}

// remove takes the name away, if it is still there.
func (s *stage) remove() error {
	if s.stranded {
		return nil
	}
	if err := os.Remove(s.name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", s.name, err)
	}
	return nil
}

func (s *stage) close() { s.f.Close() }

// inherit gives to the owner, the mode with its special bits and the extended
// attributes (access lists and security labels among them) of from.
func inherit(from, to *os.File, st unix.Stat_t) error {
	if err := to.Chown(int(st.Uid), int(st.Gid)); err != nil {
		return fmt.Errorf("give %s to user %d: %w", to.Name(), st.Uid, err)
	}
	names, err := attributes(from)
	if err != nil {
		return err
	}
	added, err := attributes(to)
	if err != nil {
		return err
	}
	for _, name := range added { // a directory's default access list is not this file's
		if name == accessList && !slices.Contains(names, name) {
			if err := unix.Fremovexattr(int(to.Fd()), name); err != nil {
				return fmt.Errorf("remove attribute %s of %s: %w", name, to.Name(), err)
			}
		}
	}
	if err := unix.Fchmod(int(to.Fd()), st.Mode&0o7777); err != nil { // after chown, which clears set-id bits
		return fmt.Errorf("set the mode of %s: %w", to.Name(), err)
	}
	for _, name := range names {
		if err := copyAttribute(from, to, name); err != nil {
			return err
		}
	}
	return nil
}

const accessList = "system.posix_acl_access"

const attributeLimit = 1 << 16 // the kernel's own, of a value and of a list of names

func copyAttribute(from, to *os.File, name string) error {
	value := make([]byte, attributeLimit)
	n, err := unix.Fgetxattr(int(from.Fd()), name, value)
	if err == nil {
		err = unix.Fsetxattr(int(to.Fd()), name, value[:n], 0)
	}
	if err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.ENODATA) {
		return fmt.Errorf("copy attribute %s to %s: %w", name, to.Name(), err)
	}
	return nil
}

func attributes(f *os.File) ([]string, error) {
	buf := make([]byte, attributeLimit)
	n, err := unix.Flistxattr(int(f.Fd()), buf)
	switch {
	case errors.Is(err, unix.ENOTSUP) || err == nil && n == 0:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("list the attributes of %s: %w", f.Name(), err)
	}
	var names []string
	for _, name := range bytes.Split(bytes.TrimRight(buf[:n], "\x00"), []byte{0}) {
		names = append(names, string(name))
	}
	return names, nil
}
