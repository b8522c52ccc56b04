package main

// A reload brings the running daemon to what the file says now: everything is
// looked at before anything is changed, what changes is replaced at once or not at
// all, and only then what is no longer wanted leaves and what is new starts.

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/node"
	"github.com/tanist-ha/tanist/internal/web"
	"github.com/tanist-ha/tanist/replication/discover"
	"github.com/tanist-ha/tanist/vrrp/auth"
)

const (
	// restPatience is how long a reload waits for instances that have a plan, a
	// takeover or a handover under way.
	restPatience = 15 * time.Second
	// swapPatience is what it waits when they were at rest a moment ago.
	swapPatience = time.Second
	// lookPatience bounds the look at what a new file names on this host.
	lookPatience = 20 * time.Second
)

// How a reload can end.
const (
	reloadRunning   = "running"
	reloadApplied   = "applied"
	reloadUnchanged = "unchanged"
	reloadRefused   = "refused" // the file, or what it asks for, is not good
	reloadBusy      = "busy"    // an instance was not at rest
	reloadFailed    = "failed"
)

// keyChanged is what a reload says that found other keys in the file.
const keyChanged = "the cluster key"

// now returns what the daemon works with, and its last reload.
func (d *daemon) now() ([]*service, *control.Reload) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.services, d.reloaded
}

// tend runs the surveys and the database watches of all instances and reloads when
// told to, until ctx ends.
func (d *daemon) tend(ctx, leave context.Context, reload <-chan struct{}) error {
	var watches sync.WaitGroup
	defer watches.Wait()
	watch := func(s *service) {
		if s.unprobe == nil {
			s.unprobe = s.startProbing(ctx, &watches)
			s.probe(ctx)
		}
		watching, end := context.WithCancel(ctx)
		var ended sync.WaitGroup
		s.unwatch = func() { end(); ended.Wait() }
		both := func(run func()) {
			ended.Add(1)
			watches.Go(func() { defer ended.Done(); run() })
		}
		if !s.survey.idle() {
			both(func() { _ = s.survey.run(watching) }) // it returns nil
		}
		if len(s.cfg.Databases)+len(s.cfg.Discover) == 0 {
			return // nor will there be any to watch
		}
		both(func() {
			s.databases.Watch(watching, func(database string) {
				d.log.event(kindDatabase, zapcore.WarnLevel, "the server of a database has ended", zap.String("instance", s.cfg.Name), zap.String("database", database))
				d.node.Deliver(s.cfg.Name, failover.Disturbed{})
			})
		})
	}
	services, _ := d.now()
	for _, s := range services {
		watch(s)
	}
	d.keepApplied()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-reload:
		}
		if leave.Err() == nil {
			d.reload(leave, watch)
		}
	}
}

// reload reads the file again and says how that ended. The end of the daemon, which
// is that of ctx, comes before any reload.
func (d *daemon) reload(ctx context.Context, watch func(*service)) {
	d.said("reads its configuration again", d.notifier.Reloading())
	r := control.Reload{At: time.Now().UTC().Truncate(time.Millisecond), Result: reloadRunning}
	d.noteReload(r)
	detail, err := d.tryReload(ctx, watch)
	r.Detail, r.Result = detail, reloadApplied
	var problems config.Problems
	var busy *node.BusyError
	switch {
	case err == nil && detail == "":
		r.Result = reloadUnchanged
	case err == nil:
	case errors.As(err, &problems):
		r.Result, r.Error = reloadRefused, firstProblem(problems)
	case errors.As(err, &busy):
		r.Result, r.Error = reloadBusy, err.Error()
	default:
		r.Result, r.Error = reloadFailed, err.Error()
	}
	d.noteReload(r)
	for _, p := range problems {
		d.log.event(kindReloadRefused, zapcore.WarnLevel, "reload: "+p.Message, zap.String("at", place(p)), zap.String("hint", p.Hint))
	}
	switch {
	case err == nil:
		d.log.event(kindReload, zapcore.InfoLevel, "reload "+r.Result, zap.String("changes", detail))
	case detail != "":
		d.log.event(kindReloadRefused, zapcore.WarnLevel, "reload cut short", zap.String("changes", detail), zap.Error(err))
	default:
		d.log.event(kindReloadRefused, zapcore.WarnLevel, "reload "+r.Result+", nothing was changed", zap.String("error", r.Error))
	}
	if ctx.Err() == nil {
		d.said("serves", d.notifier.Ready())
	}
}

func (d *daemon) noteReload(r control.Reload) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reloaded = &r
}

func firstProblem(ps config.Problems) string { return place(ps[0]) + ": " + ps[0].Message }

func place(p config.Problem) string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// tryReload does it. It returns what it changed, empty if that is nothing, also
// beside an error.
func (d *daemon) tryReload(ctx context.Context, watch func(*service)) (string, error) {
	next, _, err := load(d.common)
	if err != nil {
		return "", err
	}
	diff, err := config.Compare(d.file, next)
	if err != nil {
		return "", err
	}
	if problems := d.look(ctx, next, diff); len(problems) > 0 {
		return "", problems
	}
	// Read each time: a key is renewed in its file.
	keys, err := clusterKeys(next)
	if err != nil {
		return "", err
	}
	c, err := d.prepare(next, diff)
	if err != nil {
		return "", err
	}
	if err := d.swapWith(ctx, keys, c); err != nil {
		c.close()
		return "", err
	}
	if err := d.rekeyLink(keys, c); err != nil {
		return c.words(), err
	}
	d.log.setLevel(next.Log.Level)
	if c.http {
		d.web.Serve(c.web)
	}
	d.mu.Lock()
	d.file = next
	d.mu.Unlock()
	d.describe(next)
	for _, s := range c.changed {
		d.exchange(s.old, s.new)
		s.new.probe(ctx)
		if ctx.Err() == nil { // else something may still use it
			s.retire()
		}
		watch(s.new)
	}
	if err := d.finish(ctx, c, watch); err != nil {
		return c.words(), err
	}
	d.order(next)
	d.keepApplied()
	return c.words(), nil
}

// look finds what keeps this host from doing what is new in the file.
func (d *daemon) look(ctx context.Context, next *config.File, diff config.Diff) config.Problems {
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	h := &hostCheck{file: next, self: d.self, units: d.units}
	h.keyFile()
	fresh := slices.Clone(diff.Added)
	for _, p := range diff.Changed {
		fresh = append(fresh, p.New)
	}
	for _, i := range fresh {
		in, at := next.Instances[i], fmt.Sprintf("instances[%d]", i)
		h.network(i, at, in)
		for j, db := range in.Databases {
			h.databaseFiles(fmt.Sprintf("%s.databases[%d]", at, j), db)
		}
		for j, r := range in.Discover {
			h.databaseFiles(fmt.Sprintf("%s.discover[%d]", at, j), r.Database(discover.Found{}))
		}
		h.plan(ctx, at+".promote", in.Name, in.Promote)
		h.plan(ctx, at+".demote", in.Name, in.Demote)
		h.health(ctx, at, in, false)
	}
	return h.problems
}

// change is everything that a reload does, opened and not begun.
type change struct {
	changed []exchange
	added   []*service
	starts  []node.Instance // of added, once they are connected
	removed []*service
	others  []string // what else changed
	http    bool     // where HTTP is answered
	web     *web.Listener
}

// exchange is one instance before and after.
type exchange struct {
	old, new    *service
	extra, gone *exactly // that only one of them has, nil when there are none
}

func (d *daemon) prepare(next *config.File, diff config.Diff) (c *change, err error) {
	c = &change{}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	for _, p := range diff.Changed {
		x := exchange{old: d.service(next.Instances[p.New].Name)}
		if x.new, err = d.open(next, next.Instances[p.New]); err != nil {
			return c, err
		}
		c.changed = append(c.changed, x)
		was, is := x.old.cfg, x.new.cfg
		x.new.prober, x.new.unprobe = x.old.prober, x.old.unprobe
		last := &c.changed[len(c.changed)-1]
		if last.extra, err = d.openOnly(is, was); err != nil {
			return c, err
		}
		if last.gone, err = d.openOnly(was, is); err != nil {
			return c, err
		}
	}
	for _, i := range diff.Added {
		s, err := d.open(next, next.Instances[i])
		if err != nil {
			return c, err
		}
		s.prober = d.prober(s.cfg.Name)
		c.added = append(c.added, s)
	}
	for _, i := range diff.Removed {
		c.removed = append(c.removed, d.service(d.file.Instances[i].Name))
	}
	if diff.LogLevel {
		c.others = append(c.others, "log.level "+next.Log.Level.String())
	}
	if diff.KeyFile {
		c.others = append(c.others, "key_file")
	}
	if diff.HTTP {
		c.http, c.others = true, append(c.others, "http")
		if c.web, err = openWeb(next, d.file.HTTP); err != nil {
			return c, err
		}
	}
	return c, nil
}

// openOnly prepares for the addresses that a has and b has not, nil for none.
func (d *daemon) openOnly(a, b config.Instance) (*exactly, error) {
	var only []netip.Prefix
	for _, p := range a.VIPs {
		if a.Interface != b.Interface || !slices.Contains(b.VIPs, p) {
			only = append(only, p)
		}
	}
	if len(only) == 0 {
		return nil, nil
	}
	opened, err := d.openAddresses(a.Interface, only)
	if err != nil {
		return nil, fmt.Errorf("instance %s: %w", a.Name, err)
	}
	return &exactly{opened}, nil
}

// close gives back what was opened for a change that does not come about.
func (c *change) close() {
	for _, x := range c.changed {
		x.new.close()
		x.closeEnds()
	}
	for _, s := range c.added {
		s.close()
	}
	if c.web != nil {
		_ = c.web.Close()
	}
}

func (x exchange) closeEnds() {
	for _, a := range []*exactly{x.extra, x.gone} {
		if a != nil {
			_ = a.Close()
		}
	}
}

// retire gives back what only the old instance needed.
func (x exchange) retire() {
	x.old.end()
	x.closeEnds()
}

// end ends what runs for a service that the node no longer has.
func (s *service) end() {
	s.unwatch()
	s.close()
}

// words say what changes.
func (c *change) words() string {
	words := slices.Clone(c.others)
	for _, s := range c.removed {
		words = append(words, "removed "+s.cfg.Name)
	}
	for _, x := range c.changed {
		words = append(words, "changed "+x.new.cfg.Name)
	}
	for _, s := range c.added {
		words = append(words, "added "+s.cfg.Name)
	}
	return strings.Join(words, ", ")
}

// swapWith swaps under new keys, and keeps the old ones if that fails. Keys that
// nothing needs any more stay.
func (d *daemon) swapWith(ctx context.Context, keys []auth.Key, c *change) error {
	if len(keys) == 0 || auth.Equal(keys, d.keys) {
		return d.swap(ctx, c)
	}
	if err := d.heartbeat.SetKeys(keys); err != nil {
		return err
	}
	if err := d.swap(ctx, c); err != nil {
		return errors.Join(err, d.heartbeat.SetKeys(d.keys))
	}
	d.mu.Lock()
	d.keys = keys
	c.others = append(c.others, keyChanged)
	d.mu.Unlock()
	return nil
}

// swap replaces the changed instances, all or none, and makes the added ones ready
// to start: after it nothing fails but for the end of the daemon.
func (d *daemon) swap(ctx context.Context, c *change) error {
	var names []string
	for _, x := range c.changed {
		names = append(names, x.old.cfg.Name)
	}
	// Before the heartbeats, which are ready for the new ones no longer than needed.
	if err := d.node.AtRest(ctx, restPatience, names...); err != nil {
		return err
	}
	rs, err := d.connect(c)
	for _, x := range c.changed {
		d.sight.remove(x.old.addresses) // what goes now is not lost
		x.hush(ctx)
	}
	if err == nil {
		err = d.node.Replace(ctx, swapPatience, rs)
	}
	for _, x := range c.changed {
		next := x.new
		if err != nil {
			next = x.old
			next.probe(ctx)
		}
		d.sight.add(next.cfg.Name, next.addresses)
	}
	if err != nil {
		return errors.Join(err, d.disconnect(c))
	}
	return nil
}

// connect makes the heartbeats of what is changed or added.
func (d *daemon) connect(c *change) (rs []node.Replacement, err error) {
	for _, x := range c.changed {
		r := node.Replacement{Lease: x.new.cfg.Lease, Checks: sameQuestions(x.old.cfg, x.new.cfg), Moved: x.old.cfg.Interface != x.new.cfg.Interface}
		if x.extra != nil {
			r.Extra = x.extra
		}
		if x.gone != nil {
			r.Gone = x.gone
		}
		if r.Instance, err = d.instance(x.new); err != nil {
			return nil, err
		}
		rs = append(rs, r)
	}
	for _, s := range c.added {
		in, err := d.instance(s)
		if err != nil {
			return nil, err
		}
		c.starts = append(c.starts, in)
	}
	return rs, nil
}

// disconnect brings back the heartbeats that there were before connect.
func (d *daemon) disconnect(c *change) error {
	var errs []error
	for _, x := range c.changed {
		_, err := d.beat(x.old.cfg, x.old.router)
		errs = append(errs, err)
	}
	for _, s := range c.added {
		d.heartbeat.Remove(s.cfg.Name)
	}
	return errors.Join(errs...)
}

// finish takes out what is no longer wanted and starts what is new.
func (d *daemon) finish(ctx context.Context, c *change, watch func(*service)) error {
	for _, s := range c.removed {
		name := s.cfg.Name
		if err := d.node.Remove(ctx, name); err != nil {
			return fmt.Errorf("take out instance %s: %w", name, err)
		}
		d.heartbeat.Remove(name)
		d.sight.remove(s.addresses)
		d.exchange(s, nil)
		s.unprobe()
		s.end()
	}
	for i, s := range c.added {
		if err := d.node.Add(ctx, c.starts[i]); err != nil {
			return fmt.Errorf("start instance %s: %w", s.cfg.Name, err)
		}
		d.sight.add(s.cfg.Name, s.addresses)
		d.exchange(nil, s)
		watch(s)
	}
	return nil
}

// service returns that of an instance.
func (d *daemon) service(name string) *service {
	services, _ := d.now()
	for _, s := range services {
		if s.cfg.Name == name {
			return s
		}
	}
	return nil
}

// exchange makes a service of the daemon's another: a nil old is added, a nil
// replacement takes it out.
func (d *daemon) exchange(old, replacement *service) {
	d.mu.Lock()
	defer d.mu.Unlock()
	services := slices.Clone(d.services)
	at := slices.Index(services, old)
	switch {
	case at < 0:
		services = append(services, replacement)
	case replacement == nil:
		services = slices.Delete(services, at, at+1)
	default:
		services[at] = replacement
	}
	d.services = services
}

// order lists the services as the file does.
func (d *daemon) order(file *config.File) {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := func(s *service) int {
		return slices.IndexFunc(file.Instances, func(in config.Instance) bool { return in.Name == s.cfg.Name })
	}
	services := slices.Clone(d.services)
	slices.SortStableFunc(services, func(a, b *service) int { return at(a) - at(b) })
	d.services = services
}
