package main

// What `tanist replication` does to the databases of one instance, in the daemon
// or, where none runs, in the command itself. Each database is dealt with by
// itself: what is refused for one is done for the others.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/replication"
	"github.com/tanist-ha/tanist/replication/mysql"
)

// progressInterval is the time between two lines about a database that is waited for.
const progressInterval = time.Second

// replicator does what is wanted with the databases of one instance.
type replicator struct {
	databases databases
	active    string // why this node's databases are the source; empty: they are not
	discards  string // directory for what is discarded
	// record writes down what is discarded, before it is.
	record func(ctx context.Context, text string) error
	status func(ctx context.Context) ([]control.ReplicationLine, error)
}

var errActive = errors.New("its databases are the source, which follows nobody")

// run calls news with at least one line for each database that is meant, one call
// at a time.
func (r replicator) run(ctx context.Context, req control.ReplicationRequest, news func(control.ReplicationLine)) error {
	r.databases.refresh(ctx, true) // who has just added one means it too
	list, release := r.databases.use()
	defer release()
	meant, err := named(list, req.Databases)
	if err != nil {
		return errors.Join(err, r.databases.uncertain())
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(req.TimeoutMS)*time.Millisecond)
	defer cancel()
	if req.Verb == control.ReplicationStatus {
		err = r.tell(ctx, meant, news)
	} else {
		var mu sync.Mutex
		say := func(l control.ReplicationLine) {
			mu.Lock()
			defer mu.Unlock()
			news(l)
		}
		inParallel(meant, func(_ int, d *database) { say(r.one(ctx, req, d, say)) })
	}
	if len(req.Databases) == 0 { // all of them, so none may be unknown
		err = errors.Join(err, r.databases.uncertain())
	}
	return err
}

// named returns the databases of these names, all of them for none.
func named(list []*database, names []string) ([]*database, error) {
	if len(list) == 0 {
		return nil, errors.New("the instance has no databases")
	}
	if len(names) == 0 {
		return list, nil
	}
	byName := map[string]*database{}
	var all []string
	for _, d := range list {
		byName[d.Name()] = d
		all = append(all, d.Name())
	}
	var meant []*database
	for _, n := range names {
		switch d := byName[n]; {
		case d == nil:
			return nil, fmt.Errorf("no database is called %q: there are %s", n, strings.Join(all, ", "))
		case !slices.Contains(meant, d):
			meant = append(meant, d)
		}
	}
	return meant, nil
}

// tell says how each database is.
func (r replicator) tell(ctx context.Context, meant []*database, news func(control.ReplicationLine)) error {
	lines, err := r.status(ctx)
	if err != nil {
		return err
	}
	for _, d := range meant {
		i := slices.IndexFunc(lines, func(l control.ReplicationLine) bool { return l.Database == d.Name() })
		if i < 0 {
			news(control.ReplicationLine{Database: d.Name(), Result: control.ReplicationRefused, Detail: "it has just been found and not been looked at yet"})
			continue
		}
		news(lines[i])
	}
	return nil
}

// one deals with one database.
func (r replicator) one(ctx context.Context, req control.ReplicationRequest, d *database, say func(control.ReplicationLine)) control.ReplicationLine {
	line := control.ReplicationLine{Database: d.Name(), Result: control.ReplicationRefused}
	var err error
	switch req.Verb {
	case control.ReplicationStop:
		line.Result, err = r.stop(ctx, d)
	case control.ReplicationStart:
		line.Result, err = r.start(ctx, d)
	case control.ReplicationFollow:
		line.Result, err = r.follow(ctx, d)
	case control.ReplicationRejoin:
		line.Result, line.Detail, err = r.rejoin(ctx, req, d)
	case control.ReplicationWait:
		line.Result, err = r.wait(ctx, d, say)
	case control.ReplicationStatus:
	}
	if err != nil {
		line.Result, line.Detail = control.ReplicationRefused, oneLine(err)
		switch cause := context.Cause(ctx); {
		case errors.Is(cause, errPlanCame):
			line.Detail = cause.Error() + ": " + line.Detail
		case errors.Is(cause, context.DeadlineExceeded):
			line.Detail = "timed out: " + line.Detail
		}
	}
	if e, ok := errors.AsType[*mysql.ErrantError](err); ok {
		line.Errant = e.Errant
	}
	return line
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

func (r replicator) stop(ctx context.Context, d *database) (control.ReplicationResult, error) {
	if stopped, err := d.ReplicationStopped(ctx); err != nil || stopped {
		return control.ReplicationUnchanged, err
	}
	return control.ReplicationDone, d.StopReplication(ctx)
}

// start starts what is there. A database that wrote since it last replicated has
// to follow: its channel would go on from the wrong place.
func (r replicator) start(ctx context.Context, d *database) (control.ReplicationResult, error) {
	if err := r.standby(ctx, d); err != nil {
		return "", err
	}
	f := d.Measure(ctx)
	channels, known := f.Channels.Get()
	applied, appliedKnown := f.Applied.Get()
	position, positionKnown := f.Position()
	switch {
	case !known || !appliedKnown || !positionKnown:
		return "", fmt.Errorf("database %s cannot be read: %s %s", d.Name(), f.Reach, f.ReachDetail)
	case len(channels) == 0:
		return "", fmt.Errorf("database %s has no channel to start: use `tanist replication follow %s`", d.Name(), d.Name())
	}
	if runs, err := d.ReplicationRuns(ctx); err != nil || runs {
		return control.ReplicationUnchanged, err
	}
	if !applied.Covers(position) {
		return "", fmt.Errorf("database %s has %s, and its channel would go on from %s: use `tanist replication follow %s`", d.Name(), position, applied, d.Name())
	}
	return control.ReplicationDone, d.StartReplication(ctx)
}

// standby refuses a database that is a source.
func (r replicator) standby(ctx context.Context, d *database) error {
	if r.active != "" {
		return fmt.Errorf("%s: %w", r.active, errActive)
	}
	open, err := d.WritesOpen(ctx)
	if err != nil {
		return err
	}
	if open {
		return fmt.Errorf("database %s: %w", d.Name(), mysql.ErrWritesOpen)
	}
	return nil
}

func (r replicator) follow(ctx context.Context, d *database) (control.ReplicationResult, error) {
	src, err := r.mayFollow(ctx, d)
	if err != nil {
		return "", err
	}
	if following, err := d.Following(ctx, src); err != nil || following {
		return control.ReplicationUnchanged, err
	}
	return control.ReplicationDone, d.Follow(ctx, src)
}

func (r replicator) mayFollow(ctx context.Context, d *database) (mysql.Source, error) {
	if err := r.standby(ctx, d); err != nil {
		return mysql.Source{}, err
	}
	return d.from()
}

func (r replicator) rejoin(ctx context.Context, req control.ReplicationRequest, d *database) (control.ReplicationResult, string, error) {
	if !req.Discard {
		result, err := r.follow(ctx, d)
		if _, errant := errors.AsType[*mysql.ErrantError](err); errant {
			err = fmt.Errorf("%w: make it anew from the source, or give them up with --discard --reason", err)
		}
		return result, "", err
	}
	src, err := r.mayFollow(ctx, d)
	if err != nil {
		return "", "", err
	}
	where := ""
	gone, err := d.Discard(ctx, src, func(ctx context.Context, g mysql.Discarded) error {
		var err error
		if where, err = putAway(ctx, filepath.Join(r.discards, d.Name()), g); err != nil {
			return err
		}
		err = r.record(ctx, fmt.Sprintf("database %s: discarded %s (%d), kept in %s; follows from %s, state %s: %s",
			d.Name(), strings.Join(g.Errant, ", "), g.Count, where, g.From, g.State, req.Reason))
		if err != nil {
			return errors.Join(err, os.RemoveAll(where))
		}
		return nil
	})
	switch {
	case gone.Count == 0:
		return control.ReplicationDone, "", err
	case err != nil:
		return "", "", fmt.Errorf("discarded %s, which are kept in %s: %w", strings.Join(gone.Errant, ", "), where, err)
	}
	return control.ReplicationDone, fmt.Sprintf("discarded %s, which are kept in %s; the tables still hold their rows: make the database anew from the source before it is promoted",
		strings.Join(gone.Errant, ", "), where), nil
}

// putAway copies the binary logs that hold what is discarded into a new directory.
func putAway(ctx context.Context, dir string, g mysql.Discarded) (string, error) {
	dir = filepath.Join(dir, time.Now().UTC().Format("20060102T150405.000000Z"))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make a place for the binary logs: %w", err)
	}
	for _, log := range g.Logs {
		if err := copyLog(ctx, filepath.Join(dir, filepath.Base(log)), log); err != nil {
			return "", errors.Join(fmt.Errorf("copy binary log: %w", err), os.RemoveAll(dir))
		}
	}
	return dir, nil
}

func copyLog(ctx context.Context, to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, untilEnd{ctx, in})
	if err == nil {
		err = out.Sync()
	}
	return errors.Join(err, out.Close())
}

// untilEnd reads until its context ends: a binary log can have gigabytes.
type untilEnd struct {
	ctx context.Context //nolint:containedctx // a reader of one call
	io.Reader
}

func (u untilEnd) Read(b []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.Reader.Read(b)
}

// wait waits until a replica has what its source had when the wait began; without
// an account for the source, what it had received.
func (r replicator) wait(ctx context.Context, d *database, say func(control.ReplicationLine)) (control.ReplicationResult, error) {
	if r.active != "" {
		return "", fmt.Errorf("%s: %w", r.active, errActive)
	}
	if has, err := d.HasChannels(ctx); err != nil || !has {
		return "", errors.Join(err, fmt.Errorf("database %s has no channel: it waits for nothing", d.Name()))
	}
	var target replication.Position
	if src, err := d.from(); err == nil {
		if target, err = src.Position(ctx); err != nil {
			return "", err
		}
	}
	over := make(chan error, 1)
	go func() {
		_, err := d.CatchUp(ctx, target)
		over <- err
	}()
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	for {
		select {
		case err := <-over:
			return control.ReplicationDone, err
		case <-tick.C:
		}
		l := control.ReplicationLine{Database: d.Name(), Result: control.ReplicationWaiting}
		if applied, ok := d.Measure(ctx).Applied.Get(); ok && !target.Empty() {
			missing := applied.Missing(target)
			l.Missing, l.Detail = &missing, fmt.Sprintf("%d transactions to go", missing)
		}
		say(l)
	}
}
