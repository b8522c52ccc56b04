package lab

// Where labs are written down, and how those of dead processes are found and
// removed. Names of all that a lab makes follow from its id, so there is no list
// that could be out of date.

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	stateDir = "/var/lib/tanist-lab" // on a disk: an overlay's upper layer may be large
	keptMark = "kept"
)

func netnsName(id, place string) string { return "tanist-" + id + "-" + place }

// claimNew makes the state directory of a new lab and locks it.
func claimNew(id string) (*os.File, error) {
	if err := os.MkdirAll(stateDir, 0o755); err != nil {
		return nil, err
	}
	dir := filepath.Join(stateDir, id)
	// Made under another name and renamed with its lock held, a lab is never seen unowned.
	tmp := filepath.Join(stateDir, "."+id)
	if err := os.MkdirAll(tmp, 0o700); err != nil {
		return nil, err
	}
	lock, err := tryLock(filepath.Join(tmp, "lock"), unix.LOCK_EX)
	if err != nil {
		return nil, fmt.Errorf("claim lab %s: %w", id, err)
	}
	if err := unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, dir, unix.RENAME_NOREPLACE); err != nil {
		err = fmt.Errorf("claim lab %s: %w", id, err)
		return nil, errors.Join(err, os.RemoveAll(tmp), lock.Close())
	}
	return lock, nil
}

// claimStale locks a lab whose owner is dead. It returns nil for one that lives
// or is kept.
func claimStale(id string) (*os.File, error) {
	dir := filepath.Join(stateDir, id)
	lock, err := tryLock(filepath.Join(dir, "lock"), unix.LOCK_EX)
	if errors.Is(err, errLocked) || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, keptMark)); err == nil {
		return nil, lock.Close()
	}
	return lock, nil
}

// List returns the ids of all labs that are written down, and for each whether it
// is kept.
func List() (map[string]bool, error) {
	entries, err := os.ReadDir(stateDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	labs := map[string]bool{}
	for _, e := range entries {
		if !e.IsDir() || !validID.MatchString(e.Name()) {
			continue
		}
		_, err := os.Stat(filepath.Join(stateDir, e.Name(), keptMark))
		labs[e.Name()] = err == nil
	}
	return labs, nil
}

// Sweep removes all labs whose owner died without Down, and returns their ids.
// Labs that live or are kept stay.
func Sweep(ctx context.Context) ([]string, error) {
	labs, err := List()
	if err != nil {
		return nil, fmt.Errorf("list labs: %w", err)
	}
	var swept []string
	g, ctx := errgroup.WithContext(ctx)
	for id := range labs {
		lock, err := claimStale(id)
		if err != nil {
			return swept, errors.Join(fmt.Errorf("claim stale lab %s: %w", id, err), g.Wait())
		}
		if lock == nil {
			continue
		}
		swept = append(swept, id)
		g.Go(func() error {
			defer lock.Close()
			return erase(ctx, id)
		})
	}
	slices.Sort(swept)
	return swept, g.Wait()
}

// erase removes everything that carries a lab's id: processes, namespaces with
// the cables in them, mounts, cgroups, files. What is gone already is fine.
func erase(ctx context.Context, id string) error {
	ctx, cancel := bounded(ctx, downPatience)
	defer cancel()
	dir := filepath.Join(stateDir, id)
	// First of all, so that the next sweep finishes what is cut short here.
	if err := os.Remove(filepath.Join(dir, keptMark)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	group := labCgroup(id)
	if err := group.kill(); err != nil {
		return fmt.Errorf("end the processes of lab %s: %w", id, err)
	}
	if err := group.waitEmpty(ctx); err != nil {
		return fmt.Errorf("wait for the last process of lab %s: %w", id, err)
	}
	for _, place := range []string{"sw", "a", "b"} {
		if err := (space{name: netnsName(id, place)}).remove(); err != nil {
			return err
		}
	}
	if err := removeNspawnRests(id); err != nil {
		return err
	}
	if err := unmountBelow(ctx, dir); err != nil {
		return err
	}
	if err := group.remove(ctx); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove the files of lab %s: %w", id, err)
	}
	return nil
}

// removeNspawnRests removes what nspawn leaves of each node in /run: an empty
// directory, and a lock file that is named after the disk that must still be mounted.
func removeNspawnRests(id string) error {
	const run = "/run/systemd/nspawn"
	for _, node := range []string{"a", "b"} {
		rests := []string{filepath.Join(run, "propagate", netnsName(id, node))}
		var root unix.Stat_t
		if err := unix.Stat(filepath.Join(stateDir, id, node, "root"), &root); err == nil {
			rests = append(rests, filepath.Join(run, "locks", fmt.Sprintf("inode-%d:%d", root.Dev, root.Ino)))
		}
		for _, path := range rests {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// unmountBelow unmounts all that is mounted under dir, the last mounted first,
// and returns only when nothing is.
func unmountBelow(ctx context.Context, dir string) error {
	err := poll(ctx, func() (bool, error) {
		points, err := mountsBelow(dir)
		if err != nil || len(points) == 0 {
			return err == nil, err
		}
		for _, point := range slices.Backward(points) {
			if err := unix.Unmount(point, 0); err != nil && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EINVAL) {
				return false, fmt.Errorf("unmount %s: %w", point, err)
			}
		}
		return false, nil
	})
	if err != nil {
		return fmt.Errorf("unmount below %s: %w", dir, err)
	}
	return nil
}

func mountsBelow(dir string) ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var points []string
	s := bufio.NewScanner(f)
	for s.Scan() {
		if f := strings.Fields(s.Text()); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			points = append(points, f[4])
		}
	}
	return points, s.Err()
}
