package main

// A status round: all databases are measured at once, as the daemon does it.

import (
	"context"
	"fmt"
	"time"

	"github.com/tanist-ha/tanist/replication"
	"github.com/tanist-ha/tanist/replication/mysql"
	"github.com/tanist-ha/tanist/test/fakemysql"
)

const (
	roundDatabases = 256
	// roundParallel is the daemon's own bound.
	roundParallel = 32
	roundHanging  = 40
)

// fakeVersions are the releases that the servers answer as, in turn.
var fakeVersions = [...]string{"10.11.18-MariaDB", "8.4.3", "11.8.6-MariaDB", "8.0.36"}

// startFake starts the server with a number, for the account tanist without a
// password: a replica of source, or of nobody when that is nil.
func startFake(i int, source *fakemysql.Server) (*fakemysql.Server, error) {
	s, err := fakemysql.Start(fakemysql.Config{
		Version: fakeVersions[i%len(fakeVersions)], ServerID: uint32(i + 1), Accounts: map[string]string{"tanist": ""},
	})
	if err == nil && source != nil {
		s.Change(func(st *fakemysql.State) {
			st.Channels = []*fakemysql.Channel{{Host: "127.0.0.1", Port: source.Port(), IO: true, SQL: true, AutoPosition: true}}
			st.Close()
		})
	}
	return s, err
}

// rounds measures the databases again and again. The first round, which connects,
// does not count.
func rounds(ctx context.Context, o options, r *report) error {
	return roundsWith(ctx, o, r, "round256", 0)
}

// hangingRounds does the same with servers that hang, of which nothing but that is
// known when the round ends.
func hangingRounds(ctx context.Context, o options, r *report) error {
	return roundsWith(ctx, o, r, "round256-hanging", roundHanging)
}

func roundsWith(ctx context.Context, o options, r *report, scenario string, hanging int) error {
	var f fakes
	defer f.close()
	if err := f.start(); err != nil {
		return err
	}
	if _, err := f.measure(ctx, 0); err != nil {
		return err
	}
	for i := range hanging {
		f.servers[i*roundDatabases/hanging].Hang()
	}
	for range o.n {
		took, err := f.measure(ctx, hanging)
		if err != nil {
			return err
		}
		t := Trial{Scenario: scenario, Databases: roundDatabases, Round: took}
		tell("round of %d databases, %d of them hanging: %v", roundDatabases, hanging, ms(took))
		r.Trials = append(r.Trials, t)
	}
	return nil
}

// fakes are the servers and what is opened on them.
type fakes struct {
	servers   []*fakemysql.Server
	databases []*mysql.Database
}

func (f *fakes) start() error {
	var sources [len(fakeVersions)]*fakemysql.Server // one of each kind
	for i := range roundDatabases {
		server, err := startFake(i, sources[i%len(sources)])
		if err != nil {
			return err
		}
		f.servers = append(f.servers, server)
		if i < len(sources) {
			sources[i] = server
		}
		d, err := mysql.Open(mysql.Config{
			Name: fmt.Sprintf("db%03d", i), Address: server.Address(), User: "tanist",
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

// measure measures every database once, as the daemon does it, and returns how
// long that took. Those that hang must be known to, and all others measured.
func (f *fakes) measure(ctx context.Context, hanging int) (time.Duration, error) {
	begun := time.Now()
	facts := mysql.MeasureAll(ctx, f.databases, roundParallel)
	took := time.Since(begun)
	silent := 0
	for _, one := range facts {
		switch one.Reach {
		case replication.Reachable:
		case replication.ReachTimedOut:
			silent++
		default:
			return 0, fmt.Errorf("measure %s: %s %s", one.Name, one.Reach, one.ReachDetail)
		}
	}
	if silent != hanging {
		return 0, fmt.Errorf("%d servers did not answer, want the %d that hang", silent, hanging)
	}
	return took, nil
}
