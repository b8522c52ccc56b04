package main

// Which databases there are: those of the configuration and those that its rules
// find. A look at the files never holds up a measurement for long, and what it
// finds wrong is told in the log and in the status.

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/replication/discover"
	"github.com/tanist-ha/tanist/replication/mysql"
)

const (
	// lookEvery is the time between two looks that nobody asks for.
	lookEvery = time.Minute
	// lookAgain is it while something is wrong: a file that was half written.
	lookAgain = 5 * time.Second
	// lookWait is how long a measurement waits for a look.
	lookWait = 400 * time.Millisecond
	// lookTime bounds a look. Beyond that a file system hangs.
	lookTime = 10 * time.Second
)

// database is one of a set, with what it was opened from.
type database struct {
	*mysql.Database
	cfg    config.Database
	source *mysql.Source // the peer's, nil if nobody says how to follow it
	file   string        // that told of it, empty for one of the configuration

	users int // operations under way, and 1 while it is listed; guarded by set.mu
}

// opener opens databases of an instance on this host.
type opener struct {
	file  *config.File
	self  int // this host in file.Nodes
	in    config.Instance
	units mysql.Units // whose services the servers may be, nil for none
}

// open opens a database that a file told of, or the configuration.
func (o opener) open(c config.Database, file string) (*database, error) {
	src, err := o.source(c)
	if err != nil {
		return nil, err
	}
	d, err := openDatabase(c, o.units, elsewhereOf(o.file, o.self))
	if err != nil {
		return nil, err
	}
	return &database{Database: d, cfg: c, source: src, file: file, users: 1}, nil
}

// set is the databases of one instance.
type set struct {
	opener
	log     *logger         // nil: nobody is told
	looking chan struct{}   // has a place for the only look
	changed chan struct{}   // one pending, for the watch: that the list may be another
	stop    context.Context //nolint:containedctx // of the looks, which outlive the measurements that begin them; ends with close
	stopped context.CancelFunc

	finder *discover.Finder // of whoever has the place in looking

	mu     sync.Mutex // guards the fields below
	list   []*database
	drift  []string // what the rules find wrong
	tried  time.Time
	looked bool // once at least
	slow   bool // a look takes too long
	closed bool
}

// openDatabases opens the databases that the configuration names. Those of rules
// come with the first operation. log may be nil.
func openDatabases(o opener, log *logger) (databases, error) {
	fixed, err := here(o.file, o.self, o.in)
	if err != nil {
		return databases{}, err
	}
	s := &set{opener: o, log: log, looking: make(chan struct{}, 1), changed: make(chan struct{}, 1)}
	s.stop, s.stopped = context.WithCancel(context.Background())
	s.finder = finderOf(o.file, o.self, o.in, fixed)
	for _, c := range fixed {
		d, err := s.open(c, "")
		if err != nil {
			databases{s}.close()
			return databases{}, err
		}
		s.list = append(s.list, d)
	}
	return databases{s}, nil
}

// here are the configured databases with the addresses that they have on this node.
func here(file *config.File, self int, in config.Instance) ([]config.Database, error) {
	var dbs []config.Database
	for _, db := range in.Databases {
		at, err := db.Address.For(varsOf(file, self, in))
		if err != nil {
			return nil, fmt.Errorf("open database %s: %w", db.Name, err)
		}
		db.Address = at
		dbs = append(dbs, db)
	}
	return dbs, nil
}

func varsOf(file *config.File, self int, in config.Instance) discover.Vars {
	return discover.Vars{Node: file.Nodes[self].Label, Peer: file.Nodes[1-self].Label, Instance: in.Name}
}

func finderOf(file *config.File, self int, in config.Instance, fixed []config.Database) *discover.Finder {
	c := discover.Config{Vars: varsOf(file, self, in)}
	for _, d := range in.Discover {
		c.Rules = append(c.Rules, d.Rule)
	}
	for _, db := range fixed {
		c.Others = append(c.Others, db.Found())
	}
	return discover.New(c)
}

// refresh looks at the rules' files if it is time or asked for.
func (s *set) refresh(ctx context.Context, asked bool) {
	if len(s.in.Discover) > 0 && (asked || s.due(time.Now())) {
		s.look(ctx, true)
	}
}

// first looks at the rules' files if nobody has. What cannot be read in time is not
// waited for again.
func (s *set) first(ctx context.Context) {
	s.mu.Lock()
	done := len(s.in.Discover) == 0 || s.looked || s.slow
	s.mu.Unlock()
	if !done {
		s.look(ctx, false)
	}
}

// look waits a moment for what the files say: those who read them now, and after
// that with again those who begin to.
func (s *set) look(ctx context.Context, again bool) {
	ctx, cancel := context.WithTimeout(ctx, lookWait)
	defer cancel()
	select {
	case s.looking <- struct{}{}:
	case <-ctx.Done(): // the look before this one still runs
		s.mark()
		return
	}
	s.mu.Lock()
	s.tried = time.Now()
	looked := s.looked
	s.mu.Unlock()
	if looked && !again {
		<-s.looking
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { <-s.looking }()
		reading, end := context.WithTimeout(s.stop, lookTime)
		defer end()
		s.take(s.finder.Look(reading))
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.mark()
	}
}

// due reports whether it is time to look.
func (s *set) due(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	every := lookEvery
	if len(s.drift) > 0 || s.slow {
		every = lookAgain
	}
	return s.tried.IsZero() || now.Sub(s.tried) >= every
}

// mark notes that a look takes too long: what is listed may be out of date.
func (s *set) mark() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slow = true
}

// take makes what was found the list.
func (s *set) take(r discover.Result) {
	var drift []string
	for _, p := range r.Problems {
		drift = append(drift, p.Error())
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	old := s.list
	var list []*database
	for _, d := range old {
		if d.file == "" {
			list = append(list, d)
		}
	}
	for _, f := range r.Found {
		d, err := s.foundAs(old, s.in.Discover[f.Rule].Database(f), f.File)
		if err != nil {
			drift = append(drift, fmt.Sprintf("%s: %v", f.File, err))
			continue
		}
		list = append(list, d)
	}
	var gone, unused []*database
	for _, d := range old {
		if slices.Contains(list, d) {
			continue
		}
		gone = append(gone, d)
		if d.users--; d.users == 0 {
			unused = append(unused, d)
		}
	}
	fresh := slices.DeleteFunc(slices.Clone(list), func(d *database) bool { return slices.Contains(old, d) })
	wrong := slices.DeleteFunc(slices.Clone(drift), func(p string) bool { return slices.Contains(s.drift, p) })
	s.list, s.drift, s.looked, s.slow = list, drift, true, false
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}

	for _, d := range unused {
		_ = d.Close()
	}
	s.tell(gone, fresh, wrong)
}

// foundAs is the database that is listed already if nothing about it changed.
func (s *set) foundAs(old []*database, c config.Database, file string) (*database, error) {
	for _, d := range old {
		if d.file == file && reflect.DeepEqual(d.cfg, c) {
			return d, nil
		}
	}
	return s.open(c, file)
}

func (s *set) tell(gone, fresh []*database, wrong []string) {
	if s.log == nil {
		return
	}
	for _, d := range gone {
		s.log.event(kindDatabase, zapcore.InfoLevel, "a database is gone", zap.String("database", d.cfg.Name), zap.Stringer("address", d.cfg.Address), zap.String("file", d.file))
	}
	for _, d := range fresh {
		s.log.event(kindDatabase, zapcore.InfoLevel, "a database is found", zap.String("database", d.cfg.Name), zap.Stringer("address", d.cfg.Address), zap.String("file", d.file))
	}
	for _, p := range wrong {
		s.log.warn("discovery: " + p)
	}
}

// use returns the databases of now, none of which is closed before release.
func (s *set) use() (list []*database, release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.list {
		d.users++
	}
	list = s.list
	return list, func() {
		var unused []*database
		s.mu.Lock()
		for _, d := range list {
			if d.users--; d.users == 0 {
				unused = append(unused, d)
			}
		}
		s.mu.Unlock()
		for _, d := range unused {
			_ = d.Close()
		}
	}
}

// uncertain is an error when there may be databases that are not listed.
func (s *set) uncertain() error {
	var errs []error
	for _, p := range s.problems() {
		errs = append(errs, errors.New("find databases: "+p.Detail))
	}
	return errors.Join(errs...)
}

// problems are what keeps the list from being certain, for the status.
func (s *set) problems() []control.Drift {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []control.Drift
	if s.slow {
		all = append(all, control.Drift{Step: "discover", Kind: "discover", Detail: "the files of the rules cannot be read in time: the list of databases may be out of date"})
	}
	for _, p := range s.drift {
		all = append(all, control.Drift{Step: "discover", Kind: "discover", Detail: p})
	}
	return all
}
