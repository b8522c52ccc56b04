package mysql

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/replication"
)

// units are services that a test makes up; killed records what was asked for.
type units struct {
	units  map[string]Unit
	err    error
	killed []string
}

func (u *units) Of(_ context.Context, pid int) (Unit, error) {
	for _, unit := range u.units {
		if slices.Contains(unit.Processes, pid) {
			return unit, u.err
		}
	}
	return Unit{}, u.err
}

func (u *units) Unit(_ context.Context, name string) (Unit, error) { return u.units[name], u.err }

func unitOf(name string, processes ...int) map[string]Unit {
	return map[string]Unit{name: {Name: name, Processes: processes}}
}

func (u *units) Kill(_ context.Context, unit string) error {
	u.killed = append(u.killed, unit)
	return u.err
}

func alive(s *server) bool {
	select {
	case <-s.exited:
		return false
	default:
		return true
	}
}

func wantGone(t *testing.T, s *server) {
	t.Helper()
	select {
	case <-s.exited:
	case <-time.After(patience):
		t.Error("the server is still there")
	}
}

func TestFenceHungServer(t *testing.T) {
	for _, tc := range []struct {
		name     string
		measured bool // before it hung
		unit     string
		inside   func(pid int) Unit // what is in db.service
		err      error              // of the service manager
		killed   []string           // units
	}{
		{name: "known from a measurement", measured: true},
		{name: "asked for now"},
		{name: "unit of its own", measured: true, inside: func(pid int) Unit { return Unit{Processes: []int{pid}} }, killed: []string{"db.service"}},
		{name: "unit with other processes", measured: true, inside: func(pid int) Unit { return Unit{Processes: []int{pid, os.Getpid()}} }},
		{name: "configured unit", measured: true, unit: "db.service", inside: func(pid int) Unit { return Unit{Processes: []int{pid}} }, killed: []string{"db.service"}},
		{
			name: "unit that is there for it", measured: true, killed: []string{"db.service"},
			inside: func(pid int) Unit { return Unit{Main: pid, Processes: []int{pid, os.Getpid()}} },
		},
		{
			name: "configured unit with other processes", unit: "db.service", killed: []string{"db.service"},
			inside: func(pid int) Unit { return Unit{Processes: []int{pid, os.Getpid()}} },
		},
		{
			name: "service manager that does not answer", measured: true, unit: "db.service",
			inside: func(pid int) Unit { return Unit{Processes: []int{pid}} }, err: errors.New("no answer"),
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := startServer(t, 1)
			u := &units{err: tc.err}
			if tc.inside != nil {
				unit := tc.inside(s.cmd.Process.Pid)
				unit.Name = "db.service"
				u.units = map[string]Unit{"db.service": unit}
			}
			d := s.database(t, func(c *Config) { c.Unit, c.Units = tc.unit, u })
			if tc.measured {
				eventually(t, "a measurement", func() (bool, error) {
					return d.Measure(context.Background()).Reach == replication.Reachable, nil
				})
			}
			s.hang(t)
			if err := d.Fence(timeout(t, patience)); err != nil {
				t.Fatal(err)
			}
			wantGone(t, s)
			if !slices.Equal(u.killed, tc.killed) {
				t.Errorf("killed %v, want %v", u.killed, tc.killed)
			}
			wantReach(t, d.Measure(context.Background()), replication.ReachRefused)
			u.err, u.units = nil, nil
			if err := d.Fence(timeout(t, patience)); err != nil {
				t.Errorf("nobody is left to fence: %v", err)
			}
		})
	}
}

func TestFenceOverTCPNeedsUnit(t *testing.T) {
	s, second := startServer(t, 1), startServer(t, 2)
	pid := s.cmd.Process.Pid
	u := &units{units: map[string]Unit{
		"db.service":    {Name: "db.service", Processes: []int{pid}},
		"two.service":   {Name: "two.service", Main: pid, Processes: []int{pid, second.cmd.Process.Pid}},
		"other.service": {Name: "other.service", Processes: []int{os.Getpid()}},
	}}
	database := func(unit string, have Units) *Database {
		return s.database(t, func(c *Config) {
			c.Address, c.Unit, c.Units = "tcp:127.0.0.1:"+strconv.Itoa(s.port), unit, have
		})
	}
	for _, tc := range []struct{ name, unit, want string }{
		{"no unit", "", "name its unit"},
		{"unit of somebody else", "other.service", "runs 0 database servers"},
		{"unit of several", "two.service", "runs 2 database servers"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := database(tc.unit, u).Fence(timeout(t, patience))
			if !errors.Is(err, ErrNotFenced) || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "db1") {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
	t.Run("no service manager", func(t *testing.T) {
		if err := database("db.service", nil).Fence(timeout(t, patience)); !errors.Is(err, ErrNotFenced) {
			t.Errorf("%v", err)
		}
	})
	if !alive(s) || !alive(second) || len(u.killed) != 0 {
		t.Fatal("killed without being certain")
	}
	if err := second.database(t, func(c *Config) { c.Unit, c.Units = "two.service", u }).Fence(timeout(t, patience)); err != nil {
		t.Fatal(err)
	}
	wantGone(t, second)
	if !alive(s) || len(u.killed) != 0 {
		t.Fatal("the unit of several servers went with one of them")
	}
	s.hang(t)
	if err := database("db.service", u).Fence(timeout(t, patience)); err != nil {
		t.Fatal(err)
	}
	wantGone(t, s)
	u.units = unitOf("db.service")
	if err := database("db.service", u).Fence(timeout(t, patience)); err != nil {
		t.Errorf("a unit at rest: %v", err)
	}
}

// This test listens where a server should, so it is what a careless fence would kill.
func TestFenceKillsNoStranger(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, tc := range []struct{ name, unit, want string }{
		{"by its socket", "", "calls itself"},
		{"by a unit", "db.service", "runs 0 database servers"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			u := &units{units: unitOf("db.service", os.Getpid())}
			d, err := Open(Config{
				Name: "d", Address: "unix:" + path, User: "u", Password: func() (string, error) { return secret, nil },
				Unit: tc.unit, Units: u, MeasureTimeout: 50 * time.Millisecond,
			})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			wantReach(t, d.Measure(context.Background()), replication.ReachTimedOut)
			if err := d.Fence(timeout(t, patience)); !errors.Is(err, ErrNotFenced) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
			if len(u.killed) != 0 {
				t.Errorf("killed %v", u.killed)
			}
		})
	}
	t.Run("server outside the configured unit", func(t *testing.T) {
		s := startServer(t, 1)
		for _, inside := range [][]int{{os.Getpid()}, nil} {
			u := &units{units: unitOf("db.service", inside...)}
			d := s.database(t, func(c *Config) { c.Unit, c.Units = "db.service", u })
			if err := d.Fence(timeout(t, patience)); !errors.Is(err, ErrNotFenced) || !strings.Contains(err.Error(), "does not belong to db.service") {
				t.Errorf("%v", err)
			}
		}
		if !alive(s) {
			t.Error("killed")
		}
	})
}

func TestWatchTellsOfEachDeath(t *testing.T) {
	s := startServer(t, 1)
	d := s.database(t, patient)
	ctx, cancel := context.WithCancel(context.Background())
	deaths, watched := make(chan struct{}, 8), make(chan struct{})
	go func() {
		defer close(watched)
		d.Watch(ctx, func() { deaths <- struct{}{} })
	}()
	for range 2 {
		wantReach(t, d.Measure(context.Background()), replication.Reachable)
		select {
		case <-deaths:
			t.Fatal("told of a death while the server lives")
		default:
		}
		s.kill(t)
		select {
		case <-deaths:
		case <-time.After(patience):
			t.Fatal("not told that the server died")
		}
		wantReach(t, d.Measure(context.Background()), replication.ReachRefused)
		s.run(t)
	}
	cancel()
	<-watched
	if len(deaths) != 0 {
		t.Errorf("told of %d more", len(deaths))
	}
}
