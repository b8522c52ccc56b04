package probe

// What works on this host: units, processes, programs, databases.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"time"

	"github.com/tanist-ha/tanist/internal/program"
)

// Unit wants a systemd unit active and, where it is one that has processes, alive.
type Unit struct {
	Name  string
	Units Units
}

// Units is what a unit check needs of the service manager.
type Units interface {
	// Runs returns nil when the unit is active and its processes are there, and an
	// *UnusableError when no such unit exists.
	Runs(ctx context.Context, unit string) error
}

// Probe asks the service manager.
func (u Unit) Probe(ctx context.Context) error { return u.Units.Runs(ctx, u.Name) }

// Database wants an answer from a database server.
type Database struct {
	Name      string
	Databases Databases
}

// Databases is what a database check needs of the databases.
type Databases interface {
	// Ping returns nil when the server of that name answers or would, had it a
	// connection to spare, and an *UnusableError when there is none of that name.
	Ping(ctx context.Context, name string) error
}

// Probe asks the server.
func (d Database) Probe(ctx context.Context) error { return d.Databases.Ping(ctx, d.Name) }

// Process wants a process whose name is exactly that: what the kernel calls it, of
// which there are 15 bytes at most, or the last element of its first argument. A
// zombie is none.
type Process struct {
	Name string

	last string // id of the one found before, which is looked at first
}

// Probe looks through /proc.
func (p *Process) Probe(ctx context.Context) error {
	if p.last != "" && p.is(p.last) {
		return nil
	}
	p.last = ""
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return fmt.Errorf("list the processes: %w", err)
	}
	for _, e := range entries {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if _, err := strconv.Atoi(e.Name()); err == nil && p.is(e.Name()) {
			p.last = e.Name()
			return nil
		}
	}
	return fmt.Errorf("no process is called %s", p.Name)
}

// is reports whether a process lives and has the name. One that has gone has not.
func (p *Process) is(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return false
	}
	// pid (comm) state: comm may hold anything, parentheses too.
	begin, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if begin < 0 || end < begin || len(stat) < end+3 || bytes.IndexByte([]byte("ZX"), stat[end+2]) >= 0 {
		return false
	}
	if string(stat[begin+1:end]) == p.Name {
		return true
	}
	line, err := os.ReadFile("/proc/" + pid + "/cmdline")
	if err != nil {
		return false
	}
	first, _, _ := bytes.Cut(line, []byte{0})
	return len(first) > 0 && path.Base(string(first)) == p.Name
}

// execGrace is between SIGTERM and SIGKILL for a program whose time is over.
const execGrace = 500 * time.Millisecond

// Exec wants a program to exit with 0, as keepalived's vrrp_script does: any other
// status is bad, an end by a signal is, and so is one whose time is over. That gets
// SIGTERM and soon SIGKILL, with everything it started.
type Exec struct {
	Command []string // argument vector, no shell
	User    string   // the account, empty for this process's
	// Cgroup is a delegated control group, see program.DelegatedCgroup; with one also
	// what left the process group is killed.
	Cgroup string
}

// Probe runs the program.
func (e Exec) Probe(ctx context.Context) error {
	// What hangs in a file system is waited for, so that the prober asks nothing beside it.
	p, err := program.Find(context.WithoutCancel(ctx), program.Command{Argv: e.Command, User: e.User, Cgroup: e.Cgroup, Whole: true, Grace: execGrace})
	if err != nil {
		return &UnusableError{err}
	}
	err = p.Run(ctx, new(program.Output))
	if stuck := (*program.StuckError)(nil); errors.As(err, &stuck) {
		<-stuck.Gone // nor beside a process that the kernel does not let die
	}
	if errors.Is(err, os.ErrPermission) {
		return &UnusableError{err} // the program, or the account
	}
	return err
}
