// Package lab sets up two hosts on one machine: systemd-nspawn containers, each
// with its own systemd, system bus, network namespace, MariaDB, lsyncd and sshd,
// joined by two networks in a third namespace, where clients live. It can cut
// their power, their cables and single directions of their traffic.
//
// It needs root on Debian; Require says so in a test. README.md tells how the lab
// differs from two real machines.
package lab

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Errors of verbs that a node's power state forbids.
var (
	ErrOff    = errors.New("it is off")
	ErrOn     = errors.New("it is on")
	ErrFrozen = errors.New("it is frozen")
)

// Bounds of what waits when the caller's context has none.
const (
	bootPatience = 3 * time.Minute // 1.5 s idle, 15 s on a machine with load 50
	downPatience = time.Minute
)

// Options say how a lab differs from the usual one. The zero value is usual.
type Options struct {
	ID        string // 1 to 12 of a-z and 0-9; random when empty
	HostnameA string // default primary
	HostnameB string // default reserve
	Lsyncd    Lsyncd // shape of lsyncd.service, default LsyncdNative
	// Keep leaves the lab standing when this process ends; only Down ends it.
	Keep bool
	// Supervisor is the command that runs Supervise with the lab's id and a node's
	// letter as two more arguments. A kept lab needs it.
	Supervisor []string
	// Log gets a line for each thing that takes long; t.Logf will do. May be nil.
	Log func(format string, args ...any)
}

// Lab is a pair of nodes and the switch between them. Its methods may be called
// concurrently.
type Lab struct {
	ID     string
	A, B   *Node
	Switch *Switch

	dir        string
	owner      *os.File // the lock that says the owner lives; nil when attached
	detached   bool     // nodes are supervised by supervisor, else in this process
	supervisor []string
	supervised sync.WaitGroup
	ending     atomic.Bool
	log        func(format string, args ...any)
}

// settings is what Attach needs to know of the Options that a lab was made with.
type settings struct {
	HostnameA, HostnameB string
}

var validID = regexp.MustCompile(`^[a-z0-9]{1,12}$`)

// Up removes what labs of dead processes left behind, builds the base image if
// there is none yet, and returns a lab with both nodes booted. What it started is
// gone again when it returns an error.
func Up(ctx context.Context, o Options) (*Lab, error) {
	if err := Usable(); err != nil {
		return nil, err
	}
	if o.Keep && len(o.Supervisor) == 0 {
		return nil, errors.New("keep a lab: no supervisor command given")
	}
	if _, err := Sweep(ctx); err != nil {
		return nil, err
	}
	l, err := create(o)
	if err != nil {
		return nil, err
	}
	if err := l.up(ctx, o); err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), downPatience)
		defer cancel()
		return nil, errors.Join(fmt.Errorf("set up lab %s: %w", l.ID, err), l.Down(ctx))
	}
	return l, nil
}

func (l *Lab) up(ctx context.Context, o Options) error {
	image, use, err := useImage(ctx, l.log)
	if err != nil {
		return err
	}
	defer use.Close()
	if err := l.Switch.up(); err != nil {
		return err
	}
	for _, n := range l.Nodes() {
		if err := n.furnish(image, o); err != nil {
			return fmt.Errorf("furnish node %s: %w", n.name, err)
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, n := range l.Nodes() {
		g.Go(func() error { return n.PowerOn(gctx) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if !o.Keep {
		return nil
	}
	if err := os.WriteFile(filepath.Join(l.dir, keptMark), nil, 0o600); err != nil {
		return err
	}
	owner := l.owner
	l.owner = nil // a kept lab has none
	return owner.Close()
}

// create claims an id and writes down the settings.
func create(o Options) (*Lab, error) {
	id := o.ID
	if id == "" {
		id = strings.ToLower(rand.Text()[:6])
	}
	if !validID.MatchString(id) {
		return nil, fmt.Errorf("lab id %q: want 1 to 12 of a-z and 0-9", id)
	}
	s := settings{HostnameA: o.HostnameA, HostnameB: o.HostnameB}
	if s.HostnameA == "" {
		s.HostnameA = "primary"
	}
	if s.HostnameB == "" {
		s.HostnameB = "reserve"
	}
	owner, err := claimNew(id)
	if err != nil {
		return nil, err
	}
	l := newLab(id, s)
	l.owner, l.detached, l.supervisor = owner, o.Keep, o.Supervisor
	if o.Log != nil {
		l.log = o.Log
	}
	data, err := json.Marshal(s)
	if err == nil {
		err = os.WriteFile(filepath.Join(l.dir, "lab.json"), data, 0o600)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write down lab %s: %w", id, err), os.RemoveAll(l.dir), owner.Close())
	}
	return l, nil
}

func newLab(id string, s settings) *Lab {
	l := &Lab{ID: id, dir: filepath.Join(stateDir, id)}
	l.log = func(string, ...any) {}
	l.Switch = newSwitch(l)
	l.A = newNode(l, "a", s.HostnameA, 1)
	l.B = newNode(l, "b", s.HostnameB, 2)
	return l
}

// Attach returns a lab that stands already, to use but not to own: the end of
// this process leaves it as it is. PowerOn needs a supervisor command as in
// Options, the other verbs do not.
func Attach(id string, supervisor ...string) (*Lab, error) {
	if !validID.MatchString(id) {
		return nil, fmt.Errorf("lab id %q: want 1 to 12 of a-z and 0-9", id)
	}
	data, err := os.ReadFile(filepath.Join(stateDir, id, "lab.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no lab %q is up: %w", id, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	var s settings
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("read lab %s: %w", id, err)
	}
	l := newLab(id, s)
	l.detached, l.supervisor = true, supervisor
	return l, nil
}

// Nodes returns A and B.
func (l *Lab) Nodes() []*Node { return []*Node{l.A, l.B} }

// Node returns a node by its letter or its host name.
func (l *Lab) Node(name string) (*Node, error) {
	for _, n := range l.Nodes() {
		if name == n.name || name == n.Hostname {
			return n, nil
		}
	}
	return nil, fmt.Errorf("no node %q (a, b, %s or %s)", name, l.A.Hostname, l.B.Hostname)
}

// Peer returns the other node.
func (l *Lab) Peer(n *Node) *Node {
	if n == l.A {
		return l.B
	}
	return l.A
}

// Down ends every process of the lab at once and removes all that it made. It
// does not shut the nodes down: their disks go as well.
func (l *Lab) Down(ctx context.Context) error {
	if !l.ending.CompareAndSwap(false, true) {
		return nil
	}
	if err := l.down(ctx); err != nil {
		l.ending.Store(false)
		return fmt.Errorf("take lab %s down: %w", l.ID, err)
	}
	return nil
}

func (l *Lab) down(ctx context.Context) error {
	ctx, cancel := bounded(ctx, downPatience)
	defer cancel()
	if l.owner == nil {
		owner, err := tryLock(filepath.Join(l.dir, "lock"), unix.LOCK_EX)
		if errors.Is(err, errLocked) {
			return errors.New("it belongs to a living process")
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // somebody else took it down
		}
		if err != nil {
			return err
		}
		l.owner = owner
	}
	// A supervisor that is just about to start a rebooted node must be waited for.
	ended := make(chan struct{})
	go func() {
		l.supervised.Wait()
		close(ended)
	}()
	err := poll(ctx, func() (bool, error) {
		select {
		case <-ended:
			return true, nil
		default:
			return false, labCgroup(l.ID).kill()
		}
	})
	if err != nil {
		return fmt.Errorf("end the nodes: %w", err)
	}
	if err := erase(ctx, l.ID); err != nil {
		return err
	}
	return l.owner.Close()
}

// lockPower keeps others, in this process or not, from changing a node's power.
func (n *Node) lockPower(ctx context.Context) (*os.File, error) {
	return waitLock(ctx, n.file("verb.lock"), unix.LOCK_EX)
}
