package lab

// Programs inside a node or in the switch. Each runs in a cgroup of its own
// below the place's, so it freezes and dies with the node, and ending it ends
// all that it started.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// outputDelay bounds how long Wait waits for children of an ended command that
// still hold its output.
const outputDelay = 2 * time.Second

// Command is a program to run in a node or in the switch.
type Command struct {
	Argv           []string
	Env            []string // beyond PATH, HOME, LANG and TERM in a node, the caller's in the switch
	Stdin          io.Reader
	Stdout, Stderr io.Writer // nil: Run captures it, Start discards it
}

// ExitError is a command that ran and did not succeed.
type ExitError struct {
	Argv           []string
	Code           int // -1 when a signal ended it
	Stdout, Stderr string
	err            error
}

// Error shows the end of what the command wrote to stderr, or else to stdout.
func (e *ExitError) Error() string {
	said := e.Stderr
	if said == "" {
		said = e.Stdout
	}
	return fmt.Sprintf("%s: %v: %s", strings.Join(e.Argv, " "), e.err, tail([]byte(said), 5))
}

// Unwrap returns the *exec.ExitError below.
func (e *ExitError) Unwrap() error { return e.err }

// Process is a command that was started.
type Process struct {
	// PID is the command's process id on this machine, 0 when the command ended
	// before it could be seen. In a node the command itself knows another one.
	PID int

	argv  []string
	cmd   *exec.Cmd
	group cgroup
	proc  *os.Process // PID's, nil when that is 0
	done  chan struct{}
	err   error
}

// runner starts commands in one place.
type runner struct {
	group cgroup
	// wrap returns the program of this machine that enters the place and runs
	// argv there, and whether it forks to do so.
	wrap func(argv []string) (cmd []string, forks bool, err error)
	env  func() []string
}

var execCount atomic.Int64

// Exec runs a command to its end and returns what it wrote to stdout. Anything
// but exit status 0 is an *ExitError. When ctx ends the command is killed with all
// that it started.
func (r runner) Exec(ctx context.Context, argv ...string) (string, error) {
	return r.Run(ctx, Command{Argv: argv})
}

// Run is Exec for a command that needs input, environment or its output elsewhere.
func (r runner) Run(ctx context.Context, c Command) (string, error) {
	var stdout, stderr bytes.Buffer
	if c.Stdout == nil {
		c.Stdout = &stdout
	}
	if c.Stderr == nil {
		c.Stderr = &stderr
	}
	p, err := r.start(ctx, c)
	if err != nil {
		return "", err
	}
	go p.reap()
	err = p.Wait()
	if err != nil && ctx.Err() != nil {
		err = errors.Join(ctx.Err(), err)
	}
	var exit *ExitError
	if errors.As(err, &exit) {
		exit.Stdout, exit.Stderr = stdout.String(), stderr.String()
	}
	return stdout.String(), err
}

// Start starts a command that the caller ends, by ctx or by the Process. A power
// cut of its node ends it as well.
func (r runner) Start(ctx context.Context, c Command) (*Process, error) {
	p, err := r.start(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := p.identify(ctx); err != nil {
		return nil, errors.Join(err, p.group.kill(), p.cmd.Wait())
	}
	go p.reap()
	return p, nil
}

// Replace turns this process into a command in the place, with its terminal and
// all else it has open. It returns only when that fails.
func (r runner) Replace(argv ...string) error {
	enter, _, err := r.wrap(argv)
	if err != nil {
		return err
	}
	group := r.group.child("exec").child(strconv.Itoa(os.Getpid()))
	dir, err := group.createUnified()
	if err != nil {
		return err
	}
	dir.Close()
	if err := os.WriteFile(group.file("cgroup.procs"), []byte("0"), 0); err != nil {
		return fmt.Errorf("enter cgroup: %w", err)
	}
	env := append(r.env(), "TERM="+os.Getenv("TERM"))
	return fmt.Errorf("execute %s: %w", enter[0], unix.Exec(enter[0], enter, env))
}

func (r runner) start(ctx context.Context, c Command) (*Process, error) {
	if len(c.Argv) == 0 {
		return nil, errors.New("run a command: none given")
	}
	argv, forks, err := r.wrap(c.Argv)
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", c.Argv[0], err)
	}
	name := fmt.Sprintf("%d-%d", os.Getpid(), execCount.Add(1))
	p := &Process{argv: c.Argv, group: r.group.child("exec").child(name), done: make(chan struct{})}
	dir, err := p.group.createUnified()
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", c.Argv[0], err)
	}
	defer dir.Close()
	p.cmd = exec.CommandContext(ctx, argv[0], argv[1:]...)
	p.cmd.Env = append(r.env(), c.Env...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = c.Stdin, c.Stdout, c.Stderr
	p.cmd.Cancel = p.group.kill
	p.cmd.WaitDelay = outputDelay
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("run %s: %w", c.Argv[0], err)
	}
	if !forks {
		p.PID = p.cmd.Process.Pid
	}
	return p, nil
}

// identify finds the command behind the program that entered the node.
func (p *Process) identify(ctx context.Context) error {
	entered := p.cmd.Process.Pid
	if p.PID == entered {
		p.proc = p.cmd.Process
		return nil
	}
	err := poll(ctx, func() (bool, error) {
		if pids := children(entered); len(pids) > 0 {
			p.PID = pids[0]
			return true, nil
		}
		return !running(entered), nil
	})
	if err != nil || p.PID == 0 {
		return err
	}
	proc, err := os.FindProcess(p.PID)
	if err != nil {
		return fmt.Errorf("hold on to %s: %w", p.argv[0], err)
	}
	if !slices.Contains(children(entered), p.PID) {
		// It ended meanwhile, so the handle may be on a stranger.
		p.PID = 0
		return proc.Release()
	}
	p.proc = proc
	return nil
}

// reap collects the command once it ended.
func (p *Process) reap() {
	err := p.cmd.Wait()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		p.err = &ExitError{Argv: p.argv, Code: exit.ExitCode(), err: exit}
	case err != nil:
		p.err = fmt.Errorf("run %s: %w", p.argv[0], err)
	}
	// What the command left running keeps the cgroup, and is the node's business.
	_ = unix.Rmdir(p.group.file(""))
	close(p.done)
}

// Done is closed when the command has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the command's end and returns nil for status 0, an *ExitError
// for any other. It may be called more than once.
func (p *Process) Wait() error {
	<-p.done
	return p.err
}

// Signal sends a signal to the command, os.ErrProcessDone when it has ended.
func (p *Process) Signal(sig syscall.Signal) error {
	if p.proc == nil {
		return os.ErrProcessDone
	}
	err := p.proc.Signal(sig)
	if err == nil && sig == unix.SIGCONT && p.proc != p.cmd.Process {
		// nsenter stops itself when its child is stopped.
		err = p.cmd.Process.Signal(sig)
	}
	return err
}

// Stop sends SIGTERM, waits for the command until ctx ends, then kills it with all
// that it started. How the command took it is Wait's to tell.
func (p *Process) Stop(ctx context.Context) error {
	if err := p.Signal(unix.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.argv[0], err)
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	if err := p.group.kill(); err != nil {
		return fmt.Errorf("kill %s: %w", p.argv[0], err)
	}
	<-p.done
	return fmt.Errorf("stop %s: killed: %w", p.argv[0], ctx.Err())
}

// stat is what /proc/PID/stat says about a process's identity.
type stat struct {
	state byte
	start uint64 // in clock ticks since boot: with the pid, an identity
}

func readStat(pid int) (stat, error) {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return stat{}, err
	}
	// The command name in the second field may itself hold ") ".
	_, after, _ := strings.Cut(string(data[bytes.LastIndexByte(data, ')')+1:]), " ")
	f := strings.Fields(after)
	if len(f) < 20 {
		return stat{}, fmt.Errorf("read stat of %d: %d fields", pid, len(f))
	}
	start, err := strconv.ParseUint(f[19], 10, 64)
	return stat{state: f[0][0], start: start}, err
}

// running reports whether a process has not ended yet, reaped or not.
func running(pid int) bool {
	st, err := readStat(pid)
	return err == nil && st.state != 'Z'
}

// children returns the direct children of a process's main thread.
func children(pid int) []int {
	id := strconv.Itoa(pid)
	data, err := os.ReadFile(filepath.Join("/proc", id, "task", id, "children"))
	if err != nil {
		return nil
	}
	var pids []int
	for _, f := range strings.Fields(string(data)) {
		if n, err := strconv.Atoi(f); err == nil {
			pids = append(pids, n)
		}
	}
	return pids
}
