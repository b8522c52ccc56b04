package main

// The health checks of an instance: what the configuration asks becomes probes, and
// what they say goes to the core. They outlive a reload: a check that it does not
// change goes on, and what was found about it counts on.

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/tanist-ha/tanist/health/probe"
	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/program"
	"github.com/tanist-ha/tanist/systemd"
)

// prober asks the checks of an instance, whichever service it has.
func (d *daemon) prober(instance string) *probe.Prober {
	return probe.New(func(s probe.Sample) {
		d.node.Deliver(instance, failover.Probed{Check: s.Check, OK: s.OK, Detail: s.Detail})
	})
}

// startProbing runs the prober of a service until what it returns is called.
func (s *service) startProbing(ctx context.Context, watches *sync.WaitGroup) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	watches.Go(func() {
		defer close(ended)
		_ = s.prober.Run(ctx) // it returns nil
	})
	return func() { cancel(); <-ended }
}

// probe makes the prober ask the checks of this service, and no other's.
func (s *service) probe(ctx context.Context) {
	_ = s.prober.Set(ctx, s.checks) // but for the end of the daemon
}

// hush ends what only the old service asks: a new core must not take an answer to
// another question for that to its own.
func (x exchange) hush(ctx context.Context) {
	var both []probe.Check
	for _, c := range x.old.checks {
		if slices.ContainsFunc(x.new.checks, c.Same) {
			both = append(both, c)
		}
	}
	_ = x.old.prober.Set(ctx, both)
}

// probes makes probes of checks.
type probes struct {
	units     probe.Units
	databases databases
	vars      hooks.Vars
	cgroup    string
}

func probesOf(file *config.File, self int, in config.Instance, units *systemd.Units, dbs databases) probes {
	return probes{
		units: activeUnits{units}, databases: dbs, cgroup: program.DelegatedCgroup(),
		vars: hooks.Vars{
			Node: file.Nodes[self].Label, Peer: file.Nodes[1-self].Label, Instance: in.Name, VIP: in.VIPs[0].Addr().String(),
		},
	}
}

// checks are those of an instance.
func (ps probes) checks(in config.Instance) ([]probe.Check, error) {
	var checks []probe.Check
	for _, h := range in.Health {
		p, err := ps.probe(h.Check)
		if err != nil {
			return nil, fmt.Errorf("instance %s: health check %s: %w", in.Name, h.Name, err)
		}
		checks = append(checks, probe.Check{
			Name: h.Name, Identity: ps.identity(h.Check), Interval: h.Interval, Timeout: h.Timeout, Probe: p,
		})
	}
	return checks, nil
}

// identity is the same for two checks that ask the same of the same.
func (ps probes) identity(c config.Check) string {
	if _, ok := c.(config.MySQLCheck); ok {
		return fmt.Sprintf("%T%+v %p", c, c, ps.databases.set) // which a reload closes
	}
	return fmt.Sprintf("%T%+v %+v", c, c, ps.vars)
}

func (ps probes) probe(c config.Check) (probe.Probe, error) {
	switch c := c.(type) {
	case config.UnitCheck:
		name, err := ps.fill(c.Unit)
		return probe.Unit{Name: name, Units: ps.units}, err
	case config.ProcessCheck:
		return &probe.Process{Name: c.Process}, nil
	case config.TCPCheck:
		return probe.TCP{Host: c.Host, Port: c.Port}, nil
	case config.HTTPCheck:
		url, err := ps.fill(c.URL)
		return probe.HTTP{URL: url}, err
	case config.ExecCheck:
		a, err := hooks.Expand(hooks.Exec{Command: c.Command}, ps.vars)
		if err != nil {
			return nil, err
		}
		return probe.Exec{Command: a.(hooks.Exec).Command, User: c.User, Cgroup: ps.cgroup}, nil
	case config.MySQLCheck:
		return probe.Database{Name: c.Database, Databases: ps.databases}, nil
	case config.DiskCheck:
		return probe.Disk{Path: c.Path, MinFree: c.MinFree}, nil
	case config.LinkCheck:
		return probe.Link{Interface: c.Interface}, nil
	case config.GatewayCheck:
		return probe.Gateway{Address: c.Address}, nil
	case config.FileCheck:
		return probe.File{Path: c.Path, MaxAge: c.MaxAge, Contains: c.Contains}, nil
	}
	return nil, errors.New("nobody asks that")
}

func (ps probes) fill(template string) (string, error) {
	a, err := hooks.Expand(hooks.Unit{Name: template}, ps.vars)
	if err != nil {
		return "", err
	}
	return a.(hooks.Unit).Name, nil
}

// sameQuestions names the checks that ask in both instances the same: what was found
// about them still holds.
func sameQuestions(old, next config.Instance) []string {
	was := map[string]config.Check{}
	for _, h := range old.Health {
		was[h.Name] = h.Check
	}
	var names []string
	for _, h := range next.Health {
		if c, ok := was[h.Name]; ok && reflect.DeepEqual(c, h.Check) {
			names = append(names, h.Name)
		}
	}
	return names
}

// activeUnits are this host's units, as what is to be active.
type activeUnits struct{ *systemd.Units }

// Runs is probe.Units.
func (u activeUnits) Runs(ctx context.Context, unit string) error {
	st, err := u.Status(ctx, unit)
	switch {
	case err != nil:
		return err
	case st.LoadState == systemd.NotFound:
		return probe.Unusable("no unit is called %s", unit)
	case st.LoadState == systemd.Masked:
		return probe.Unusable("the unit %s is masked", unit)
	case !st.Running():
		return fmt.Errorf("%s is %v", unit, st)
	}
	return nil
}

// Ping is probe.Databases.
func (ds databases) Ping(ctx context.Context, name string) error {
	ds.first(ctx)
	list, release := ds.use()
	defer release()
	for _, d := range list {
		if d.Name() == name {
			return d.Ping(ctx)
		}
	}
	return probe.Unusable("no database is called %s", name)
}

// Why a check cannot be done here, by kind.
func healthHint(c config.Check) string {
	switch c.(type) {
	case config.UnitCheck:
		return "`systemctl list-unit-files` lists this host's units"
	case config.ExecCheck:
		return "the program and its account have to be on this host"
	case config.MySQLCheck:
		return "`tanist check` lists the databases that the rules find"
	case config.DiskCheck:
		return "name a directory of a file system with a size"
	case config.LinkCheck:
		return "`ip -brief link` lists this host's interfaces"
	case config.GatewayCheck:
		return "name another host's address"
	case config.ProcessCheck, config.TCPCheck, config.HTTPCheck, config.FileCheck:
	}
	return ""
}

// healthPatience bounds one probe of a look at this host.
const healthPatience = 30 * time.Second

// health asks every check once. One that cannot be asked here is a problem, one that
// fails now is not. Without all of them, only what the checks name is looked for:
// nothing that costs somebody else something.
func (h *hostCheck) health(ctx context.Context, at string, in config.Instance, all bool) {
	if len(in.Health) == 0 {
		return
	}
	dbs, err := openDatabases(opener{h.file, h.self, in, services{h.units}}, nil)
	if err != nil {
		return // said already
	}
	defer dbs.close()
	ps := probesOf(h.file, h.self, in, h.units, dbs)
	errs := make([]error, len(in.Health))
	var asking sync.WaitGroup
	for j, c := range in.Health {
		p, err := ps.probe(c.Check)
		if err != nil {
			errs[j] = &probe.UnusableError{Err: err}
			continue
		}
		if !all {
			p = ofThisHost(p)
		}
		if p != nil {
			asking.Go(func() { errs[j] = probe.Once(ctx, p, min(c.Timeout, healthPatience)) })
		}
	}
	asking.Wait()
	for j, c := range in.Health {
		h.healthFound(fmt.Sprintf("%s.health[%d]", at, j), c, errs[j], all)
	}
}

func (h *hostCheck) healthFound(at string, c config.HealthCheck, err error, all bool) {
	if err == nil {
		return
	}
	if unusable := (*probe.UnusableError)(nil); errors.As(err, &unusable) {
		h.problem(at, healthHint(c.Check), "health check %s: %s", c.Name, probe.Line(err))
	} else if all {
		h.notice(at, "a node that is to be active has to pass it, or has the effect "+c.Effect.String()+": see docs/health.md",
			"health check %s fails now: %s", c.Name, probe.Line(err))
	}
}

// ofThisHost is the probe of what a check names on this host, nil when it names nothing.
func ofThisHost(p probe.Probe) probe.Probe {
	switch p := p.(type) {
	case probe.Unit, probe.Disk, probe.Link:
		return p
	case probe.Exec:
		return onlyFound{p}
	}
	return nil
}

// onlyFound looks for a program and does not run it.
type onlyFound struct{ probe.Exec }

// Probe is probe.Probe.
func (o onlyFound) Probe(ctx context.Context) error {
	if _, err := program.Find(ctx, program.Command{Argv: o.Command, User: o.User}); err != nil {
		return &probe.UnusableError{Err: err}
	}
	return nil
}
