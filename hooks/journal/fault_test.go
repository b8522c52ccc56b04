package journal

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/hooks"
)

// failing is the real file until it is told to fail as a disk does: a write stops
// half way, a sync loses what it should have written and says so once.
type failing struct {
	disk
	write, truncate, sync bool
	durable               int64 // up to where a Sync confirmed
	lost                  bool  // Forget brings to light what a failed sync lost
}

var errDisk = errors.New("input/output error")

func (f *failing) WriteAt(p []byte, off int64) (int, error) {
	if !f.write {
		f.lost = f.lost && (len(p) == 0 || off > f.durable)
		return f.disk.WriteAt(p, off)
	}
	n, err := f.disk.WriteAt(p[:len(p)/2], off)
	return n, errors.Join(errDisk, err)
}

func (f *failing) Truncate(size int64) error {
	if f.truncate {
		return errDisk
	}
	return f.disk.Truncate(size)
}

func (f *failing) Sync() error {
	if f.sync {
		f.lost = true
		return errDisk
	}
	if info, err := f.disk.(file).Stat(); err == nil && !f.lost {
		f.durable = info.Size()
	}
	return f.disk.Sync()
}

func (f *failing) Forget() error {
	if f.lost {
		if err := f.disk.Truncate(f.durable); err != nil {
			return err
		}
	}
	return f.disk.Forget()
}

func openFailing(t *testing.T) (*Journal, *failing) {
	t.Helper()
	j, _ := mustOpen(t, filepath.Join(t.TempDir(), "journal"))
	f := &failing{disk: j.file}
	j.file = f
	mustAppend(t, j, story()[0])
	return j, f
}

// reopened closes the journal and returns what another one finds.
func reopened(t *testing.T, j *Journal) []hooks.Record {
	t.Helper()
	mustClose(t, j)
	again, entries := mustOpen(t, j.path)
	if !again.Recovery().Clean() {
		t.Errorf("recovery: %v", again.Recovery())
	}
	mustClose(t, again)
	return records(entries)
}

func TestAWriteThatStopsHalfWayIsTakenBack(t *testing.T) {
	j, f := openFailing(t)
	f.write = true
	if err := j.Append(story()[1]); !errors.Is(err, errDisk) || !strings.Contains(err.Error(), j.path) {
		t.Errorf("append: %v", err)
	}
	if got := int64(len(read(t, j.path))); got != j.end {
		t.Errorf("%d bytes after a failed append, want %d", got, j.end)
	}
	f.write = false
	mustAppend(t, j, story()[2])
	if diff := cmp.Diff([]hooks.Record{story()[0], story()[2]}, reopened(t, j)); diff != "" {
		t.Error(diff)
	}
}

func TestACutThatFailsIsTriedAgain(t *testing.T) {
	j, f := openFailing(t)
	if err := j.Append(story()[3]); err != nil {
		t.Fatal(err)
	}
	f.write, f.truncate = true, true
	if err := j.Append(story()[1]); err == nil {
		t.Error("append succeeded")
	}
	f.write = false
	if err := j.Append(story()[1]); err == nil {
		t.Error("append after what could not be cut")
	}
	if err := j.Sync(); err != nil {
		t.Errorf("what was appended before can be synced all the same: %v", err)
	}
	f.truncate = false
	mustAppend(t, j, story()[2])
	if diff := cmp.Diff([]hooks.Record{story()[0], story()[3], story()[2]}, reopened(t, j)); diff != "" {
		t.Error(diff)
	}
}

func TestAFailedSyncIsNotForgotten(t *testing.T) {
	j, f := openFailing(t)
	f.sync = true
	if err := j.Append(story()[1]); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := j.Sync(); !errors.Is(err, errDisk) {
			t.Errorf("sync: %v", err)
		}
	}
	if err := j.Append(story()[2]); !errors.Is(err, errDisk) {
		t.Errorf("append after a failed sync: %v", err)
	}
	f.sync = false
	if err := j.Sync(); err != nil {
		t.Errorf("sync by a disk that works again: %v", err)
	}
	mustAppend(t, j, story()[3])
	if diff := cmp.Diff([]hooks.Record{story()[0], story()[1], story()[3]}, reopened(t, j)); diff != "" {
		t.Error(diff)
	}
}

// The disk says that it works again and has not what was written.
func TestAFailedSyncIsVerified(t *testing.T) {
	j, f := openFailing(t)
	f.sync = true
	if err := j.Append(story()[1]); err != nil {
		t.Fatal(err)
	}
	if err := j.Sync(); err == nil {
		t.Fatal("sync succeeded")
	}
	f.sync = false
	if err := f.disk.Truncate(int64(headerSize + 30)); err != nil { // an old record is gone as well
		t.Fatal(err)
	}
	if err := j.Sync(); err == nil || !strings.Contains(err.Error(), "read back") {
		t.Errorf("sync: %v", err)
	}
	if err := j.Append(story()[2]); err == nil {
		t.Error("append to a file that is not what was written")
	}
	if err := j.Close(); err == nil {
		t.Error("close says nothing")
	}
}

func TestWhatIsHeldForASecondAttemptIsBounded(t *testing.T) {
	j, f := openFailing(t)
	r := story()[1]
	r.Step.Detail = strings.Repeat("x", 50_000)
	for range 40 {
		if err := j.Append(r); err != nil {
			t.Fatal(err)
		}
		if len(j.unsynced) > maxUnsynced {
			t.Fatalf("%d bytes are held", len(j.unsynced))
		}
	}
	f.sync = true
	var failed error
	for range 20 {
		if failed = j.Append(r); failed != nil {
			break
		}
	}
	if !errors.Is(failed, errDisk) || len(j.unsynced) > maxUnsynced {
		t.Errorf("%v, %d bytes are held", failed, len(j.unsynced))
	}
	f.sync = false
	if got := reopened(t, j); len(got) < 40 {
		t.Errorf("%d records", len(got))
	}
}

// onSmallDisk runs test on a file system of its own, of some size, which nobody
// else sees and which is gone with its thread.
func onSmallDisk(t *testing.T, size string, test func(dir string)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small tmpfs")
	}
	dir := t.TempDir()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its mounts
		err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size)
		}
		if err == nil {
			test(dir)
		}
		done <- err
	}()
	if err := <-done; errors.Is(err, unix.EPERM) {
		t.Skip("needs CAP_SYS_ADMIN to mount a small tmpfs")
	} else if err != nil {
		t.Error(err)
	}
}

// fillDisk leaves no byte free and returns how to make room.
func fillDisk(t *testing.T, dir string) (free func()) {
	name := filepath.Join(dir, "ballast")
	f, err := os.Create(name)
	if err != nil {
		t.Error(err)
		return func() {}
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Error(err)
	}
	_ = f.Close()
	return func() { _ = os.Remove(name) }
}

func TestAFullDisk(t *testing.T) {
	onSmallDisk(t, "128k", func(dir string) {
		path := filepath.Join(dir, "journal")
		j, _, err := Open(path)
		if err != nil {
			t.Error(err)
			return
		}
		free := fillDisk(t, dir)
		if err := j.Append(story()[0]); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("the first append to a full disk: %v", err)
		}
		free()
		r, n := story()[1], 0
		r.Step.Detail = strings.Repeat("x", 10_000)
		for err = nil; err == nil; n++ {
			err = j.Append(r)
		}
		if !errors.Is(err, unix.ENOSPC) || n < 5 {
			t.Errorf("append %d: %v", n, err)
		}
		if err := j.Sync(); err != nil {
			t.Error(err)
		}
		if got := int64(len(read(t, path))); got != j.end {
			t.Errorf("%d bytes after a failed append, want %d", got, j.end)
		}
		fillDisk(t, dir)
		if err := j.Close(); err != nil {
			t.Error(err)
		}
		// A daemon that starts on a full disk reads what it has.
		j, entries, err := open(path, 100)
		if err != nil || len(entries) != n-1 {
			t.Errorf("open on a full disk: %d entries of %d, %v", len(entries), n-1, err)
			return
		}
		if r := j.Recovery(); !errors.Is(r.Err, unix.ENOSPC) || r.Rotated != "" {
			t.Errorf("recovery: %v", r)
		}
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A file that may be somebody else's is neither cut nor appended to where it
// cannot be set aside: here, because there is no room for a longer name.
func TestAForeignFileThatCannotBeSetAsideIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("j", 255))
	const content = "somebody's notes, which are no journal of ours"
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(path); !errors.Is(err, unix.ENAMETOOLONG) {
		t.Errorf("opened: %v", err)
	}
	if got := string(read(t, path)); got != content {
		t.Errorf("the file holds %q", got)
	}
}

func TestDamageOnAFullDiskStaysInItsPlace(t *testing.T) {
	content := wrote(t)
	content[headerSize+30] ^= 1
	onSmallDisk(t, "64k", func(dir string) {
		path := filepath.Join(dir, "journal")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Error(err)
			return
		}
		free := fillDisk(t, dir)
		j, entries, err := Open(path)
		if err != nil {
			t.Error(err)
			return
		}
		if r := j.Recovery(); len(entries) != len(story())-1 || !errors.Is(r.Err, unix.ENOSPC) || r.Aside != "" || len(r.Damage) != 1 {
			t.Errorf("%d entries, %v", len(entries), r)
		}
		free()
		if err := j.Append(story()[0]); err != nil {
			t.Error(err)
		}
		if err := j.Close(); err != nil {
			t.Error(err)
		}
		j, entries, err = Open(path)
		if err != nil {
			t.Error(err)
			return
		}
		if r := j.Recovery(); len(entries) != len(story()) || r.Aside != path+".corrupt-1" || r.Err != nil {
			t.Errorf("with room again: %d entries, %v", len(entries), r)
		}
		_ = j.Close()
	})
}
