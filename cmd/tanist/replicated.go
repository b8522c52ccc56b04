package main

// How the daemon, or a command without one, carries out `tanist replication`.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/hooks/journal"
	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/replication"
)

// discardedDir is where, in the state directory, discarded transactions are kept.
const discardedDir = "discarded"

// Replication carries out an operator's command on this node's databases. It works
// beside the loop. A plan's step on the databases ends it.
func (d *daemon) Replication(ctx context.Context, r control.ReplicationRequest, news func(control.ReplicationLine)) error {
	name, err := d.instanceName(r.Instance)
	if err != nil {
		return err
	}
	s := d.service(name)
	if s == nil {
		return fmt.Errorf("instance %s is no longer there", name)
	}
	changes := r.Changes()
	if changes {
		// What was begun is brought to its end, also when nobody watches any more.
		begun, done, err := s.steps.turn.command(context.WithoutCancel(ctx))
		if err != nil {
			return err
		}
		defer done()
		ctx, news = begun, d.logged(r, name, news)
	}
	// After the turn was had: from here on no step of a plan goes unnoticed.
	st, err := d.node.Status(ctx, name)
	switch {
	case err != nil:
		return err
	case st.Last != nil && st.Last.Running && changes:
		return errPlanRuns
	}
	p := replicator{
		databases: s.databases, discards: filepath.Join(d.common.stateDir, discardedDir),
		status: func(ctx context.Context) ([]control.ReplicationLine, error) { return d.replicationStatus(ctx, s) },
		record: func(ctx context.Context, text string) error {
			return d.node.Record(ctx, name, hooks.Record{
				Kind: hooks.Override, Instance: name, Epoch: uint64(st.Epoch), Role: hooks.Standby, Reason: text, UID: r.UID,
			})
		},
	}
	if st.Role == hooks.Active || st.Holds {
		p.active = fmt.Sprintf("%s is %s", st.Node, st.State)
	}
	return p.run(ctx, r, news)
}

// logged also puts every line into the log.
func (d *daemon) logged(r control.ReplicationRequest, instance string, news func(control.ReplicationLine)) func(control.ReplicationLine) {
	return func(l control.ReplicationLine) {
		d.log.event(kindReplication, zapcore.InfoLevel, "replication "+string(r.Verb), zap.String("instance", instance), zap.String("database", l.Database),
			zap.String("result", string(l.Result)), zap.String("detail", l.Detail), zap.Uint32("uid", r.UID))
		news(l)
	}
}

// statusPatience is how long an answer waits for facts that are newer than the
// question. A standby is measured every second.
const statusPatience = 2 * time.Second

// replicationStatus says of every database whether all is well. What a command
// before it changed is in it: who follows and then asks means that.
func (d *daemon) replicationStatus(ctx context.Context, s *service) ([]control.ReplicationLine, error) {
	st, err := d.node.Status(ctx, s.cfg.Name)
	for asked := st.Now; err == nil && !newer(st.Databases, asked) && st.Now.Sub(asked) < statusPatience; {
		select {
		case <-time.After(statusPatience / 40):
			st, err = d.node.Status(ctx, s.cfg.Name)
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	if err != nil {
		return nil, err
	}
	in := control.NewInstance(time.Now(), st, control.Extra{Held: func(netip.Addr) bool { return false }})
	var lines []control.ReplicationLine
	for _, db := range in.Databases {
		lines = append(lines, replicationLine(db, st.State == failover.Active, in.Gate.Reasons))
	}
	return lines, nil
}

// newer reports whether all databases were measured after an instant.
func newer(list []replication.Database, than mono.Instant) bool {
	return !slices.ContainsFunc(list, func(d replication.Database) bool { return !d.Facts.MeasuredAt.After(than) })
}

// replicationLine judges one database: a source on the active node that takes
// writes, or a replica that nothing speaks against.
func replicationLine(db control.Database, active bool, reasons []control.GateReason) control.ReplicationLine {
	l := control.ReplicationLine{Database: db.Name, Result: control.ReplicationRefused, Status: &db}
	runs := func(b *bool) bool { return b != nil && *b }
	reason := slices.IndexFunc(reasons, func(r control.GateReason) bool { return r.Database == db.Name })
	switch {
	case db.Error != "":
		l.Detail = db.Error
	case active && db.Role == replication.RoleSource.String() && db.ReadOnly != nil && !*db.ReadOnly:
		l.Result = control.ReplicationDone
	case active:
		l.Detail = "the node is active, and this is no source that takes writes"
	case db.Role != replication.RoleReplica.String():
		l.Detail = "it does not replicate"
	case !runs(db.IORunning) || !runs(db.SQLRunning):
		l.Detail = "a thread does not run"
	case reason >= 0:
		l.Detail = reasons[reason].Code.String() + ": " + reasons[reason].Detail
	default:
		l.Result = control.ReplicationDone
	}
	return l
}

// withoutDaemon does it where no daemon runs, and journals it as one would.
func withoutDaemon(ctx context.Context, c *common, r control.ReplicationRequest, stderr io.Writer, news func(control.ReplicationLine)) error {
	file, self, err := load(c)
	if err != nil {
		return err
	}
	in, err := configured(file, r.Instance)
	if err != nil {
		return err
	}
	ds, err := openDatabases(opener{file: file, self: self, in: in}, nil)
	if err != nil {
		return err
	}
	defer ds.close()
	p := replicator{databases: ds, discards: filepath.Join(c.stateDir, discardedDir)}
	held := heldAddresses(in.Interface)
	for _, v := range in.VIPs {
		if slices.Contains(held, v.Addr()) {
			p.active = fmt.Sprintf("%s has the address %s", file.Nodes[self].Label, v.Addr())
		}
	}
	p.record = func(context.Context, string) error {
		return errors.New("only the daemon journals who discarded what: start it")
	}
	p.status = func(ctx context.Context) ([]control.ReplicationLine, error) {
		var lines []control.ReplicationLine
		for _, f := range ds.Measure(ctx, false) {
			lines = append(lines, replicationLine(control.NewDatabase(f, bootClock()), p.active != "", nil))
		}
		return lines, nil
	}
	if r.Changes() {
		r.Instance, r.UID = in.Name, uint32(os.Getuid())
		if err := journalAlone(c, r.Command(), stderr); err != nil {
			return fmt.Errorf("nothing was changed: journal who wants it: %w", err)
		}
	}
	return p.run(ctx, r, news)
}

// journalAlone journals a command where no daemon runs. It lets go of the journal
// before anything is done: the service manager may start the daemon at any time. Where
// no daemon ever ran there is no journal, and nobody to read it.
func journalAlone(c *common, of control.Command, stderr io.Writer) error {
	path := filepath.Join(c.stateDir, "journal")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(stderr, "tanist: not journaled: there is no %s yet\n", path)
		return nil
	}
	written := make(chan error, 1)
	go func() {
		book, _, err := journal.Open(path)
		if err == nil {
			err = errors.Join(book.Append(hooks.Record{
				Kind: hooks.Commanded, Instance: of.Instance, Command: of.Verb, Arguments: of.Arguments, Reason: of.Reason, UID: of.UID,
			}), book.Sync(), book.Close())
		}
		written <- err
	}()
	select {
	case err := <-written:
		if errors.Is(err, journal.ErrOwned) {
			return fmt.Errorf("a daemon runs, though none answers on %s: %w", c.socket, err)
		}
		return err
	case <-time.After(recordTime):
		return errors.New("its disk does not answer")
	}
}

// configured returns the instance of a name, or the only one.
func configured(file *config.File, name string) (config.Instance, error) {
	if name == "" && len(file.Instances) == 1 {
		return file.Instances[0], nil
	}
	for _, in := range file.Instances {
		if in.Name == name {
			return in, nil
		}
	}
	if name == "" {
		return config.Instance{}, fmt.Errorf("there are %d instances: name one", len(file.Instances))
	}
	return config.Instance{}, fmt.Errorf("no instance is called %q", name)
}
