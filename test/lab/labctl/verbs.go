package main

// The verbs, each a few lines around the lab's method of the same name.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/test/lab"
)

func verbs() []verb {
	return slices.Concat([]verb{
		{"install", "", "install the Debian packages that the lab needs", 0, 0, install},
		{"image", "", "build the base image if there is none", 0, 0, image},
		{"purge", "", "remove base images that no lab stands on", 0, 0, purge},
		{"up", "[-a HOSTNAME] [-b HOSTNAME] [-lsyncd SHAPE]", "boot two nodes, a and b", 0, -1, up},
		{"down", "", "end the lab and remove all that it made", 0, 0, down},
		{"sweep", "", "remove what labs of dead processes left", 0, 0, sweep},
		{"list", "", "ids of all labs", 0, 0, list},
		{"status", "", "what runs", 0, 0, status},
	}, powerVerbs(), wireVerbs(), insideVerbs())
}

func powerVerbs() []verb {
	power := func(name, help string, do func(*lab.Node, context.Context) error) verb {
		return verb{name, "NODE", help, 1, 1, func(ctx context.Context, c call) error {
			_, n, err := c.attach(c.args[0])
			if err != nil {
				return err
			}
			return do(n[0], ctx)
		}}
	}
	return []verb{
		power("poweroff", "power cut", (*lab.Node).PowerOff),
		power("poweron", "boot", (*lab.Node).PowerOn),
		power("shutdown", "clean shutdown", (*lab.Node).Shutdown),
		power("reboot", "clean reboot", (*lab.Node).Reboot),
		power("freeze", "pause the node as a virtual machine", (*lab.Node).Freeze),
		power("thaw", "let it go on", (*lab.Node).Thaw),
		{"kill", "NODE UNIT|PID [SIGNAL]", "signal a unit's main process, or a process (default KILL)", 2, 3, kill},
		{"supervise", "ID NODE", "keep a node on; poweron and up start it", 2, 2, func(_ context.Context, c call) error {
			return lab.Supervise(c.args[0], c.args[1])
		}},
	}
}

func wireVerbs() []verb {
	return []verb{
		{"cable", "NODE eth0|eth1 up|down", "plug a cable in, or pull it", 3, 3, cable},
		{"cut", "FROM TO [eth0|eth1]", "drop all frames of one direction; an end is a, b or sw", 2, 3, cut},
		{"lose", "FROM TO PERCENT [eth0|eth1]", "drop some of them at random", 3, 4, lose},
		{"heal", "", "end all cuts and losses", 0, 0, func(ctx context.Context, c call) error {
			l, _, err := c.attach()
			if err != nil {
				return err
			}
			return l.Heal(ctx)
		}},
	}
}

func insideVerbs() []verb {
	return []verb{
		{"exec", "NODE|sw COMMAND...", "run a command in a node, or one of this machine's in the switch", 2, -1, execute},
		{"shell", "NODE|sw", "a shell there", 1, 1, shell},
		{"journal", "NODE [UNIT]", "the log, also of a node that is off", 1, 2, journal},
		{"console", "NODE", "what its systemd said", 1, 1, console},
		{"sql", "NODE STATEMENT", "one statement as root", 2, 2, query},
		{"replicate", "SOURCE REPLICA", "set up replication", 2, 2, replicate},
		{"lsyncd", "NODE native|plain|lsb", "shape of lsyncd.service", 2, 2, func(ctx context.Context, c call) error {
			_, n, err := c.attach(c.args[0])
			if err != nil {
				return err
			}
			return n[0].SetLsyncd(ctx, lab.Lsyncd(c.args[1]))
		}},
		{"put", "NODE PATH NODEPATH", "copy a file, with its mode, or a directory into a node", 3, 3, put},
		{"get", "NODE NODEPATH", "print a file of a node, also when it is off", 2, 2, get},
	}
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "lab: "+format+"\n", args...) }

func install(ctx context.Context, _ call) error { return lab.InstallPackages(ctx) }

func image(ctx context.Context, _ call) error {
	root, err := lab.Image(ctx, say)
	if err == nil {
		fmt.Println(root)
	}
	return err
}

func purge(ctx context.Context, _ call) error {
	dirs, err := lab.PurgeImages(ctx)
	for _, dir := range dirs {
		fmt.Println(dir)
	}
	return err
}

func up(ctx context.Context, c call) error {
	o := lab.Options{ID: c.id, Keep: true, Supervisor: supervisor(), Log: say}
	for args := c.args; len(args) > 0; args = args[2:] {
		if len(args) < 2 {
			return fmt.Errorf("up: %s needs a value", args[0])
		}
		switch args[0] {
		case "-a":
			o.HostnameA = args[1]
		case "-b":
			o.HostnameB = args[1]
		case "-lsyncd":
			o.Lsyncd = lab.Lsyncd(args[1])
		default:
			return fmt.Errorf("up: no option %s", args[0])
		}
	}
	if _, err := lab.Up(ctx, o); err != nil {
		return err
	}
	return status(ctx, c)
}

func down(ctx context.Context, c call) error {
	l, _, err := c.attach()
	if errors.Is(err, fs.ErrNotExist) {
		say("%v", err)
		return nil
	}
	if err != nil {
		return err
	}
	return l.Down(ctx)
}

func sweep(ctx context.Context, _ call) error {
	ids, err := lab.Sweep(ctx)
	for _, id := range ids {
		fmt.Println(id)
	}
	return err
}

func list(context.Context, call) error {
	labs, err := lab.List()
	for _, id := range slices.Sorted(maps.Keys(labs)) {
		kind := "owned by a process, or stale"
		if labs[id] {
			kind = "kept"
		}
		fmt.Println(id, kind)
	}
	return err
}

func status(ctx context.Context, c call) error {
	l, _, err := c.attach()
	if err != nil {
		return err
	}
	fmt.Printf("sw  on      %s %s  %s\n", l.Switch.Addr(lab.Eth0), l.Switch.Addr(lab.Eth1), l.Switch.NetNS())
	for _, n := range l.Nodes() {
		state := "off"
		switch {
		case n.Frozen():
			state = "frozen"
		case n.On():
			// Anything but "running" ends with status 1 and is worth showing as it is.
			out, _ := n.Exec(ctx, "systemctl", "is-system-running")
			state = strings.TrimSpace(out)
		}
		fmt.Printf("%-3s %-7s %s %s  %s, boot %d\n", n.Name(), state, n.Addr(lab.Eth0), n.Addr(lab.Eth1), n.Hostname, n.Boots())
	}
	return nil
}

func kill(ctx context.Context, c call) error {
	_, n, err := c.attach(c.args[0])
	if err != nil {
		return err
	}
	sig := unix.SIGKILL
	if len(c.args) == 3 {
		if sig = unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(c.args[2]), "SIG")); sig == 0 {
			return fmt.Errorf("no signal %q", c.args[2])
		}
	}
	if pid, err := strconv.Atoi(c.args[1]); err == nil {
		return n[0].Kill(pid, syscall.Signal(sig))
	}
	return n[0].KillUnit(ctx, c.args[1], syscall.Signal(sig))
}

func cable(_ context.Context, c call) error {
	l, n, err := c.attach(c.args[0])
	if err != nil {
		return err
	}
	p, err := lab.ParsePath(c.args[1])
	if err != nil {
		return err
	}
	switch c.args[2] {
	case "up":
		return l.CableUp(n[0], p)
	case "down":
		return l.CableDown(n[0], p)
	}
	return fmt.Errorf("cable %s: want up or down", c.args[2])
}

// ends returns the two ends and the paths that a verb about frames names.
func (c call) ends(paths []string) (l *lab.Lab, from, to lab.End, ps []lab.Path, err error) {
	if l, _, err = c.attach(); err != nil {
		return nil, nil, nil, nil, err
	}
	end := func(name string) (lab.End, error) {
		if name == "sw" {
			return l.Switch, nil
		}
		return l.Node(name)
	}
	if from, err = end(c.args[0]); err != nil {
		return nil, nil, nil, nil, err
	}
	if to, err = end(c.args[1]); err != nil {
		return nil, nil, nil, nil, err
	}
	for _, name := range paths {
		p, err := lab.ParsePath(name)
		if err != nil {
			return nil, nil, nil, nil, err
		}
		ps = append(ps, p)
	}
	return l, from, to, ps, nil
}

func cut(ctx context.Context, c call) error {
	l, from, to, paths, err := c.ends(c.args[2:])
	if err != nil {
		return err
	}
	return l.CutOneWay(ctx, from, to, paths...)
}

func lose(ctx context.Context, c call) error {
	l, from, to, paths, err := c.ends(c.args[3:])
	if err != nil {
		return err
	}
	percent, err := strconv.Atoi(c.args[2])
	if err != nil {
		return fmt.Errorf("percent %q: %w", c.args[2], err)
	}
	return l.Lose(ctx, from, to, percent, paths...)
}

// place is a node or the switch, to run commands in.
type place interface {
	Run(context.Context, lab.Command) (string, error)
	Replace(argv ...string) error
}

func (c call) place() (place, error) {
	l, _, err := c.attach()
	if err != nil {
		return nil, err
	}
	if c.args[0] == "sw" {
		return l.Switch, nil
	}
	return l.Node(c.args[0])
}

func execute(ctx context.Context, c call) error {
	p, err := c.place()
	if err != nil {
		return err
	}
	_, err = p.Run(ctx, lab.Command{Argv: c.args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr})
	return err
}

func shell(_ context.Context, c call) error {
	p, err := c.place()
	if err != nil {
		return err
	}
	return p.Replace("/bin/bash", "-l")
}

func journal(ctx context.Context, c call) error {
	_, n, err := c.attach(c.args[0])
	if err != nil {
		return err
	}
	out, err := n[0].Journal(ctx, strings.Join(c.args[1:], ""))
	fmt.Print(out)
	return err
}

func console(_ context.Context, c call) error {
	_, n, err := c.attach(c.args[0])
	if err != nil {
		return err
	}
	fmt.Println(n[0].Console(1000))
	return nil
}

func query(ctx context.Context, c call) error {
	_, n, err := c.attach(c.args[0])
	if err != nil {
		return err
	}
	rows, err := n[0].SQL(ctx, c.args[1])
	for _, row := range rows {
		fmt.Println(strings.Join(row, "\t"))
	}
	return err
}

func replicate(ctx context.Context, c call) error {
	l, n, err := c.attach(c.args...)
	if err != nil {
		return err
	}
	return l.SetupReplication(ctx, n[0], n[1])
}

func put(_ context.Context, c call) error {
	_, n, err := c.attach(c.args[0])
	if err != nil {
		return err
	}
	info, err := os.Stat(c.args[1])
	if err != nil {
		return err
	}
	if info.IsDir() {
		return n[0].CopyIn(c.args[1], c.args[2])
	}
	to := c.args[2]
	if strings.HasSuffix(to, "/") {
		to = path.Join(to, info.Name())
	}
	return n[0].Install(c.args[1], to, info.Mode().Perm())
}

func get(_ context.Context, c call) error {
	_, n, err := c.attach(c.args[0])
	if err != nil {
		return err
	}
	data, err := n[0].ReadFile(c.args[1])
	os.Stdout.Write(data)
	return err
}
