package lab

// What keeps a node on: the supervisor, which gives it a fresh network, runs
// systemd-nspawn, and starts it again when the node reboots. It runs in the
// process that owns the lab, or for a kept lab in one of its own.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// rebootStatus is how nspawn ends when it keeps its unit and the node reboots.
const rebootStatus = 133

// identity is a pid with what tells it from a later process of the same pid.
type identity struct {
	PID   int
	Start uint64 // clock ticks after Boot
	Boot  string // boot id of this machine
}

func identify(pid int) (identity, error) {
	st, err := readStat(pid)
	if err != nil {
		return identity{}, err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return identity{PID: pid, Start: st.start, Boot: string(bytes.TrimSpace(boot))}, err
}

func (p identity) alive() bool {
	now, err := identify(p.PID)
	return err == nil && now == p
}

// signal signals the process unless it has ended.
func (p identity) signal(sig syscall.Signal) error {
	proc, err := os.FindProcess(p.PID)
	if err != nil {
		return err
	}
	defer proc.Release()
	if !p.alive() {
		return os.ErrProcessDone
	}
	return proc.Signal(sig)
}

// boot is one boot of a node, as its supervisor writes it down.
type boot struct {
	Count  int // 1 for the node's first boot
	Nspawn identity
	Leader identity // the node's PID 1
}

// running returns the node's current boot once it is complete, else ErrOff.
func (n *Node) running() (boot, error) {
	var b boot
	data, err := os.ReadFile(n.file("boot.json"))
	if err == nil {
		err = json.Unmarshal(data, &b)
	}
	if errors.Is(err, fs.ErrNotExist) || err == nil && !b.Leader.alive() {
		err = ErrOff
	}
	if err != nil {
		return b, fmt.Errorf("node %s: %w", n.name, err)
	}
	return b, nil
}

// On reports whether the node has booted and not ended since. A frozen node is on.
func (n *Node) On() bool {
	_, err := n.running()
	return err == nil
}

// Boots returns how often the node was booted, reboots included.
func (n *Node) Boots() int {
	data, err := os.ReadFile(n.file("boots"))
	if err != nil {
		return 0
	}
	count, _ := strconv.Atoi(string(data))
	return count
}

// WaitBoot waits until the node is on with a boot later than the given one, as
// Boots counts them, and returns which. It is how to wait for a reboot that
// something else caused.
func (n *Node) WaitBoot(ctx context.Context, after int) (int, error) {
	var b boot
	err := poll(ctx, func() (bool, error) {
		var err error
		if b, err = n.running(); err == nil && b.Count > after {
			return true, nil
		}
		off, err := n.isOff()
		if off {
			err = errors.New("it ended before it had booted")
		}
		return false, err
	})
	if err != nil {
		return 0, fmt.Errorf("wait for a boot: %w\n%s", err, n.Console(20))
	}
	return b.Count, nil
}

// isOff reports whether no supervisor holds the node.
func (n *Node) isOff() (bool, error) {
	lock, err := tryLock(n.file("power.lock"), unix.LOCK_SH)
	if errors.Is(err, errLocked) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, lock.Close()
}

// takePower makes the caller the node's supervisor. What it may have to wait for
// is only somebody else's look at whether the node is off.
func (n *Node) takePower(ctx context.Context) (*os.File, error) {
	return waitLock(ctx, n.file("power.lock"), unix.LOCK_EX)
}

// startSupervisor returns when a supervisor holds the node.
func (n *Node) startSupervisor(ctx context.Context) error {
	if off, err := n.isOff(); err != nil {
		return err
	} else if !off {
		return ErrOn
	}
	if n.lab.detached {
		return n.startDetached(ctx)
	}
	power, err := n.takePower(ctx)
	if err != nil {
		return err
	}
	n.lab.supervised.Go(func() {
		defer power.Close()
		// nspawn dies with this thread, and so with this process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		n.supervise()
	})
	return nil
}

// startDetached starts a supervisor that outlives this process.
func (n *Node) startDetached(ctx context.Context) error {
	if len(n.lab.supervisor) == 0 {
		return errors.New("no supervisor command given")
	}
	group, err := labCgroup(n.lab.ID).child("supervisors").createUnified()
	if err != nil {
		return err
	}
	defer group.Close()
	console, err := n.openConsole()
	if err != nil {
		return err
	}
	defer console.Close()
	argv := slices.Concat(n.lab.supervisor, []string{n.lab.ID, n.name})
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = console, console
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, UseCgroupFD: true, CgroupFD: int(group.Fd())}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start a supervisor: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return poll(ctx, func() (bool, error) {
		off, err := n.isOff()
		if err != nil || !off {
			return err == nil, err
		}
		select {
		case err := <-ended:
			return false, fmt.Errorf("the supervisor ended: %w\n%s", err, n.Console(20))
		default:
			return false, nil
		}
	})
}

// Supervise keeps one node of a kept lab on until it ends other than by a reboot.
// It is what Options.Supervisor must run; whoever powered the node on has returned
// long before.
func Supervise(id, node string) error {
	l, err := Attach(id)
	if err != nil {
		return err
	}
	n, err := l.Node(node)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), bootPatience)
	defer cancel()
	power, err := n.takePower(ctx)
	if err != nil {
		return err
	}
	defer power.Close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	n.supervise()
	return nil
}

// supervise boots the node again and again while it ends by a reboot. Errors go
// to the node's console, where those who wait for the boot look.
func (n *Node) supervise() {
	for !n.lab.ending.Load() {
		status, err := n.bootOnce()
		if err := n.unplug(); err != nil {
			n.say("%v", err)
		}
		if err != nil {
			n.say("%v", err)
			return
		}
		n.say("nspawn ended with status %d", status)
		if status != rebootStatus {
			return
		}
	}
}

func (n *Node) openConsole() (*os.File, error) {
	return os.OpenFile(n.file("console.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}

func (n *Node) say(format string, args ...any) {
	console, err := n.openConsole()
	if err != nil {
		return // the state directory is gone, and with it those who could read
	}
	defer console.Close()
	fmt.Fprintf(console, "lab: "+format+"\n", args...)
}

// bootOnce runs nspawn to its end and returns its exit status, -1 after a signal.
func (n *Node) bootOnce() (int, error) {
	console, err := n.openConsole()
	if err != nil {
		return 0, err
	}
	defer console.Close()
	if err := n.plug(); err != nil {
		return 0, err
	}
	if err := n.group.create(); err != nil {
		return 0, err
	}
	notices, err := n.listenNotify()
	if err != nil {
		return 0, err
	}
	cmd, err := n.nspawn()
	if err != nil {
		return 0, errors.Join(err, notices.Close())
	}
	cmd.Stdout, cmd.Stderr = console, console
	if err := cmd.Start(); err != nil {
		return 0, errors.Join(err, notices.Close())
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		if err := n.awaitReady(notices, cmd.Process.Pid); err != nil {
			n.say("%v", err)
		}
	}()
	err = cmd.Wait()
	notices.Close()
	<-read
	if rm := os.Remove(n.file("boot.json")); rm != nil && !errors.Is(rm, fs.ErrNotExist) {
		return 0, rm
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, fmt.Errorf("run nspawn: %w", err)
	}
	return cmd.ProcessState.ExitCode(), nil
}

// nspawn returns the command that boots the node. It is a shell that first moves
// itself into the node's cgroup of every hierarchy: without one of its own nspawn
// would share its place in the tree with the other nodes.
func (n *Node) nspawn() (*exec.Cmd, error) {
	nspawn, err := command("systemd-nspawn")
	if err != nil {
		return nil, err
	}
	var script strings.Builder
	for _, dir := range n.group.dirs() {
		fmt.Fprintf(&script, "echo $$ >'%s/cgroup.procs' || exit\n", dir)
	}
	script.WriteString(`exec "$@"`)
	cmd := exec.Command("/bin/sh", "-c", script.String(), "sh", nspawn,
		"--quiet", "--boot", "--directory="+n.root(), "--machine="+n.space.name, "--hostname="+n.Hostname,
		"--network-namespace-path="+n.NetNS(),
		// No unit, no registration: nothing of the machine's own systemd is needed.
		"--register=no", "--keep-unit", "--notify-ready=yes",
		"--console=read-only", "--resolv-conf=off", "--timezone=off", "--link-journal=no", "--settings=no",
		// A namespace by path brings no CAP_NET_ADMIN with it, unlike a private one.
		"--capability=CAP_NET_ADMIN,CAP_NET_RAW,CAP_IPC_LOCK,CAP_SYS_NICE,CAP_BPF,CAP_PERFMON")
	cmd.Env = append(nodeEnv(),
		"NOTIFY_SOCKET="+n.file("notify"),
		"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1",
		// Else the node cannot set net.* in /proc/sys.
		"SYSTEMD_NSPAWN_API_VFS_WRITABLE=network")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGKILL}
	return cmd, nil
}

func (n *Node) listenNotify() (*net.UnixConn, error) {
	path := n.file("notify")
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: path})
}

// awaitReady reads nspawn's notices until the node's systemd has started all, and
// writes the boot down. It returns when the socket is closed.
func (n *Node) awaitReady(notices *net.UnixConn, nspawn int) error {
	var b boot
	buf := make([]byte, 4096)
	for {
		size, err := notices.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read nspawn's notices: %w", err)
		}
		ready := false
		for line := range strings.Lines(string(buf[:size])) {
			line = strings.TrimSpace(line)
			if v, ok := strings.CutPrefix(line, "X_NSPAWN_LEADER_PID="); ok {
				pid, err := strconv.Atoi(v)
				if err != nil {
					return fmt.Errorf("read nspawn's notice %q: %w", line, err)
				}
				if b.Leader, err = identify(pid); err != nil {
					return fmt.Errorf("identify the node's PID 1: %w", err)
				}
			}
			ready = ready || line == "READY=1"
		}
		if !ready || b.Leader.PID == 0 {
			continue
		}
		if b.Nspawn, err = identify(nspawn); err != nil {
			return fmt.Errorf("identify nspawn: %w", err)
		}
		if err := n.record(b); err != nil {
			return err
		}
	}
}

func (n *Node) record(b boot) error {
	b.Count = n.Boots() + 1
	if err := os.WriteFile(n.file("boots"), []byte(strconv.Itoa(b.Count)), 0o600); err != nil {
		return err
	}
	data, err := json.Marshal(b)
	if err != nil {
		return err
	}
	return renameio.WriteFile(n.file("boot.json"), data, 0o600)
}

// root is where the node's disk is mounted on this machine.
func (n *Node) root() string { return n.file("root") }

// capture runs a program of this machine and returns its output.
func capture(ctx context.Context, name string, args ...string) (string, error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w: %s", filepath.Base(name), err, tail(stderr.Bytes(), 5))
	}
	return string(out), nil
}
