package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// settings are what both programs are configured with, the same for both.
type settings struct {
	Interval  time.Duration // of advertisements
	Lease     time.Duration // of a Tanist address; keepalived has none
	Multicast bool
	Preempt   bool
	Instances int  // virtual routers, one address each
	Realtime  bool // the daemons run under SCHED_RR
	Keyless   bool // Tanist has no cluster key
}

// Priorities of the two routers in every instance.
const (
	priorityFirst  = 254
	prioritySecond = 253
)

func (s side) priority() int { return [...]int{priorityFirst, prioritySecond}[s] }

// startLimit bounds the time until a pair is ready: 255 instances with an
// interval of a second on a busy machine.
const startLimit = 60 * time.Second

// program is one of the two that are compared.
type program interface {
	name() string
	// version is the program's own word.
	version(ctx context.Context) string
	// configure writes what a router needs into its directory.
	configure(dir string, s side, set settings) error
	// launch starts the daemon of a router that is configured.
	launch(on *space, dir string, realtime bool) (*process, error)
	// together reports whether both daemons may be started at once. Otherwise the
	// first has to be Active before the second starts.
	together() bool
	// ready returns nil when the first is Active and the second could take over.
	ready(ctx context.Context, p *pair) error
	// handover moves the role to the other router as an operator would; SIGTERM
	// where there is no command for it.
	handover(ctx context.Context, p *pair, from side) error
}

// pair is two daemons of one program on a network.
type pair struct {
	*network
	program program
	set     settings
	dirs    [2]string
	daemons [2]*process
}

// newPair starts two daemons on a fresh network and waits until they are ready.
// The caller closes the pair.
func newPair(ctx context.Context, p program, set settings, dir string) (*pair, error) {
	n, err := newNetwork()
	if err != nil {
		return nil, err
	}
	pr := &pair{network: n, program: p, set: set}
	if err := pr.begin(ctx, dir); err != nil {
		err = fmt.Errorf("%w%s", err, pr.logs())
		return nil, errors.Join(err, pr.close())
	}
	return pr, nil
}

func (p *pair) begin(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for _, s := range []side{first, second} {
		p.dirs[s] = filepath.Join(dir, s.String())
		if err := os.MkdirAll(p.dirs[s], 0o700); err != nil {
			return err
		}
		if err := p.program.configure(p.dirs[s], s, p.set); err != nil {
			return fmt.Errorf("configure %s on %s: %w", p.program.name(), s, err)
		}
	}
	if err := p.launch(first); err != nil {
		return err
	}
	if !p.program.together() {
		if err := p.awaitHolder(ctx, first); err != nil {
			return err
		}
	}
	if err := p.launch(second); err != nil {
		return err
	}
	if err := poll(ctx, p.program.name()+" is ready", func(ctx context.Context) error { return p.program.ready(ctx, p) }); err != nil {
		return err
	}
	return p.awaitHolder(ctx, first)
}

// launch starts a router's daemon, again if it ran before.
func (p *pair) launch(s side) error {
	d, err := p.program.launch(p.routers[s], p.dirs[s], p.set.Realtime)
	if err != nil {
		return err
	}
	p.daemons[s] = d
	return nil
}

// holders returns how many virtual addresses each router has.
func (p *pair) holders() (held [2]map[netip.Addr]bool, err error) {
	for _, s := range []side{first, second} {
		if held[s], err = p.routers[s].vips(); err != nil {
			return held, err
		}
	}
	return held, nil
}

// awaitHolder waits until a router alone has all addresses.
func (p *pair) awaitHolder(ctx context.Context, s side) error {
	return poll(ctx, s.String()+" has all addresses", func(context.Context) error {
		held, err := p.holders()
		if err != nil {
			return err
		}
		if len(held[s]) != p.set.Instances || len(held[s.other()]) > 0 {
			return fmt.Errorf("of %d addresses %s has %d and %s has %d", p.set.Instances, s, len(held[s]), s.other(), len(held[s.other()]))
		}
		if d := p.daemons[s]; d != nil && !d.alive() {
			return errors.New("its daemon has ended")
		}
		return nil
	})
}

// logs are the last lines of both daemons, for an error.
func (p *pair) logs() string {
	var text string
	for _, s := range []side{first, second} {
		if d := p.daemons[s]; d != nil {
			text += fmt.Sprintf("\n%s on %s said last:\n%s", p.program.name(), s, d.tail(12))
		}
	}
	return text
}

// close ends the daemons and takes the network down.
func (p *pair) close() error {
	var errs []error
	for _, d := range p.daemons {
		if d != nil {
			errs = append(errs, d.end())
		}
	}
	p.network.close()
	return errors.Join(errs...)
}
