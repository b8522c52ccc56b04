// Package program runs a program of the operator's and everything it forks, from
// the first to the last process.
package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	termGrace = 2 * time.Second        // between SIGTERM and SIGKILL, if nothing else is said
	killWait  = 5 * time.Second        // for the kernel to end what got SIGKILL
	drainWait = 500 * time.Millisecond // for output of a process that is out of reach
	gonePoll  = 10 * time.Millisecond
	stuckPoll = time.Second // of what outlived killWait

	reportLimit = 4 << 10
)

// Program is one that was found and can be started.
type Program struct {
	path       string
	argv       []string
	env        []string
	credential *syscall.Credential
	cgroup     string // parent of the control group of a run, or empty
	whole      bool
	alone      string // what it must not run beside, empty for nothing
	grace      time.Duration
}

// Run starts the program, waits for its end and sees to it that nothing of its
// process group is left. A status other than 0 is an *ExitError. When ctx ends
// first the group gets SIGTERM and after the grace SIGKILL, its control group too where it
// has one, and Run returns when all of it is gone, or with a *StuckError.
func (p Program) Run(ctx context.Context, out *Output) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("run %s: %w", p.argv[0], err)
	}
	if earlier := stuckRuns.of(p.alone); earlier != nil {
		return earlier
	}
	group, err := newControlGroup(p.cgroup)
	if err != nil {
		return fmt.Errorf("run %s: %w", p.argv[0], err)
	}
	stuck := false
	defer func() {
		if !stuck {
			group.close()
		}
	}()
	started, err := p.start(group, out)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.argv[0], err)
	}
	defer started.report.Close()
	pid := started.cmd.Process.Pid
	ended := await(ctx, pid, p.grace)
	// The leader is dead or dying but not reaped: its id, and so the group's,
	// cannot have gone to somebody else.
	_ = syscall.Kill(-pid, syscall.SIGKILL)
	whole := p.whole || !ended
	if whole {
		group.kill()
	}
	if left := awaitGone(pid, group, whole, time.Now().Add(killWait), gonePoll); len(left) > 0 {
		started.copied.stop()
		stuck = true
		gone := make(chan struct{})
		go func() { // ends when the kernel lets go of the last
			defer close(gone)
			awaitGone(pid, group, whole, time.Time{}, stuckPoll)
			_ = started.cmd.Wait()
			group.close()
		}()
		e := &StuckError{Program: p.argv[0], Left: left, Gone: gone}
		stuckRuns.add(p.alone, e)
		return e
	}
	waited := started.cmd.Wait()
	started.copied.stop()
	if why := started.failure(); why != "" {
		return fmt.Errorf("start %s: %s", p.argv[0], why)
	}
	if !ended {
		return fmt.Errorf("%s: %w%s", p.argv[0], context.Cause(ctx), quoted(LastLine(out.Bytes())))
	}
	return p.verdict(waited, out)
}

func quoted(line string) string {
	if line == "" {
		return ""
	}
	return ": " + line
}

func (p Program) verdict(err error, out *Output) error {
	exit := (*exec.ExitError)(nil)
	if !errors.As(err, &exit) {
		return err
	}
	e := &ExitError{Program: p.argv[0], Status: exit.ExitCode(), LastLine: LastLine(out.Bytes())}
	if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		e.Signal = ws.Signal()
	}
	return e
}

// running is a program from its start to its end.
type running struct {
	cmd    *exec.Cmd
	copied *copying
	report *os.File // why the launcher did not become the program
}

func (p Program) start(group controlGroup, out *Output) (*running, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	report, says, err := os.Pipe()
	if err != nil {
		r.Close()
		return nil, err
	}
	defer says.Close()
	cmd := &exec.Cmd{
		Path: launcherPath, Args: p.launcher(), Env: p.env, Dir: "/", Stdout: w, Stderr: w,
		ExtraFiles:  []*os.File{says}, // reportFD
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
	}
	if group.dir != nil {
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(group.dir.Fd())
	}
	if err := cmd.Start(); err != nil {
		r.Close()
		report.Close()
		return nil, err
	}
	c := &copying{from: r, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		_, _ = io.Copy(out, r) // ends at end of file or at the deadline that stop sets
	}()
	return &running{cmd, c, report}, nil
}

// failure returns why the program did not start; the leader has ended.
func (r *running) failure() string {
	_ = r.report.SetReadDeadline(time.Now().Add(drainWait))
	why, _ := io.ReadAll(io.LimitReader(r.report, reportLimit)) // empty at once when it did start
	return string(why)
}

type copying struct {
	from *os.File
	done chan struct{}
}

// stop waits for the rest of the output, but not for a process out of reach
// that keeps the pipe open.
func (c *copying) stop() {
	_ = c.from.SetReadDeadline(time.Now().Add(drainWait))
	<-c.done
	c.from.Close()
}

// await waits until the leader ended and reports whether it did so before ctx.
// After ctx the group is asked to end, and await returns when it did or when the
// grace is over.
func await(ctx context.Context, pid int, grace time.Duration) bool {
	exited := make(chan struct{})
	go func() { // ends with the leader, which gets SIGKILL at the latest
		defer close(exited)
		for {
			// WNOWAIT leaves a zombie behind, which keeps the id taken.
			err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
			if !errors.Is(err, unix.EINTR) {
				return
			}
		}
	}()
	select {
	case <-exited:
		return true
	case <-ctx.Done():
	}
	_ = syscall.Kill(-pid, syscall.SIGTERM)
	_ = syscall.Kill(-pid, syscall.SIGCONT) // a stopped process would not notice
	limit := time.Now().Add(grace)
	for len(members(pid)) > 0 && time.Now().Before(limit) {
		time.Sleep(gonePoll)
	}
	return false
}

// awaitGone waits until no live process is left in the group of pid, and with
// whole in its control group. It returns those that are left at the limit, if there
// is one.
func awaitGone(pid int, group controlGroup, whole bool, limit time.Time, every time.Duration) []int {
	for ; ; time.Sleep(every) {
		left := members(pid)
		if whole {
			left = append(left, group.processes()...)
		}
		if len(left) == 0 || !limit.IsZero() && time.Now().After(limit) {
			return left
		}
	}
}

// members returns the processes of a group that still run; zombies do not.
func members(pgid int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // gone meanwhile
		}
		// pid (comm) state ppid pgrp: comm may hold anything, parentheses too.
		f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(f) > 2 && f[2] == strconv.Itoa(pgid) && f[0] != "Z" && f[0] != "X" {
			pids = append(pids, pid)
		}
	}
	return pids
}
