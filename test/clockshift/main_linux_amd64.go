package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// From linux/auxvec.h.
const (
	atNull        = 0
	atIgnore      = 1
	atSysinfoEHDR = 33
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "clockshift:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: clockshift DURATION PROGRAM [ARGUMENT...]")
	}
	by, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	runtime.LockOSThread() // a tracer is a thread
	if err := reportWallClock(); err != nil {
		return err
	}
	told := make(chan os.Signal, 8)
	signal.Notify(told, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	cmd := exec.Command(args[1], args[2:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", args[1], err)
	}
	go func() { // what this is told is meant for the program, whose end is this one's
		for s := range told {
			_ = cmd.Process.Signal(s)
		}
	}()
	return trace(cmd.Process.Pid, by)
}

// reportWallClock makes the kernel report to a tracer that a program that this thread
// starts asks for CLOCK_REALTIME.
func reportWallClock() error {
	raw, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 0, Size: 4}, // struct seccomp_data: nr
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.SYS_CLOCK_GETTIME, SkipTrue: 3},
		bpf.LoadAbsolute{Off: 16, Size: 4}, // args[0], the lower half
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.CLOCK_REALTIME, SkipTrue: 1},
		bpf.RetConstant{Val: unix.SECCOMP_RET_TRACE},
		bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW},
	})
	if err != nil {
		return err
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, in := range raw {
		filter[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0); err != nil {
		return fmt.Errorf("set the filter: %w", err)
	}
	return nil
}

// trace serves the program until it ends.
func trace(pid int, by time.Duration) error {
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, unix.WALL, nil); err != nil {
		return fmt.Errorf("wait for the start: %w", err)
	}
	if err := hideVDSO(pid); err != nil {
		return err
	}
	if err := unix.PtraceSetOptions(pid, unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_TRACESECCOMP|unix.PTRACE_O_EXITKILL); err != nil {
		return fmt.Errorf("trace: %w", err)
	}
	thread, deliver := pid, 0
	for {
		if err := unix.PtraceCont(thread, deliver); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("go on: %w", err)
		}
		for {
			var err error
			if thread, err = unix.Wait4(-1, &status, unix.WALL, nil); err != nil && !errors.Is(err, unix.EINTR) {
				return fmt.Errorf("wait: %w", err)
			}
			if thread == pid && (status.Exited() || status.Signaled()) {
				if status.Exited() && status.ExitStatus() == 0 {
					return nil
				}
				return fmt.Errorf("the program ended: %v", status)
			}
			if status.Stopped() {
				break
			}
		}
		deliver = 0
		switch stop := status.StopSignal(); {
		case status.TrapCause() == unix.PTRACE_EVENT_SECCOMP:
			if err := answer(thread, by); err != nil {
				return err
			}
		case stop != unix.SIGTRAP && stop != unix.SIGSTOP: // a new thread begins with SIGSTOP
			deliver = int(stop)
		}
	}
}

// answer answers for the kernel. A system call of number -1 is none.
func answer(thread int, by time.Duration) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(thread, &regs); err != nil {
		return fmt.Errorf("read a system call: %w", err)
	}
	now := time.Now().Add(by).UnixNano()
	spec := binary.NativeEndian.AppendUint64(nil, uint64(now/int64(time.Second)))
	spec = binary.NativeEndian.AppendUint64(spec, uint64(now%int64(time.Second)))
	if _, err := unix.PtracePokeData(thread, uintptr(regs.Rsi), spec); err != nil {
		return fmt.Errorf("write the time: %w", err)
	}
	regs.Orig_rax, regs.Rax = ^uint64(0), 0
	if err := unix.PtraceSetRegs(thread, &regs); err != nil {
		return fmt.Errorf("answer a system call: %w", err)
	}
	return nil
}

// hideVDSO takes the vDSO out of what the kernel tells a program at its start: above
// the stack pointer the number of arguments, these, the environment, and pairs.
func hideVDSO(pid int) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(pid, &regs); err != nil {
		return fmt.Errorf("read the stack pointer: %w", err)
	}
	at := uintptr(regs.Rsp)
	word := func() (uint64, error) {
		var b [8]byte
		_, err := unix.PtracePeekData(pid, at, b[:])
		at += 8
		return binary.NativeEndian.Uint64(b[:]), err
	}
	if _, err := word(); err != nil {
		return fmt.Errorf("read the stack: %w", err)
	}
	for range 2 { // arguments and environment, each up to a null
		for {
			w, err := word()
			if err != nil {
				return fmt.Errorf("read the stack: %w", err)
			}
			if w == 0 {
				break
			}
		}
	}
	for {
		kind, err := word()
		switch {
		case err != nil:
			return fmt.Errorf("read the stack: %w", err)
		case kind == atNull:
			return errors.New("the program has no vDSO to hide")
		case kind == atSysinfoEHDR:
			_, err := unix.PtracePokeData(pid, at-8, binary.NativeEndian.AppendUint64(nil, atIgnore))
			return err
		}
		at += 8
	}
}
