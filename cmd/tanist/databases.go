package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/hooks/step"
	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/replication"
	"github.com/tanist-ha/tanist/replication/mysql"
)

const (
	// writersGrace is what transactions in flight get before writes close.
	writersGrace = 500 * time.Millisecond
	// awaitSlack is how much later than patience a server may answer.
	awaitSlack = 200 * time.Millisecond
	// parallel bounds how many databases are begun with at once.
	parallel = 64
	// roundTime bounds one look at all databases, however many of them hang.
	roundTime = 950 * time.Millisecond
)

// databases are those of one instance; every operation is on all of them at once.
type databases struct{ *set }

// each runs f on every database and joins what went wrong.
func (ds databases) each(ctx context.Context, f func(d *database) error) error {
	ds.first(ctx)
	list, release := ds.use()
	defer release()
	errs := make([]error, len(list))
	inParallel(list, func(i int, d *database) { errs[i] = f(d) })
	return errors.Join(errs...)
}

// inParallel runs f on every database; one that hangs does not hold up the others.
func inParallel(list []*database, f func(i int, d *database)) {
	mysql.Each(servers(list), parallel, func(i int, _ *mysql.Database) { f(i, list[i]) })
}

func servers(list []*database) []*mysql.Database {
	all := make([]*mysql.Database, len(list))
	for i, d := range list {
		all[i] = d.Database
	}
	return all
}

// Measure reads the facts of every database that there is; what cannot be read is
// a fact too. With relist it looks first which there are.
func (ds databases) Measure(ctx context.Context, relist bool) []replication.Facts {
	ds.refresh(ctx, relist)
	list, release := ds.use()
	defer release()
	ctx, cancel := context.WithTimeout(ctx, roundTime)
	defer cancel()
	return mysql.MeasureAll(ctx, servers(list), parallel)
}

// Beat writes one heartbeat into every database that has a table for it. One that
// hung a moment ago is left alone: it has its own trouble.
func (ds databases) Beat(ctx context.Context, epoch failover.Epoch, until mono.Instant) error {
	list, release := ds.use()
	defer release()
	var beating []*database
	for _, d := range list {
		if d.cfg.HeartbeatTable != (config.Table{}) && !d.Silent() {
			beating = append(beating, d)
		}
	}
	errs := make([]error, len(beating))
	inParallel(beating, func(i int, d *database) { errs[i] = d.Beat(ctx, uint64(epoch), until) })
	return errors.Join(errs...)
}

// CloseWrites closes every database, without grace: the emergency form.
func (ds databases) CloseWrites(ctx context.Context) error {
	return ds.each(ctx, func(d *database) error {
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
	return ds.each(ctx, func(d *database) error {
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
	case hooks.VIP, hooks.Unit, hooks.YAML, hooks.Exec, hooks.JSON, hooks.Line, hooks.Link, hooks.Notify, hooks.Wait:
	}
	return nil
}

// writes opens or closes every database.
type writes struct {
	databases
	open bool
}

func (w writes) Check(ctx context.Context) (step.State, error) {
	return w.compare(ctx, func(d *database) (bool, error) {
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
	if w.open {
		return w.each(ctx, func(d *database) error { return d.OpenWrites(ctx, until) })
	}
	patience := time.Now().Add(writersGrace)
	w.awaitTransactions(ctx, patience)
	return w.each(ctx, func(d *database) error {
		_, err := d.CloseAwaited(ctx, patience, until)
		if mysql.NotRunning(err) {
			return nil // nobody writes to it
		}
		return err
	})
}

// awaitTransactions lets the transactions that are open end on every database before
// the first is closed: one that has long ones would keep the others closed for it.
// What fails here fails again when closing, and is told there.
func (w writes) awaitTransactions(ctx context.Context, patience time.Time) {
	ctx, cancel := context.WithDeadline(ctx, patience.Add(awaitSlack))
	defer cancel()
	_ = w.each(ctx, func(d *database) error { return d.AwaitTransactions(ctx, patience) })
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
	return r.compare(ctx, func(d *database) (bool, error) {
		if r.verb == hooks.StartReplication {
			return d.ReplicationRuns(ctx)
		}
		return d.ReplicationStopped(ctx)
	})
}

func (r replicationStep) Apply(ctx context.Context) error {
	return r.each(ctx, func(d *database) error {
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
func (ds databases) compare(ctx context.Context, same func(*database) (bool, error)) (step.State, error) {
	var differs atomic.Bool
	err := ds.each(ctx, func(d *database) error {
		is, err := same(d)
		if !is {
			differs.Store(true)
		}
		return err
	})
	switch {
	case err != nil:
		return step.Cannot, err
	case differs.Load():
		return step.WouldChange, nil
	}
	return step.Ok, nil
}

// close ends what is under way with an error, and looks at no file any more.
func (ds databases) close() {
	ds.stopped()
	ds.mu.Lock()
	list := ds.list
	ds.closed, ds.list = true, nil
	ds.mu.Unlock()
	for _, d := range list {
		_ = d.Close()
	}
}
