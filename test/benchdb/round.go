package main

// A status round: all databases are measured at once, as the daemon does it.

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tanist-ha/tanist/replication"
	"github.com/tanist-ha/tanist/replication/mysql"
)

const (
	roundDatabases = 256
	// roundParallel is the daemon's own bound.
	roundParallel = 32
)

// fakeServer is a server on loopback that answers as a replica does.
type fakeServer interface {
	Address() string // HOST:PORT
	Close() error
}

// errNoFakes: no fake server is in this module yet.
var errNoFakes = errors.New("there is no fake server to measure")

// startFake starts the server with a number, for the account tanist without a
// password.
func startFake(int) (fakeServer, error) { return nil, errNoFakes }

// rounds measures the databases again and again. The first round, which connects,
// does not count.
func rounds(ctx context.Context, o options, r *report) error {
	var f fakes
	defer f.close()
	if err := f.start(); err != nil {
		r.Trials = append(r.Trials, Trial{Scenario: "round256", Databases: roundDatabases, Failed: err.Error()})
		return nil
	}
	for i := range o.n + 1 {
		took, err := measureAll(ctx, f.databases)
		if err != nil {
			return err
		}
		if i > 0 {
			t := Trial{Scenario: "round256", Databases: roundDatabases, Round: took}
			tell("round of %d databases: %v", roundDatabases, ms(took))
			r.Trials = append(r.Trials, t)
		}
	}
	return nil
}

// fakes are the servers and what is opened on them.
type fakes struct {
	servers   []fakeServer
	databases []*mysql.Database
}

func (f *fakes) start() error {
	for i := range roundDatabases {
		server, err := startFake(i)
		if err != nil {
			return err
		}
		f.servers = append(f.servers, server)
		d, err := mysql.Open(mysql.Config{
			Name: fmt.Sprintf("db%03d", i), Address: "tcp:" + server.Address(), User: "tanist",
			Password: func() (string, error) { return "", nil },
		})
		if err != nil {
			return err
		}
		f.databases = append(f.databases, d)
	}
	return nil
}

func (f *fakes) close() {
	for _, d := range f.databases {
		_ = d.Close()
	}
	for _, s := range f.servers {
		_ = s.Close()
	}
}

// measureAll measures every database once and returns how long that took.
func measureAll(ctx context.Context, all []*mysql.Database) (time.Duration, error) {
	slots := make(chan struct{}, roundParallel)
	facts := make([]replication.Facts, len(all))
	begun := time.Now()
	var wg sync.WaitGroup
	for i, d := range all {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			facts[i] = d.Measure(ctx)
		})
	}
	wg.Wait()
	took := time.Since(begun)
	for _, f := range facts {
		if f.Reach != replication.Reachable {
			return 0, fmt.Errorf("measure %s: %s %s", f.Name, f.Reach, f.ReachDetail)
		}
	}
	return took, nil
}
