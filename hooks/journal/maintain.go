package journal

// A disk that is full, or fails, should show before the night in which a promotion
// needs it. So a Journal that has nothing to write keeps room for the next
// transition, and tries the disk.

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/hooks"
)

const (
	// reserve is the room kept behind the last record, in bytes: several transitions.
	reserve = 256 << 10
	// owedLimit bounds what is kept of records that could not be written, in bytes.
	owedLimit = 128 << 10

	// probeSuffix ends the name of the file that is written to try the disk.
	probeSuffix = ".probe"
	probeText   = "tanist writes this again and again to see whether the disk takes it\n"
)

// Owe takes records of what happened though they could not be written. They are
// dated now, and written before anything else once that is possible. When they are
// many, only the last ones are kept, and those that a Memory depends on.
func (j *Journal) Owe(records ...hooks.Record) {
	at := j.clock()
	for _, r := range records {
		e := Entry{At: at, Boot: j.boot, Record: r, Number: largestNumber, Skipped: largestNumber} // with room for its own
		if payload, err := marshal(e); err == nil {                                                // else no disk would have helped
			e.Number, e.Skipped = 0, 0
			j.owed = append(j.owed, record{frame: appendFrame(nil, payload), entry: &e})
		}
	}
	if len(bytesOf(j.owed)) > owedLimit {
		j.owed = compact(j.owed, owedLimit/2, j.memories)
	}
}

// Maintain is to be called every few seconds when nothing else is to be written. It
// writes what is owed, keeps room for the next transition, tries the disk, and
// rotates a file that has become too long. It returns why a record could not be
// written now, and what else is wrong.
func (j *Journal) Maintain() (unwritable, trouble error) {
	if err := j.maintain(); err != nil {
		return fmt.Errorf("journal %s: %w", j.path, err), nil
	}
	if j.end <= j.limit || j.end < j.rotateAt {
		return nil, nil
	}
	if err := j.rotateNow(); err != nil {
		j.rotateAt = j.end + j.limit/8
		return nil, fmt.Errorf("rotate journal %s: %w", j.path, err)
	}
	return nil, nil
}

func (j *Journal) maintain() error {
	if j.file == nil {
		return os.ErrClosed
	}
	if err := j.append(nil); err != nil {
		return err
	}
	if err := j.sync(); err != nil {
		return err
	}
	if err := j.keepRoom(); err != nil {
		return fmt.Errorf("keep room for the next transition: %w", err)
	}
	return j.probe()
}

// keepRoom sees to it that the next records do not find the disk full.
func (j *Journal) keepRoom() error {
	if j.room >= j.end+reserve/2 {
		return nil
	}
	if err := j.file.Reserve(j.end, reserve); err != nil {
		return err
	}
	j.room = j.end + reserve
	return nil
}

// probe writes to another file beside the journal, so that a disk that fails has
// nothing of the journal in its hands.
func (j *Journal) probe() (err error) {
	f, err := os.OpenFile(j.path+probeSuffix, os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.WriteAt([]byte(probeText), 0); err != nil {
		return err
	}
	return f.Sync()
}

// rotateNow does for a file in use what Open does.
func (j *Journal) rotateNow() error {
	data := make([]byte, j.end)
	if _, err := j.file.ReadAt(data, 0); err != nil {
		return err
	}
	c := scan(data)
	if len(c.damage) > 0 || c.torn.Length > 0 || c.foreign != "" {
		return errors.New("the file is not as it was written")
	}
	f, err := j.rotate(c.records)
	var undecided *undurableError
	if err != nil && !errors.As(err, &undecided) {
		return err
	}
	j.adopt(f)
	j.undecided = undecided != nil // the next sync sees to it
	return nil
}

// adopt goes on with another file, which is durable.
func (j *Journal) adopt(f newFile) {
	_ = j.file.Close() // it was synced
	j.file = file{f.File}
	j.begin(f.whole)
}

// inPlace sees to it that the path leads to the file that is written: records in
// one that somebody removed are gone with the daemon.
func (j *Journal) inPlace() error {
	there, err := os.Lstat(j.path)
	if errors.Is(err, os.ErrNotExist) {
		return j.restore()
	}
	if err != nil {
		return err
	}
	mine, err := j.file.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(mine, there) {
		return errors.New("another file is in its place")
	}
	return nil
}

// restore writes a file that somebody removed again.
func (j *Journal) restore() error {
	data := make([]byte, j.end)
	if _, err := j.file.ReadAt(data, 0); err != nil {
		return err
	}
	f, err := create(j.path+".new", data)
	if err != nil {
		return fmt.Errorf("somebody removed it: %w", err)
	}
	if err := os.Rename(f.Name(), j.path); err != nil {
		return errors.Join(err, f.Close())
	}
	j.adopt(newFile{f, data})
	j.suspect, j.undecided = false, true
	return nil
}

// settle makes a rename outlast a crash.
func (j *Journal) settle() error {
	if !j.undecided {
		return nil
	}
	if err := syncDir(filepath.Dir(j.path)); err != nil {
		return err
	}
	j.undecided = false
	return nil
}

func bytesOf(records []record) (b []byte) {
	for _, r := range records {
		b = append(b, r.frame...)
	}
	return b
}

// Reserve allocates room that does not show in the file's length.
func (f file) Reserve(from, length int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, from, length)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			return f.roomLeft(length)
		default:
			return os.NewSyscallError("fallocate", err)
		}
	}
}

// roomLeft is for file systems that cannot allocate ahead.
func (f file) roomLeft(length int64) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return os.NewSyscallError("fstatfs", err)
	}
	if st.Flags&unix.ST_RDONLY != 0 {
		return unix.EROFS
	}
	if st.Bfree < uint64(length/max(st.Bsize, 1)) {
		return unix.ENOSPC
	}
	return nil
}
