package mysql

// A server behind a unix socket is a process of this host that the kernel names.
// A descriptor of it, taken while it answered, stays that process's: it tells at
// once when the process has ended, and no other process is hit by its signals.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is one process of this host, held by a descriptor.
type process struct {
	pid int
	fd  *os.File // a pidfd in the runtime's poller
}

// errNoProcess is the error of holding a process that is not there.
var errNoProcess = errors.New("no such process")

// holdProcess takes hold of a process by its id.
func holdProcess(pid int) (*process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, errNoProcess
	}
	if err != nil {
		return nil, fmt.Errorf("hold process %d: %w", pid, err)
	}
	// Without this the runtime would not put it into its poller.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("hold process %d: %w", pid, err)
	}
	return &process{pid: pid, fd: os.NewFile(uintptr(fd), "pidfd")}, nil
}

// again returns another descriptor of the same process, to wait with.
func (p *process) again() (*process, error) {
	q, err := holdProcess(p.pid)
	if err != nil {
		return nil, err
	}
	if p.ended() { // the id may be another process's by now
		q.close()
		return nil, errNoProcess
	}
	return q, nil
}

func (p *process) close() { _ = p.fd.Close() }

// ended reports whether no thread of the process is left.
func (p *process) ended() bool {
	ended := false
	c, err := p.fd.SyscallConn()
	if err == nil {
		err = c.Control(func(fd uintptr) { ended = readable(fd) })
	}
	return err != nil || ended
}

func readable(fd uintptr) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return err == nil && n > 0
}

// await waits for the process to end. One caller at a time may wait.
func (p *process) await(ctx context.Context) error {
	c, err := p.fd.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = p.fd.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := c.Read(readable); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("wait for process %d: %w", p.pid, err)
	}
	return nil
}

func (p *process) kill() error {
	c, err := p.fd.SyscallConn()
	if err != nil {
		return err
	}
	var killErr error
	err = c.Control(func(fd uintptr) { killErr = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) })
	if errors.Is(killErr, unix.ESRCH) {
		killErr = nil
	}
	return errors.Join(err, killErr)
}

// processBehind takes hold of the process that listens on the other side.
func processBehind(c net.Conn) (*process, error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil, errors.New("not a socket")
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, err
	}
	if credErr != nil {
		return nil, fmt.Errorf("ask the kernel who listens: %w", credErr)
	}
	if cred.Pid <= 0 {
		return nil, errors.New("who listens is out of sight, in a process namespace of its own")
	}
	return holdProcess(int(cred.Pid))
}

// serverNames are what database servers call themselves, attendantNames what
// belongs to them and would start them again, both as the kernel cuts them.
var (
	serverNames    = []string{"mariadbd", "mysqld", "mysqld-debug"}
	attendantNames = []string{
		"mariadbd-safe", "mysqld_safe", "mysqld-safe", "mariadbd-safe-h", "mysqld_safe_hel", "logger",
	}
)

// processName reads what a process calls itself; empty when it is gone.
func processName(pid int) string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(b), "\n")
}

func isServer(pid int) bool { return slices.Contains(serverNames, processName(pid)) }

// processState is the letter of a process's state, and what a D means.
func processState(pid int) string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "gone"
	}
	_, rest, _ := strings.Cut(string(b[strings.LastIndexByte(string(b), ')')+1:]), " ")
	letter, _, _ := strings.Cut(rest, " ")
	if letter == "D" {
		return "D, the kernel waits for a disk"
	}
	return letter
}
