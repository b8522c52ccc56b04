package pair

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The tracer holds all threads of a daemon and counts its calls that reach one file,
// whichever thread makes them: the runtime moves a writer from thread to thread. At the
// call that is wanted the daemon is killed, before the kernel carries it out. It is a
// process of its own, as a tracer's threads must not have other children, and a tracer
// that ends lets go of what it holds.

// tracerFor tells the test binary to be a tracer: pid, number of the call, which, file.
const tracerFor = "TANIST_PAIR_TRACER"

const attached = "attached\n"

// tracer is the process that holds pid until its nth call, which it ends with.
func tracer(ctx context.Context, pid int, call uintptr, nth int, file string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d %d %s", tracerFor, pid, call, nth, file))
	return cmd, nil
}

// traceAsTold is the tracer's main. It returns when the daemon has ended.
func traceAsTold(order string) int {
	runtime.LockOSThread()
	var pid, nth int
	var h held
	_, err := fmt.Sscanf(order, "%d %d %d %s", &pid, &h.call, &nth, &h.file)
	if err == nil {
		h.pid = pid
		err = h.until(nth)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// held is a traced process.
type held struct {
	pid   int
	call  uintptr
	file  string
	count int
}

func (h *held) until(nth int) error {
	if err := h.seize(); err != nil {
		return err
	}
	fmt.Fprint(os.Stderr, attached)
	for {
		var ws unix.WaitStatus
		tid, err := unix.Wait4(-1, &ws, unix.WALL, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ECHILD): // all of it has ended
			if h.count < nth {
				return fmt.Errorf("it ended after %d such calls", h.count)
			}
			return nil
		case err != nil:
			return fmt.Errorf("wait for it: %w", err)
		case !ws.Stopped():
			continue
		}
		if h.entered(tid, ws) {
			h.count++
			fmt.Fprintf(os.Stderr, "call %d, of thread %d\n", h.count, tid)
			if h.count == nth {
				if err := unix.Kill(h.pid, unix.SIGKILL); err != nil {
					return fmt.Errorf("kill it: %w", err)
				}
			}
		}
		if err := goOn(tid, ws); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("let thread %d go on: %w", tid, err)
		}
	}
}

const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE

// seize takes all threads. One that a thread makes meanwhile is seen in the next round,
// and those that a held one makes are held.
func (h *held) seize() error {
	have := map[int]bool{}
	for range 100 {
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", h.pid))
		if err != nil {
			return err
		}
		fresh := false
		for _, e := range threads {
			tid, err := strconv.Atoi(e.Name())
			if err != nil || have[tid] {
				continue
			}
			have[tid], fresh = true, true
			if err := ptrace(unix.PTRACE_SEIZE, tid, 0, options); err != nil && !errors.Is(err, unix.ESRCH) && !traced(h.pid, tid) {
				return fmt.Errorf("seize thread %d: %w", tid, err)
			}
			if err := ptrace(unix.PTRACE_INTERRUPT, tid, 0, 0); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("interrupt thread %d: %w", tid, err)
			}
		}
		if !fresh {
			return nil
		}
	}
	return errors.New("it makes threads without end")
}

// traced reports whether a thread is held already, by this process: its maker was.
func traced(pid, tid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/status", pid, tid))
	return err == nil && slices.ContainsFunc(strings.Split(string(status), "\n"), func(l string) bool {
		return l == "TracerPid:\t"+strconv.Itoa(os.Getpid())
	})
}

// callInfo is struct ptrace_syscall_info as far as an entry needs it.
type callInfo struct {
	op     uint8
	_      [3]uint8
	_      uint32
	_, _   uint64
	number uint64
	args   [6]uint64
}

const atEntry = 1 // PTRACE_SYSCALL_INFO_ENTRY

// entered reports whether a thread is about to make the call on the file.
func (h *held) entered(tid int, ws unix.WaitStatus) bool {
	if ws.StopSignal() != syscall.SIGTRAP|0x80 {
		return false
	}
	var info callInfo
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(tid), unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0)
	if errno != 0 || info.op != atEntry || uintptr(info.number) != h.call {
		return false
	}
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", h.pid, int32(info.args[0])))
	return err == nil && path == h.file
}

// goOn lets a thread run to its next call, with the signal that it was to get.
func goOn(tid int, ws unix.WaitStatus) error {
	sig := ws.StopSignal()
	switch event := int(ws) >> 16; {
	case event == unix.PTRACE_EVENT_STOP && sig != syscall.SIGTRAP: // stopped with its process
		return ptrace(unix.PTRACE_LISTEN, tid, 0, 0)
	case event != 0, sig == syscall.SIGTRAP|0x80:
		sig = 0
	}
	return ptrace(unix.PTRACE_SYSCALL, tid, 0, uintptr(sig))
}

func ptrace(request, tid int, addr, data uintptr) error {
	if _, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), addr, data, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// The call at which a process is killed is not carried out, and those before it are.
func TestTracer(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	file := filepath.Join(t.TempDir(), "f")
	victim := exec.Command("sh", "-c", `exec 3>>"$1"; read go; for i in 1 2 3 4 5; do printf $i >&3; done; read go`, "sh", file)
	stdin, err := victim.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	cmd, err := tracer(within(t), victim.Process.Pid, unix.SYS_WRITE, 3, file)
	if err != nil {
		t.Fatal(err)
	}
	said, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(said)
	first, err := lines.ReadString('\n')
	if err != nil || first != attached {
		t.Fatalf("%q, %v", first, err)
	}
	if _, err := io.WriteString(stdin, "go\n"); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(lines)
	if ended := cmd.Wait(); err != nil || ended != nil {
		t.Errorf("%v, %v: %s", err, ended, rest)
	}
	_ = victim.Wait()
	if ws, ok := victim.ProcessState.Sys().(syscall.WaitStatus); !ok || ws.Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %v", victim.ProcessState)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "12" {
		t.Errorf("it wrote %q, %v", b, err)
	}
}
