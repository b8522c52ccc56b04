package container

// A process of which the kernel says that it is still the same, and the socket
// beneath its root directory. Links in a path inside the container lead where they
// do for the container, never to the host.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// process is a running process, held by pidfd and root so that its number cannot
// come to mean another.
type process struct {
	pid        int
	pidfd      int
	root       int
	ticks      uint64   // when it began
	containers []string // ids that its control groups name
}

func openProcess(pid int) (p *process, err error) {
	p = &process{pid: pid, pidfd: -1, root: -1}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if p.pidfd, err = unix.PidfdOpen(pid, 0); err != nil {
		return p, fmt.Errorf("open process %d: %w", pid, err)
	}
	dir := "/proc/" + strconv.Itoa(pid) + "/"
	if p.root, err = unix.Open(dir+"root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return p, p.gone(fmt.Errorf("open the root directory of process %d: %w", pid, hideNotFound(err)))
	}
	stat, err := readSome(dir + "stat")
	if err != nil {
		return p, p.gone(fmt.Errorf("read when process %d began: %w", pid, hideNotFound(err)))
	}
	if p.ticks, err = startTicks(stat); err != nil {
		return p, fmt.Errorf("read when process %d began: %w", pid, err)
	}
	groups, err := readSome(dir + "cgroup")
	if err != nil {
		return p, p.gone(fmt.Errorf("read the control groups of process %d: %w", pid, hideNotFound(err)))
	}
	p.containers = containerIDs(groups)
	if !p.alive() { // then some of it can be another's
		return p, unix.ESRCH
	}
	return p, nil
}

// gone is err, or ESRCH when the process has ended: that is why.
func (p *process) gone(err error) error {
	if !p.alive() {
		return unix.ESRCH
	}
	return err
}

// hideNotFound takes the meaning from an error that is not about the socket.
func hideNotFound(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return errors.New("it is not in /proc")
	}
	return err
}

func (p *process) close() {
	for _, fd := range []int{p.pidfd, p.root} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// alive reports whether the process that was opened has not ended.
func (p *process) alive() bool {
	for {
		fds := []unix.PollFd{{Fd: int32(p.pidfd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		if !errors.Is(err, unix.EINTR) {
			return err == nil && n == 0
		}
	}
}

// maxProc bounds what is read of a file in /proc.
const maxProc = 1 << 14

func readSome(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxProc))
}

// startTicks is field 22 of /proc/PID/stat: clock ticks since the system booted.
// The fields are counted after the name, which is in brackets and can hold some.
func startTicks(stat []byte) (uint64, error) {
	_, after, ok := cutLast(string(stat), ") ")
	fields := strings.Fields(after)
	if !ok || len(fields) < 20 {
		return 0, errors.New("its stat has too few fields")
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

var idPattern = regexp.MustCompile(`(^|[^0-9a-f])([0-9a-f]{64})([^0-9a-f]|$)`)

// containerIDs are the ids of containers in the paths of control groups, none
// where the engine names its groups otherwise.
func containerIDs(groups []byte) []string {
	var ids []string
	for line := range bytes.Lines(groups) {
		for part := range strings.SplitSeq(strings.TrimSpace(string(line)), "/") {
			if m := idPattern.FindStringSubmatch(part); m != nil && !slices.Contains(ids, m[2]) {
				ids = append(ids, m[2])
			}
		}
	}
	return ids
}

// connect connects to the first of the sockets that is there.
func (p *process) connect(ctx context.Context, sockets []string) (net.Conn, error) {
	var err error
	for _, path := range sockets {
		var fd int
		if fd, err = p.openSocket(path); err != nil {
			if errors.Is(err, unix.ENOENT) {
				continue
			}
			return nil, err
		}
		// By its descriptor: what is connected to is what was looked at, and the
		// length of the path does not matter.
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", "/proc/self/fd/"+strconv.Itoa(fd))
		_ = unix.Close(fd)
		if err != nil {
			var op *net.OpError
			if errors.As(err, &op) {
				err = op.Err // without the path, which says nothing
			}
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return conn, nil
	}
	return nil, err
}

// resolveAttempts is how often a path is looked up when somebody renames
// directories meanwhile, which the kernel answers with EAGAIN.
const resolveAttempts = 8

// openSocket looks a path up as the process would.
func (p *process) openSocket(path string) (int, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(p.root, path, &how)
	for i := 1; i < resolveAttempts && (errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR)); i++ {
		fd, err = unix.Openat2(p.root, path, &how)
	}
	if err != nil {
		return -1, fmt.Errorf("%s: %w", path, err)
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		err = errors.New("is not a socket")
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("%s: %w", path, err)
	}
	return fd, nil
}
