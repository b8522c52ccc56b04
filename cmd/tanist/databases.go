package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/hooks/step"
	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/replication"
	"github.com/tanist-ha/tanist/replication/mysql"
)

const (
	// writersGrace is what transactions in flight get before writes close.
	writersGrace = 500 * time.Millisecond
	// parallel bounds how many databases are worked on at once.
	parallel = 32
)

// databases are those of one instance; every operation is on all of them at once.
type databases []*mysql.Database

// openDatabases opens databases, whose servers may be services of units; nil for none.
func openDatabases(cfg []config.Database, units mysql.Units) (databases, error) {
	var ds databases
	for _, c := range cfg {
		d, err := mysql.Open(mysql.Config{
			Name: c.Name, Address: c.Address.String(), User: c.User, PasswordFile: c.PasswordFile,
			Password: noPassword(c), Unit: c.Unit, Units: units,
		})
		if err != nil {
			return nil, err
		}
		ds = append(ds, d)
	}
	return ds, nil
}

// noPassword is the password of an account that the configuration gives none.
func noPassword(c config.Database) func() (string, error) {
	if c.PasswordFile != "" {
		return nil
	}
	return func() (string, error) { return "", nil }
}

// each runs f on every database and joins what went wrong.
func (ds databases) each(f func(i int, d *mysql.Database) error) error {
	errs := make([]error, len(ds))
	slots := make(chan struct{}, parallel)
	var wg sync.WaitGroup
	for i, d := range ds {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			errs[i] = f(i, d)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Measure reads the facts of every database; what cannot be read is a fact too.
func (ds databases) Measure(ctx context.Context, _ bool) []replication.Facts {
	facts := make([]replication.Facts, len(ds))
	_ = ds.each(func(i int, d *mysql.Database) error {
		facts[i] = d.Measure(ctx)
		return nil
	})
	return facts
}

// CloseWrites closes every database, without grace: the emergency form.
func (ds databases) CloseWrites(ctx context.Context) error {
	return ds.each(func(_ int, d *mysql.Database) error {
		_, err := d.CloseWrites(ctx, 0)
		if mysql.NotRunning(err) {
			return nil
		}
		return err
	})
}

// CatchUp waits until every database has applied its target, and what it
// received where there is none.
func (ds databases) CatchUp(ctx context.Context, targets []failover.Position) error {
	byName := map[string]replication.Position{}
	for _, t := range targets {
		byName[t.Database] = t.Executed
	}
	return ds.each(func(_ int, d *mysql.Database) error {
		_, err := d.CatchUp(ctx, byName[d.Name()])
		return err
	})
}

// step makes the step of an action on databases.
func (ds databases) step(a hooks.Action) step.Step {
	switch a := a.(type) {
	case hooks.Writes:
		return writes{ds, a.Open}
	case hooks.Replication:
		return replicationStep{ds, a.Verb}
	case hooks.VIP, hooks.Unit, hooks.YAML, hooks.Exec:
	}
	return nil
}

// writes opens or closes every database.
type writes struct {
	databases
	open bool
}

func (w writes) Check(ctx context.Context) (step.State, error) {
	return w.compare(func(_ int, d *mysql.Database) (bool, error) {
		same, err := d.WritesAre(ctx, w.open)
		if !w.open && mysql.NotRunning(err) {
			return true, nil
		}
		return same, err
	})
}

func (w writes) Apply(ctx context.Context) error {
	until, ok := ctx.Deadline()
	if !ok {
		return errors.New("open or close writes: no deadline, and what comes late must not happen")
	}
	return w.each(func(_ int, d *mysql.Database) error {
		if w.open {
			return d.OpenWrites(ctx, until)
		}
		_, err := d.CloseWritesUntil(ctx, writersGrace, until)
		if mysql.NotRunning(err) {
			return nil // nobody writes to it
		}
		return err
	})
}

// replicationStep stops the replica threads of every database, or starts them as
// they were.
type replicationStep struct {
	databases
	verb hooks.ReplicationVerb
}

func (r replicationStep) Check(ctx context.Context) (step.State, error) {
	if r.verb == hooks.NoReplication {
		return step.Ok, nil
	}
	return r.compare(func(_ int, d *mysql.Database) (bool, error) {
		if r.verb == hooks.StartReplication {
			return d.ReplicationRuns(ctx)
		}
		return d.ReplicationStopped(ctx)
	})
}

func (r replicationStep) Apply(ctx context.Context) error {
	return r.each(func(_ int, d *mysql.Database) error {
		switch r.verb {
		case hooks.StopReplication:
			return d.StopReplication(ctx)
		case hooks.StartReplication:
			return d.StartReplication(ctx)
		case hooks.NoReplication, hooks.FollowPeer, hooks.ResetReplication: // the latter two are steps of their own
		}
		return nil
	})
}

// compare adds up a check of every database: already so only if all are.
func (ds databases) compare(same func(int, *mysql.Database) (bool, error)) (step.State, error) {
	is := make([]bool, len(ds))
	err := ds.each(func(i int, d *mysql.Database) error {
		var err error
		is[i], err = same(i, d)
		return err
	})
	if err != nil {
		return step.Cannot, err
	}
	for _, ok := range is {
		if !ok {
			return step.WouldChange, nil
		}
	}
	return step.Ok, nil
}

func (ds databases) close() {
	for _, d := range ds {
		_ = d.Close()
	}
}
