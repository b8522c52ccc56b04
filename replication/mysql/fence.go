package mysql

// Fencing makes sure that a server which hangs does not write when it wakes: it
// is killed, with whatever would start it again, and seen to be gone. A process
// that is not certain to be this server is never touched.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tanist-ha/tanist/replication"
)

const (
	// fenceTimeout bounds a Fence whose context has no deadline.
	fenceTimeout = 5 * time.Second
	// unitTimeout bounds each question to the service manager: the process itself
	// can be killed without it.
	unitTimeout = 500 * time.Millisecond
	// listenTimeout bounds the connection that tells who listens; a kernel answers
	// it at once, also for a process that is stopped.
	listenTimeout = 300 * time.Millisecond
)

// Units are the services of this host, which own processes.
type Units interface {
	// Of returns the unit that a process belongs to, the zero value when it
	// belongs to none.
	Of(ctx context.Context, pid int) (Unit, error)
	// Unit returns a unit by its name.
	Unit(ctx context.Context, name string) (Unit, error)
	// Kill sends SIGKILL to every process of a unit.
	Kill(ctx context.Context, name string) error
}

// Unit is what runs in a unit.
type Unit struct {
	Name      string
	Main      int // the process the unit is there for; 0 when that is not known
	Processes []int
}

// goesWith reports whether killing the unit kills one server and nothing foreign:
// no other server, and unless the unit is named for it or is there for it, nothing
// but what attends a server.
func (u Unit) goesWith(server int, named bool) bool {
	named = named || u.Main == server
	return slices.Contains(u.Processes, server) && !slices.ContainsFunc(u.Processes, func(pid int) bool {
		return pid != server && (isServer(pid) || !named && !slices.Contains(attendantNames, processName(pid)))
	})
}

// ErrNotFenced is in the error of Fence when it did not touch anything, because
// which process is the server's is not certain.
var ErrNotFenced = errors.New("not certain which process is the server's")

// Fence kills the server and returns when its process is gone, so that nothing
// it still held can be written. It is nil as well when there was no process.
//
// The process is the one that listens on the server's unix socket, or that of the
// configured unit. It has to call itself by a database server's name. The unit is
// killed with it if it is configured or is there for this server, and no other
// server runs in it; or else the process alone, as always for one that Config.Dial
// leads to. The service manager may start the server again: that
// one is another process, and takes writes as its own configuration says.
//
// It fails with ErrNotFenced, or when the process does not end: one that waits
// for a disk in the kernel can outlive its SIGKILL, and must be taken for alive.
func (d *Database) Fence(ctx context.Context) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, fenceTimeout)
		defer cancel()
	}
	if err := d.fence(ctx); err != nil {
		return fmt.Errorf("fence database %s: %w", d.name, err)
	}
	return nil
}

// FenceTarget tells what Fence would kill: a process, and the unit with it if that
// is not empty. Process 0 is none. It kills nothing.
func (d *Database) FenceTarget(ctx context.Context) (pid int, unit string, err error) {
	ctx, cancel := context.WithTimeout(ctx, fenceTimeout)
	defer cancel()
	p, unit, err := d.target(ctx)
	if err != nil {
		return 0, "", fmt.Errorf("find the process of database %s: %w", d.name, err)
	}
	if p == nil {
		return 0, "", nil
	}
	defer p.close()
	return p.pid, unit, nil
}

func (d *Database) fence(ctx context.Context) error {
	p, unit, err := d.target(ctx)
	if err != nil || p == nil {
		return err
	}
	defer p.close()
	var unitErr error
	if unit != "" {
		killing, cancel := context.WithTimeout(ctx, unitTimeout)
		unitErr = d.units.Kill(killing, unit)
		cancel()
	}
	if err := p.kill(); err != nil {
		return errors.Join(fmt.Errorf("kill process %d: %w", p.pid, err), unitErr)
	}
	if err := p.await(ctx); err != nil {
		return errors.Join(fmt.Errorf("process %d was killed and is still there (state %s): %w", p.pid, processState(p.pid), err), unitErr)
	}
	// What the manager said matters only if the server outlived it.
	return nil
}

// target finds the server's process and the unit that is to go with it, if any.
// No process and no error means that there is none.
func (d *Database) target(ctx context.Context) (p *process, unit string, err error) {
	p, gone, behindErr := d.behindSocket(ctx)
	switch {
	case d.unit != "":
		return d.inUnit(ctx, p, gone)
	case p != nil:
		return p, d.ownUnit(ctx, p.pid), nil
	case gone:
		return nil, "", nil
	default:
		return nil, "", fmt.Errorf("%w: %w: name its unit in the configuration", ErrNotFenced, behindErr)
	}
}

// behindSocket holds the process that listens on the server's socket, at the last
// connect or now. Gone means that nobody does, and nobody who did is left.
func (d *Database) behindSocket(ctx context.Context) (p *process, gone bool, err error) {
	if d.network != "unix" {
		return nil, false, errors.New("its address tells no process")
	}
	if p := d.server.current(); p != nil {
		return p, false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, listenTimeout)
	defer cancel()
	c, err := d.dial(ctx)
	if err != nil {
		return nil, reachOf(err) == replication.ReachRefused, err
	}
	defer c.Close()
	switch p, err = processBehind(c); {
	case errors.Is(err, errNoProcess):
		return nil, true, nil
	case err != nil:
		return nil, false, err
	case !isServer(p.pid):
		defer p.close()
		return nil, false, fmt.Errorf("process %d, which listens on %s, calls itself %q", p.pid, d.address, processName(p.pid))
	}
	return p, false, nil
}

// inUnit holds the server of the configured unit.
func (d *Database) inUnit(ctx context.Context, p *process, gone bool) (*process, string, error) {
	u, err := d.configuredUnit(ctx)
	answered := err == nil
	if p == nil {
		if answered {
			p, err = u.server(gone)
		}
		if err != nil {
			return nil, "", fmt.Errorf("%w: %w", ErrNotFenced, err)
		}
		if p == nil {
			return nil, "", nil
		}
	}
	switch {
	case answered && u.goesWith(p.pid, true):
		return p, d.unit, nil
	case answered && !slices.Contains(u.Processes, p.pid):
		p.close()
		return nil, "", fmt.Errorf("%w: process %d listens on %s and does not belong to %s", ErrNotFenced, p.pid, d.address, d.unit)
	}
	// Other servers run there too, or the manager does not answer; the kernel did.
	return p, "", nil
}

// server holds the only database server of the unit; nil when it is gone.
func (u Unit) server(gone bool) (*process, error) {
	servers := slices.DeleteFunc(slices.Clone(u.Processes), func(pid int) bool { return !isServer(pid) })
	if len(servers) == 0 && (gone || len(u.Processes) == 0) {
		return nil, nil
	}
	if len(servers) != 1 {
		return nil, fmt.Errorf("%s runs %d database servers, want one (%s)", u.Name, len(servers), names(u.Processes))
	}
	p, err := holdProcess(servers[0])
	if errors.Is(err, errNoProcess) {
		return nil, nil
	}
	if err == nil && !isServer(p.pid) { // the id changed hands in between
		p.close()
		return nil, nil
	}
	return p, err
}

func (d *Database) configuredUnit(ctx context.Context) (Unit, error) {
	if d.units == nil {
		return Unit{}, errors.New("no service manager to ask about " + d.unit)
	}
	ctx, cancel := context.WithTimeout(ctx, unitTimeout)
	defer cancel()
	return d.units.Unit(ctx, d.unit)
}

// ownUnit is the unit of a server's process, empty where it is not the server's
// own or that is not certain: a container's can hold more than the container.
func (d *Database) ownUnit(ctx context.Context, pid int) string {
	if d.units == nil || d.led {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, unitTimeout)
	defer cancel()
	u, err := d.units.Of(ctx, pid)
	if err != nil || !u.goesWith(pid, false) {
		return ""
	}
	return u.Name
}

func names(processes []int) string {
	var list []string
	for _, pid := range processes {
		list = append(list, processName(pid))
	}
	if len(list) == 0 {
		return "nothing runs there"
	}
	slices.Sort(list)
	return strings.Join(slices.Compact(list), ", ")
}
