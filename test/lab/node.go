package lab

// A node: one of the two hosts, and the verbs that change its power.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Node is one host of the lab.
type Node struct {
	space
	runner
	Hostname string

	lab      *Lab
	name     string // a or b
	serverID byte   // MariaDB's server_id; 10 more is the host part of its addresses
	dir      string
	group    cgroup
}

func newNode(l *Lab, name, hostname string, serverID byte) *Node {
	n := &Node{
		space: space{name: netnsName(l.ID, name)}, Hostname: hostname,
		lab: l, name: name, serverID: serverID,
		dir: filepath.Join(l.dir, name), group: labCgroup(l.ID).child(name),
	}
	n.runner = runner{group: n.group, wrap: n.enter, env: nodeEnv}
	return n
}

func newSwitch(l *Lab) *Switch {
	s := &Switch{space: space{name: netnsName(l.ID, "sw")}}
	s.runner = runner{group: labCgroup(l.ID).child("sw"), wrap: s.enter, env: os.Environ}
	return s
}

// Name returns the node's letter, a or b.
func (n *Node) Name() string { return n.name }

// Addr returns the node's address on a path: 10.77.0.11 or 10.77.1.11 for a, .12 for b.
func (n *Node) Addr(p Path) netip.Addr { return p.addr(10 + n.serverID) }

// Addr6 returns the node's IPv6 address on a path: fd77:0::11 or fd77:1::11 for a, ::12 for b.
func (n *Node) Addr6(p Path) netip.Addr { return p.addr6("1" + strconv.Itoa(int(n.serverID))) }

// MAC returns the hardware address of the node's interface, the same at every boot.
func (n *Node) MAC(p Path) net.HardwareAddr { return macAddr(p, 10+n.serverID) }

// file is the path of one of the lab's own files about the node.
func (n *Node) file(name string) string { return filepath.Join(n.dir, name) }

// enter returns the program that runs argv inside the node.
func (n *Node) enter(argv []string) ([]string, bool, error) {
	boot, err := n.running()
	if err != nil {
		return nil, false, err
	}
	if n.group.frozen() {
		return nil, false, fmt.Errorf("node %s: %w", n.name, ErrFrozen)
	}
	nsenter, err := command("nsenter")
	if err != nil {
		return nil, false, err
	}
	bounds, err := capabilityBounds(boot.Leader.PID)
	if err != nil {
		return nil, false, err
	}
	enter := []string{nsenter, "-t", strconv.Itoa(boot.Leader.PID), "-a", "--", "setpriv", "--bounding-set=" + bounds, "--"}
	return append(enter, argv...), true, nil
}

// capabilityBounds returns, in setpriv's terms, what takes a process of this
// machine's root down to the capabilities that the node's own processes have.
func capabilityBounds(leader int) (string, error) {
	mine, err := boundingSet(os.Getpid())
	if err != nil {
		return "", err
	}
	theirs, err := boundingSet(leader)
	if err != nil {
		return "", err
	}
	var drop []string
	for i := range 64 {
		if bit := uint64(1) << i; mine&bit != 0 && theirs&bit == 0 {
			drop = append(drop, fmt.Sprintf("-cap_%d", i))
		}
	}
	return strings.Join(drop, ","), nil
}

func boundingSet(pid int) (uint64, error) {
	v, err := statusField(pid, "CapBnd")
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(v, 16, 64)
}

// statusField returns one field of /proc/PID/status.
func statusField(pid int, key string) (string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(line, key+":"); ok {
			return strings.TrimSpace(v), nil
		}
	}
	return "", fmt.Errorf("no %s in /proc/%d/status", key, pid)
}

// enter returns the program that runs argv, one of this machine's, in the switch.
func (s *Switch) enter(argv []string) ([]string, bool, error) {
	nsenter, err := command("nsenter")
	if err != nil {
		return nil, false, err
	}
	return append([]string{nsenter, "--net=" + s.NetNS(), "--"}, argv...), false, nil
}

func nodeEnv() []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "LANG=C.UTF-8", "TERM=dumb",
	}
}

// PowerOn boots the node and waits until its systemd has nothing left to start.
// ErrOn when it is on.
func (n *Node) PowerOn(ctx context.Context) error {
	ctx, cancel := bounded(ctx, bootPatience)
	defer cancel()
	verb, err := n.lockPower(ctx)
	if err != nil {
		return fmt.Errorf("power on %s: %w", n.name, err)
	}
	defer verb.Close()
	if err := n.startSupervisor(ctx); err != nil {
		return fmt.Errorf("power on %s: %w", n.name, err)
	}
	if _, err := n.WaitBoot(ctx, 0); err != nil {
		return fmt.Errorf("power on %s: %w", n.name, err)
	}
	return nil
}

// PowerOff cuts the node's power: first its cables are gone, so no dying socket
// says goodbye, then all its processes at once. It returns when the node is off,
// and does nothing when it is.
func (n *Node) PowerOff(ctx context.Context) error {
	ctx, cancel := bounded(ctx, downPatience)
	defer cancel()
	verb, err := n.lockPower(ctx)
	if err != nil {
		return fmt.Errorf("power off %s: %w", n.name, err)
	}
	defer verb.Close()
	if err := n.powerOff(ctx); err != nil {
		return fmt.Errorf("power off %s: %w", n.name, err)
	}
	return nil
}

func (n *Node) powerOff(ctx context.Context) error {
	if err := n.unplug(); err != nil {
		return err
	}
	err := poll(ctx, func() (bool, error) {
		if off, err := n.isOff(); off || err != nil {
			return off, err
		}
		// Once more each time: a reboot may just be starting the node again.
		return false, n.group.kill()
	})
	if err != nil {
		return err
	}
	if err := n.group.remove(ctx); err != nil {
		return err
	}
	return n.silence(ctx, false)
}

// Shutdown shuts the node down cleanly and returns when it is off. Without a
// deadline in ctx it waits for a minute. A node that did not make it stays as it is.
func (n *Node) Shutdown(ctx context.Context) error {
	ctx, cancel := bounded(ctx, downPatience)
	defer cancel()
	verb, err := n.lockPower(ctx)
	if err != nil {
		return fmt.Errorf("shut down %s: %w", n.name, err)
	}
	defer verb.Close()
	if err := n.shutdown(ctx); err != nil {
		return fmt.Errorf("shut down %s: %w", n.name, err)
	}
	return nil
}

func (n *Node) shutdown(ctx context.Context) error {
	if n.group.frozen() {
		return ErrFrozen
	}
	boot, err := n.running()
	if errors.Is(err, ErrOff) {
		return nil
	}
	if err != nil {
		return err
	}
	// nspawn passes SIGTERM on as systemd's own signal for a halt.
	if err := boot.Nspawn.signal(unix.SIGTERM); err != nil {
		return err
	}
	if err := poll(ctx, n.isOff); err != nil {
		return fmt.Errorf("%w\n%s", err, n.Console(20))
	}
	return n.group.remove(ctx)
}

// Reboot lets the node's systemd reboot it and waits until it is back.
func (n *Node) Reboot(ctx context.Context) error {
	ctx, cancel := bounded(ctx, bootPatience)
	defer cancel()
	before, err := n.running()
	if err != nil {
		return fmt.Errorf("reboot %s: %w", n.name, err)
	}
	if _, err := n.Exec(ctx, "systemctl", "reboot", "--no-block"); err != nil {
		return fmt.Errorf("reboot %s: %w", n.name, err)
	}
	if _, err := n.WaitBoot(ctx, before.Count); err != nil {
		return fmt.Errorf("reboot %s: %w", n.name, err)
	}
	return nil
}

// Freeze stops every process of the node, as a paused virtual machine's, and drops
// all frames from and to it, since its kernel would still answer.
func (n *Node) Freeze(ctx context.Context) error { return n.setFrozen(ctx, true) }

// Thaw lets a frozen node go on.
func (n *Node) Thaw(ctx context.Context) error { return n.setFrozen(ctx, false) }

// Frozen reports whether the node is frozen.
func (n *Node) Frozen() bool { return n.group.frozen() }

func (n *Node) setFrozen(ctx context.Context, on bool) error {
	ctx, cancel := bounded(ctx, downPatience)
	defer cancel()
	verb, err := n.lockPower(ctx)
	if err != nil {
		return fmt.Errorf("freeze %s %t: %w", n.name, on, err)
	}
	defer verb.Close()
	if _, err := n.running(); err != nil {
		return fmt.Errorf("freeze %s %t: %w", n.name, on, err)
	}
	steps := []func(context.Context, bool) error{n.silence, n.group.freeze}
	if !on {
		steps[0], steps[1] = steps[1], steps[0]
	}
	for _, step := range steps {
		if err := step(ctx, on); err != nil {
			return fmt.Errorf("freeze %s %t: %w", n.name, on, err)
		}
	}
	return nil
}

// MainPID returns the main process of a unit, as the node numbers it.
func (n *Node) MainPID(ctx context.Context, unit string) (int, error) {
	out, err := n.Exec(ctx, "systemctl", "show", "--property=MainPID", "--value", unit)
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil || pid == 0 {
		return 0, fmt.Errorf("unit %s on %s has no main process", unit, n.name)
	}
	return pid, nil
}

// KillUnit sends a signal to the main process of a unit. The signal comes from
// outside, so systemd sees it as an accident.
func (n *Node) KillUnit(ctx context.Context, unit string, sig syscall.Signal) error {
	pid, err := n.MainPID(ctx, unit)
	if err != nil {
		return fmt.Errorf("kill %s: %w", unit, err)
	}
	return n.Kill(pid, sig)
}

// Kill sends a signal to the process that has this pid inside the node.
func (n *Node) Kill(pid int, sig syscall.Signal) error {
	proc, err := n.hostProcess(pid)
	if err != nil {
		return fmt.Errorf("kill %d on %s: %w", pid, n.name, err)
	}
	defer proc.Release()
	if err := proc.Signal(sig); err != nil {
		return fmt.Errorf("kill %d on %s: %w", pid, n.name, err)
	}
	return nil
}

// AwaitEnd waits until the process that has this pid inside the node has ended. It
// calls held when it holds on to it, so that no later process is meant.
func (n *Node) AwaitEnd(ctx context.Context, pid int, held func()) error {
	proc, err := n.hostProcess(pid)
	if err != nil {
		return fmt.Errorf("wait for %d on %s: %w", pid, n.name, err)
	}
	defer proc.Release()
	held()
	for ctx.Err() == nil {
		ended := false
		err := proc.WithHandle(func(fd uintptr) {
			ps := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			got, err := unix.Poll(ps, int(endPoll.Milliseconds()))
			ended = err == nil && got > 0
		})
		if err != nil || ended {
			return err
		}
	}
	return ctx.Err()
}

// endPoll is how often a wait for the end of a process looks at its context.
const endPoll = 100 * time.Millisecond

// hostProcess finds the process of this machine that a node knows by pid, and
// holds on to it.
func (n *Node) hostProcess(pid int) (*os.Process, error) {
	boot, err := n.running()
	if err != nil {
		return nil, err
	}
	space := func(p int) (string, error) { return os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", p)) }
	home, err := space(boot.Leader.PID)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		host, err := strconv.Atoi(e.Name())
		if err != nil || innerPID(host) != pid {
			continue
		}
		if s, err := space(host); err != nil || s != home {
			continue
		}
		proc, err := os.FindProcess(host)
		if err != nil {
			return nil, err
		}
		if innerPID(host) == pid {
			return proc, nil
		}
		proc.Release()
	}
	return nil, fmt.Errorf("no process %d: %w", pid, os.ErrProcessDone)
}

// innerPID returns the pid that a process has in its own pid namespace, 0 when
// there is no such process.
func innerPID(host int) int {
	v, err := statusField(host, "NSpid")
	if err != nil {
		return 0
	}
	f := strings.Fields(v)
	pid, _ := strconv.Atoi(f[len(f)-1])
	return pid
}

// Journal returns the log of one unit, of all units when it is empty, over all
// boots. It reads the node's files, so it works when the node is off or frozen.
func (n *Node) Journal(ctx context.Context, unit string) (string, error) {
	journalctl, err := command("journalctl")
	if err != nil {
		return "", err
	}
	args := []string{"--directory=" + filepath.Join(n.root(), "var/log/journal"), "--no-pager", "--quiet", "--output=short-precise"}
	if unit != "" {
		args = append(args, "--unit="+unit)
	}
	return capture(ctx, journalctl, args...)
}

// Console returns the last lines that the node's systemd and its supervisor said.
func (n *Node) Console(lines int) string {
	data, err := os.ReadFile(n.file("console.log"))
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("console of %s:\n%s", n.name, tail(data, lines))
}
