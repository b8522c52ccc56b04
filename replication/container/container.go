// Package container reaches a database inside a Docker container through its unix
// socket, from the host: the engine's API says which process the container is, and
// that process's root directory leads to the socket. Nothing runs inside the
// container, no port is published, and an account of localhost is enough.
package container

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path"
	"regexp"
	"slices"
	"sync"
	"syscall"
)

// DefaultEngine is where the engine listens.
const DefaultEngine = "/var/run/docker.sock"

// sockets are where images of MySQL and MariaDB have theirs.
func sockets() []string { return []string{"/var/run/mysqld/mysqld.sock", "/run/mysqld/mysqld.sock"} }

// Config says which socket of which container.
type Config struct {
	// Name is a container's name or id, or the name of a Swarm service of which
	// one task runs on this host.
	Name   string
	Socket string // absolute path inside the container; empty for the usual ones
	Engine string // absolute path of the engine's socket; DefaultEngine when empty
}

// Container connects to one socket of one container, whichever process that
// container is at the moment.
type Container struct {
	name    string
	sockets []string
	engine  engine

	mu   sync.Mutex
	seen seen // what the last connection went to
}

// seen is a start of a container and when its process began.
type seen struct {
	start start
	ticks uint64
}

// namePattern is that of a name, which has at most maxName bytes.
var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

const maxName = 255

// New checks the configuration and touches nothing.
func New(c Config) (*Container, error) {
	if len(c.Name) > maxName || !namePattern.MatchString(c.Name) {
		return nil, fmt.Errorf("container %q: no name of a container", c.Name)
	}
	if c.Engine == "" {
		c.Engine = DefaultEngine
	}
	for _, p := range []string{c.Engine, c.Socket} {
		if p != "" && (!path.IsAbs(p) || path.Clean(p) != p) {
			return nil, fmt.Errorf("container %s: socket %q is no absolute path", c.Name, p)
		}
	}
	in := &Container{name: c.Name, sockets: sockets(), engine: engine{c.Engine}}
	if c.Socket != "" {
		in.sockets = []string{c.Socket}
	}
	return in, nil
}

// attempts is how often Dial begins when the container restarts meanwhile.
const attempts = 2

var errRestarted = errors.New("it restarted while the connection was made")

// Dial connects. The error is ECONNREFUSED when the container does not run, and
// ENOENT when there is no such container or no such socket in it: then no server
// is there. That the engine does not answer is neither.
func (c *Container) Dial(ctx context.Context) (net.Conn, error) {
	conn, err := c.dial(ctx)
	for i := 1; i < attempts && errors.Is(err, errRestarted); i++ {
		conn, err = c.dial(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("connect into container %s: %w", c.name, err)
	}
	return conn, nil
}

func (c *Container) dial(ctx context.Context) (net.Conn, error) {
	at, err := c.engine.find(ctx, c.name)
	if err != nil {
		return nil, err
	}
	p, err := openProcess(at.pid)
	if errors.Is(err, syscall.ESRCH) {
		return nil, errRestarted
	}
	if err != nil {
		return nil, err
	}
	defer p.close()
	if err := c.compare(at, p); err != nil {
		return nil, err
	}
	conn, err := p.connect(ctx, c.sockets)
	if err != nil {
		return nil, err
	}
	if err := c.confirm(ctx, at, p); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// compare looks for signs that the process is not the container's but one that got
// its number since: the engine learns of an end a moment late.
func (c *Container) compare(at start, p *process) error {
	if ids := p.containers; len(ids) > 0 && !slices.Contains(ids, at.id) {
		return fmt.Errorf("process %d is in another container: %w", at.pid, errRestarted)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen.start == at && c.seen.ticks != p.ticks {
		return fmt.Errorf("process %d is not the one that it was: %w", at.pid, errRestarted)
	}
	return nil
}

// confirm asks again, now that the connection is there: the process lived all the
// while, and is the container's still.
func (c *Container) confirm(ctx context.Context, at start, p *process) error {
	again, err := c.engine.inspect(ctx, at.id)
	switch {
	case err != nil:
		return err
	case again != at, !p.alive():
		return errRestarted
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = seen{at, p.ticks}
	return nil
}
