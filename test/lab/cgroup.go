package lab

// Every process of a lab lives in the lab's own cgroup, so the lab can end all
// of them without ever signalling a pid that somebody else may have by now.

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
	"sync"

	"golang.org/x/sys/unix"
)

// hierarchies are the mounted cgroup trees that systemd-nspawn uses.
type hierarchies struct {
	unified string // cgroup v2: where processes are tracked, frozen and killed
	legacy  string // the v1 tree name=systemd of a hybrid machine, else empty
}

var cgroupRoots = sync.OnceValues(findCgroupRoots)

func findCgroupRoots() (hierarchies, error) {
	var h hierarchies
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return h, err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for s.Scan() {
		// ID PARENT DEV ROOT MOUNTPOINT OPTIONS [TAGS...] - TYPE SOURCE SUPEROPTIONS
		before, after, ok := strings.Cut(s.Text(), " - ")
		mount, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(mount) < 5 || len(kind) < 3 {
			continue
		}
		switch {
		case kind[0] == "cgroup2" && h.unified == "":
			h.unified = mount[4]
		case kind[0] == "cgroup" && slices.Contains(strings.Split(kind[2], ","), "name=systemd"):
			h.legacy = mount[4]
		}
	}
	if err := s.Err(); err != nil {
		return h, err
	}
	if h.unified == "" {
		return h, errors.New("no cgroup2 file system is mounted")
	}
	return h, nil
}

// cgroup is a path below the root of every hierarchy.
type cgroup string

func labCgroup(id string) cgroup { return cgroup("tanist-lab-" + id) }

func (c cgroup) child(name string) cgroup { return cgroup(filepath.Join(string(c), name)) }

func (c cgroup) dirs() []string {
	h, err := cgroupRoots()
	if err != nil {
		return nil
	}
	dirs := []string{filepath.Join(h.unified, string(c))}
	if h.legacy != "" {
		dirs = append(dirs, filepath.Join(h.legacy, string(c)))
	}
	return dirs
}

// file is a path inside the cgroup's v2 directory.
func (c cgroup) file(name string) string {
	h, _ := cgroupRoots()
	return filepath.Join(h.unified, string(c), name)
}

// create makes the cgroup in every hierarchy; it may exist.
func (c cgroup) create() error {
	if _, err := cgroupRoots(); err != nil {
		return err
	}
	for _, dir := range c.dirs() {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("create cgroup: %w", err)
		}
	}
	return nil
}

// createUnified makes the cgroup in the v2 hierarchy alone and opens it, for
// processes that are started straight into it.
func (c cgroup) createUnified() (*os.File, error) {
	if _, err := cgroupRoots(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.file(""), 0o755); err != nil {
		return nil, fmt.Errorf("create cgroup: %w", err)
	}
	return os.Open(c.file(""))
}

// kill sends SIGKILL to every process in the cgroup and below, frozen or not. A
// cgroup that is not there has none.
func (c cgroup) kill() error {
	err := os.WriteFile(c.file("cgroup.kill"), []byte("1"), 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// freeze stops or continues every process in the cgroup and waits until that is so.
func (c cgroup) freeze(ctx context.Context, on bool) error {
	state := "0"
	if on {
		state = "1"
	}
	if err := os.WriteFile(c.file("cgroup.freeze"), []byte(state), 0); err != nil {
		return err
	}
	return c.waitEvent(ctx, "frozen "+state)
}

// waitEmpty waits until no process is left in the cgroup or below.
func (c cgroup) waitEmpty(ctx context.Context) error {
	return c.waitEvent(ctx, "populated 0")
}

// waitEvent waits for a line of cgroup.events; a cgroup that is gone has no
// process left that could be otherwise.
func (c cgroup) waitEvent(ctx context.Context, line string) error {
	return poll(ctx, func() (bool, error) {
		data, err := os.ReadFile(c.file("cgroup.events"))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			return true, nil
		}
		return slices.Contains(strings.Split(string(data), "\n"), line), err
	})
}

// frozen reports whether the cgroup is frozen.
func (c cgroup) frozen() bool {
	data, err := os.ReadFile(c.file("cgroup.freeze"))
	return err == nil && strings.TrimSpace(string(data)) == "1"
}

// remove removes the empty cgroup and all below it from every hierarchy. It
// waits until the kernel has let go of the last process.
func (c cgroup) remove(ctx context.Context) error {
	for _, root := range c.dirs() {
		if err := poll(ctx, func() (bool, error) { return removeCgroupTree(root) }); err != nil {
			return fmt.Errorf("remove cgroup %s: %w", root, err)
		}
	}
	return nil
}

// removeCgroupTree reports whether the tree is gone.
func removeCgroupTree(root string) (bool, error) {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			return nil
		}
		return err
	})
	if err != nil {
		return false, err
	}
	for _, dir := range slices.Backward(dirs) {
		switch err := unix.Rmdir(dir); {
		case errors.Is(err, unix.EBUSY), errors.Is(err, unix.ENOTEMPTY):
			return false, nil
		case err != nil && !errors.Is(err, unix.ENOENT):
			return false, err
		}
	}
	return true, nil
}
