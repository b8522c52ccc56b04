package systemd

// The processes of a unit are those in its control group, whatever the manager
// thinks of the unit.

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// groupRoots is where the manager's hierarchy may be mounted: version 2 alone,
// version 2 beside version 1, and version 1.
var groupRoots = []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"}

// groupRoot finds the mounted hierarchy; empty when there is none.
func groupRoot() string {
	for _, dir := range groupRoots {
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err == nil {
			return dir
		}
	}
	return ""
}

// expectedGroup is the control group that a unit of slice gets. The manager
// forgets the group of a unit that came to rest with processes left in it
// (KillMode=process), and just those must be found.
func expectedGroup(slice, unit string) string {
	name, ok := strings.CutSuffix(slice, ".slice")
	if !ok {
		return ""
	}
	path := "/"
	if name != "-" {
		prefix := ""
		for part := range strings.SplitSeq(name, "-") {
			prefix += part
			path = filepath.Join(path, escapeGroup(prefix+".slice"))
			prefix += "-"
		}
	}
	return filepath.Join(path, escapeGroup(unit))
}

var controllers = []string{
	"cgroup", "cpu", "cpuacct", "cpuset", "io", "blkio", "memory", "devices", "pids",
	"bpf-firewall", "bpf-devices", "bpf-foreign", "bpf-socket-bind", "bpf-restrict-network-interfaces",
}

// escapeGroup follows the manager's rule for names that the kernel would take
// for its own files.
func escapeGroup(name string) string {
	first, _, dotted := strings.Cut(name, ".")
	if strings.HasPrefix(name, "_") || strings.HasPrefix(name, ".") || name == "tasks" ||
		name == "notify_on_release" || name == "release_agent" || (dotted && slices.Contains(controllers, first)) {
		return "_" + name
	}
	return name
}

// processesIn returns the processes in a control group and below, in ascending
// order. A group that does not exist has none.
func processesIn(root, group string) ([]int, error) {
	if root == "" || group == "" || group == "/" {
		return nil, nil
	}
	var pids []int
	err := filepath.WalkDir(filepath.Join(root, group), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed while we walked
		}
		if err != nil || !d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV):
			return nil
		case errors.Is(err, unix.EOPNOTSUPP):
			return nil // a threaded group: its processes stand in the group above
		case err != nil:
			return err
		}
		for _, s := range strings.Fields(string(data)) {
			if pid, err := strconv.Atoi(s); err == nil {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	slices.Sort(pids)
	return slices.Compact(pids), err
}

// signalGroup sends sig to every process in a control group and below. Each is
// held by a descriptor and looked for once more before the signal goes out, so
// that a recycled id is not hit.
func signalGroup(root, group string, sig unix.Signal) error {
	pids, err := processesIn(root, group)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		fd, openErr := unix.PidfdOpen(pid, 0)
		if openErr != nil {
			continue // gone
		}
		now, listErr := processesIn(root, group)
		if listErr == nil && slices.Contains(now, pid) {
			if killErr := unix.PidfdSendSignal(fd, sig, nil, 0); killErr != nil && !errors.Is(killErr, unix.ESRCH) {
				err = errors.Join(err, killErr)
			}
		}
		unix.Close(fd)
	}
	return err
}
