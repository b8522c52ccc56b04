package program

// A control group per run catches what leaves its process group.

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// DelegatedCgroup returns the control group (version 2) of this process as a
// directory in which groups can be made, for Command.Cgroup; empty when there is none,
// when it is not ours to divide or when the kernel is older than 5.14 (no
// cgroup.kill). Under systemd it takes Delegate=yes.
func DelegatedCgroup() string {
	mount, err := cgroup2Mount("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(own)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			dir := filepath.Join(mount, path)
			if divisible(dir) {
				return dir
			}
		}
	}
	return ""
}

func divisible(dir string) bool {
	g, err := newControlGroup(dir)
	if err != nil || g.dir == nil {
		return false
	}
	defer g.close()
	_, err = os.Stat(filepath.Join(g.path, "cgroup.kill"))
	return err == nil
}

func cgroup2Mount(mountinfo string) (string, error) {
	f, err := os.Open(mountinfo)
	if err != nil {
		return "", err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		if fields := strings.Fields(before); ok && len(fields) > 4 && strings.HasPrefix(after, "cgroup2 ") {
			return fields[4], nil
		}
	}
	return "", errors.New("no cgroup2 file system is mounted")
}

// controlGroup is the group of one run; the zero value stands for none.
type controlGroup struct {
	path string
	dir  *os.File
}

const groupPrefix = "exec-"

func newControlGroup(parent string) (controlGroup, error) {
	if parent == "" {
		return controlGroup{}, nil
	}
	removeEmpty(parent)
	path, err := os.MkdirTemp(parent, fmt.Sprintf("%s%d-", groupPrefix, os.Getpid()))
	if err != nil {
		return controlGroup{}, err
	}
	dir, err := os.OpenFile(path, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		_ = os.Remove(path)
		return controlGroup{}, err
	}
	return controlGroup{path: path, dir: dir}, nil
}

// removeEmpty removes the groups that an earlier daemon left and whose last
// process has ended since; the kernel refuses to remove the others. Those of a
// process that lives, this one or another daemon beside it, stay: one may be about
// to get its first process.
func removeEmpty(parent string) {
	old, _ := filepath.Glob(filepath.Join(parent, groupPrefix+"*"))
	for _, path := range old {
		maker, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), groupPrefix), "-")
		if pid, err := strconv.Atoi(maker); err == nil && errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			_ = unix.Rmdir(path)
		}
	}
}

func (g controlGroup) kill() {
	if g.dir != nil {
		_ = os.WriteFile(filepath.Join(g.path, "cgroup.kill"), []byte("1"), 0) // awaitGone notices when it did not work
	}
}

// processes returns those in the group and in groups that the program made below it.
func (g controlGroup) processes() []int {
	var pids []int
	for _, dir := range g.tree() {
		data, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		for _, s := range strings.Fields(string(data)) {
			if pid, err := strconv.Atoi(s); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// tree returns the directories of the group, each before those below it.
func (g controlGroup) tree() []string {
	if g.dir == nil {
		return nil
	}
	var dirs []string
	_ = filepath.WalkDir(g.path, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil // what is gone meanwhile is gone
	})
	return dirs
}

func (g controlGroup) close() {
	for _, dir := range slices.Backward(g.tree()) {
		_ = unix.Rmdir(dir) // refused while something lives there that the program meant to leave
	}
	if g.dir != nil {
		g.dir.Close()
	}
}
