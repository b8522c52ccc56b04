package program

// Between fork and exec the Go runtime stands still: it cannot stop the world, and
// the next garbage collection holds up every goroutine until the exec is over. That
// of a program on a dead file server is never over. So a process starts only itself,
// which is in memory, and its child makes itself what a program expects and becomes
// the program.

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// LauncherName is what a process is called that has not become its program yet.
	LauncherName = "tanist: starts a program"
	launcherPath = "/proc/self/exe"
	// reportFD is where a launcher says why it did not become the program. It closes
	// when it does.
	reportFD = 3
	// launchArgs stand before the program's own: LauncherName, path and account.
	launchArgs = 3
	// noProgram is the exit status of a launcher that remained one.
	noProgram = 127
	// ownUmask is not the daemon's: what a program creates is the program's to protect.
	ownUmask = 0o022

	lastSignal = 64
	sigsetSize = 8 // of the kernel's, in bytes
)

// In an init and not in main, for the tests of every package that starts programs.
//
//nolint:gochecknoinits // the process that starts programs is this binary, whatever else it is
func init() {
	if len(os.Args) > launchArgs && os.Args[0] == LauncherName {
		err := launch(os.Args[1], os.Args[2], os.Args[launchArgs:])
		_, _ = unix.Write(reportFD, []byte(err.Error()))
		os.Exit(noProgram) //nolint:forbidigo // a process of its own, and no daemon
	}
}

// launcher is the argument vector that starts p.
func (p Program) launcher() []string {
	return append([]string{LauncherName, p.path, accountText(p.credential)}, p.argv...)
}

// launch becomes the program, and returns only an error.
func launch(path, account string, argv []string) error {
	runtime.LockOSThread() // nice values and schedulers are a thread's, and this one stays
	closeOnExec()
	ordinary()
	unix.Umask(ownUmask)
	if err := become(account); err != nil {
		return err
	}
	defaultSignals()
	return syscall.Exec(path, argv, os.Environ()) //nolint:gosec // running the operator's programs is what it is for
}

// defaultSignals blocks and ignores none, whatever the daemon inherited or hears.
func defaultSignals() {
	var none [64]byte // larger than the kernel's struct sigaction; zero is SIG_DFL
	for s := uintptr(1); s <= lastSignal; s++ {
		_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, s, uintptr(unsafe.Pointer(&none)), 0, sigsetSize, 0, 0) //nolint:gosec // no wrapper has it
	}
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, new(unix.Sigset_t), nil)
}

// closeOnExec keeps from the program what whoever started the daemon left open.
func closeOnExec() {
	if unix.CloseRange(reportFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC) == nil {
		return
	}
	entries, _ := os.ReadDir("/proc/self/fd") // Linux before 5.11
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd >= reportFD {
			unix.CloseOnExec(fd)
		}
	}
}

// ordinary gives up the precedence that the daemon has over everything else: a hook
// must not starve a database, nor survive it when memory is short. Without the right
// to do so the hook runs as it is.
func ordinary() {
	if a, err := unix.SchedGetAttr(0, 0); err == nil && a.Policy != unix.SCHED_NORMAL && a.Policy != unix.SCHED_BATCH && a.Policy != unix.SCHED_IDLE {
		_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}, 0)
	}
	if raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err == nil && raw > 20 { // the kernel's scale: 20 minus nice
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 0)
	}
	if own, err := os.ReadFile("/proc/self/oom_score_adj"); err == nil && own[0] == '-' {
		_ = os.WriteFile("/proc/self/oom_score_adj", []byte("0"), 0)
	}
}

// accountText writes down a credential for become, "-" for none.
func accountText(c *syscall.Credential) string {
	if c == nil {
		return "-"
	}
	ids := []string{strconv.FormatUint(uint64(c.Uid), 10), strconv.FormatUint(uint64(c.Gid), 10)}
	for _, g := range c.Groups {
		ids = append(ids, strconv.FormatUint(uint64(g), 10))
	}
	return strings.Join(ids, ",")
}

var errAccount = errors.New("not a list of ids")

// become takes on an account.
func become(account string) error {
	if account == "-" {
		return nil
	}
	var ids []int
	for s := range strings.SplitSeq(account, ",") {
		id, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return fmt.Errorf("account %q: %w", account, errAccount)
		}
		ids = append(ids, int(id))
	}
	if len(ids) < 2 {
		return fmt.Errorf("account %q: %w", account, errAccount)
	}
	if err := syscall.Setgroups(ids[2:]); err != nil {
		return fmt.Errorf("set groups: %w", err)
	}
	if err := syscall.Setgid(ids[1]); err != nil {
		return fmt.Errorf("set group %d: %w", ids[1], err)
	}
	if err := syscall.Setuid(ids[0]); err != nil {
		return fmt.Errorf("set user %d: %w", ids[0], err)
	}
	return nil
}
