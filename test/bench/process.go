package main

// A daemon with all its processes: started inside a router, hit with signals, and
// asked what it costs.

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/test/probe"
)

// endTime is what a daemon gets after SIGTERM before it is killed.
const endTime = 10 * time.Second

// process is one started daemon. Its children are found when they are needed:
// keepalived is two processes.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// start starts a daemon inside a router. What it writes is appended to log.
func (s *space) start(log string, realtime bool, argv ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the process has its own descriptor
	p := &process{cmd: exec.Command(argv[0], argv[1:]...), log: log, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	// The death signal comes when the thread ends that started the process, and
	// that is the namespace's.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	begin := p.cmd.Start
	if realtime {
		begin = func() error {
			// A child has its parent's policy.
			err := probe.Schedule(unix.SCHED_RR, probe.DaemonPriority)
			if err == nil {
				err = p.cmd.Start()
			}
			return errors.Join(err, probe.Schedule(unix.SCHED_NORMAL, 0))
		}
	}
	if err := s.do(begin); err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // how it ended is for those who ended it
	}()
	return p, nil
}

// alive reports whether the daemon's first process has not ended.
func (p *process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// pids returns the daemon's processes, the first one first.
func (p *process) pids() []int {
	if !p.alive() {
		return nil
	}
	all := []int{p.cmd.Process.Pid}
	for i := 0; i < len(all); i++ {
		all = append(all, children(all[i])...)
	}
	return all
}

// children returns the children of all threads of a process.
func children(pid int) []int {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil
	}
	var pids []int
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		for _, word := range strings.Fields(string(data)) {
			if child, err := strconv.Atoi(word); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

// signal sends a signal to every process of the daemon.
func (p *process) signal(sig syscall.Signal) error {
	var errs []error
	for _, pid := range p.pids() {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, fmt.Errorf("send %v to %d: %w", sig, pid, err))
		}
	}
	return errors.Join(errs...)
}

// kill ends all processes of the daemon at once: stopped first, so that none
// starts another one or says goodbye, then the youngest first.
func (p *process) kill() error {
	if err := p.signal(unix.SIGSTOP); err != nil {
		return err
	}
	pids := p.pids()
	for i := len(pids) - 1; i >= 0; i-- {
		if err := syscall.Kill(pids[i], unix.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill %d: %w", pids[i], err)
		}
	}
	if err := p.await(endTime); err != nil {
		return err
	}
	for _, orphan := range pids[min(1, len(pids)):] {
		reap(orphan)
	}
	return nil
}

// adoptOrphans makes this process the parent of those whose own has ended, so
// that nobody else has to collect them.
func adoptOrphans() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("adopt orphans: %w", err)
	}
	return nil
}

// reap collects a killed orphan; one that is not ours is no trouble.
func reap(pid int) {
	for range 100 {
		got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
		if got != 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		time.Sleep(time.Millisecond) // its parent's end is known before it is ours
	}
}

// terminate sends SIGTERM to the first process and does not wait.
func (p *process) terminate() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end %s: %w", p.cmd.Path, err)
	}
	return nil
}

func (p *process) await(limit time.Duration) error {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-p.done:
		return nil
	case <-t.C:
		return fmt.Errorf("%s has not ended after %s", p.cmd.Path, limit)
	}
}

// end ends a daemon that is no longer of interest.
func (p *process) end() error {
	if !p.alive() {
		return nil
	}
	if err := p.kill(); err != nil {
		return err
	}
	return p.await(endTime)
}

// tail returns the last lines of the daemon's log.
func (p *process) tail(lines int) string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// cpu returns the time that all processes have had on a core, user and system:
// what utime and stime of /proc/PID/stat are scaled from, in nanoseconds.
func (p *process) cpu() (time.Duration, error) {
	var sum time.Duration
	for _, pid := range p.pids() {
		var ts unix.Timespec
		if err := unix.ClockGettime(cpuClock(pid), &ts); err != nil {
			return 0, fmt.Errorf("read the CPU clock of %d: %w", pid, err)
		}
		sum += time.Duration(ts.Nano())
	}
	return sum, nil
}

// cpuClock is the clock of a process's CPU time, clock_getcpuclockid(3).
func cpuClock(pid int) int32 {
	const scheduler = 2 // CPUCLOCK_SCHED
	return int32(^pid)<<3 | scheduler
}

// memory returns what all processes have in memory, in bytes: whole, and with
// shared pages divided among those that share them.
func (p *process) memory() (rss, pss int64, err error) {
	for _, pid := range p.pids() {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, 0, err
		}
		r, s, err := parseMemory(data)
		if err != nil {
			return 0, 0, fmt.Errorf("memory of %d: %w", pid, err)
		}
		rss, pss = rss+r, pss+s
	}
	return rss, pss, nil
}

func parseMemory(smaps []byte) (rss, pss int64, err error) {
	found := 0
	for lines := bufio.NewScanner(bytes.NewReader(smaps)); lines.Scan(); {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		var to *int64
		switch name {
		case "Rss":
			to = &rss
		case "Pss":
			to = &pss
		default:
			continue
		}
		if _, err := fmt.Sscanf(rest, "%d kB", to); err != nil {
			return 0, 0, fmt.Errorf("read %s: %w", name, err)
		}
		*to *= 1024
		found++
	}
	if found != 2 {
		return 0, 0, fmt.Errorf("%d of Rss and Pss", found)
	}
	return rss, pss, nil
}

// pollInterval is the time between two looks at a condition outside this process.
const pollInterval = 20 * time.Millisecond

// poll waits until cond returns nil, at most until ctx ends.
func poll(ctx context.Context, what string, cond func(context.Context) error) error {
	t := time.NewTicker(pollInterval)
	defer t.Stop()
	last := errors.New("never looked")
	for {
		err := cond(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w (%w)", what, last, ctx.Err())
		case <-t.C:
		}
	}
}

// pause waits for a time that is part of a measurement.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
