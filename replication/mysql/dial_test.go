package mysql

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/tanist-ha/tanist/replication"
)

// Every connection is the dialler's, also the one after the server restarted, and
// what the dialler says of a server that is not there counts as the server's word.
func TestDial(t *testing.T) {
	s := startServer(t, 1)
	var calls atomic.Int32
	var gone atomic.Bool
	d := s.database(t, patient, func(c *Config) {
		c.Address = "unix:" + filepath.Join(s.dir, "nobody-listens-here")
		c.Dial = func(ctx context.Context) (net.Conn, error) {
			calls.Add(1)
			if gone.Load() {
				return nil, fmt.Errorf("the container does not run: %w", syscall.ECONNREFUSED)
			}
			var dialer net.Dialer
			return dialer.DialContext(ctx, "unix", s.socket())
		}
	})
	if f := d.Measure(t.Context()); f.Reach != replication.Reachable || calls.Load() != 1 {
		t.Fatalf("%s: %s after %d calls", f.Reach, f.ReachDetail, calls.Load())
	}
	if err := d.StopReplication(t.Context()); err != nil || calls.Load() != 2 {
		t.Errorf("an action: %v after %d calls", err, calls.Load())
	}
	s.kill(t)
	gone.Store(true)
	if f := d.Measure(t.Context()); f.Reach != replication.ReachRefused {
		t.Errorf("not there: %s: %s", f.Reach, f.ReachDetail)
	}
	gone.Store(false)
	s.run(t)
	eventually(t, "the new server to be reached", func() (bool, error) {
		return d.Measure(t.Context()).Reach == replication.Reachable, nil
	})
}

// Who is fenced is who a dialler leads to, and nobody at the address: that is the
// path in a container, where this host may have a server too.
func TestFenceFollowsDial(t *testing.T) {
	s, bystander := startServer(t, 1), startServer(t, 2)
	in := func(unit string, processes ...int) *units { return &units{units: unitOf(unit, processes...)} }
	dialled := func(unit string, u *units) *Database {
		return s.database(t, func(c *Config) {
			c.Address, c.Unit, c.Units = "unix:"+bystander.socket(), unit, u
			c.Dial = func(ctx context.Context) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", s.socket())
			}
		})
	}
	pid := s.cmd.Process.Pid
	if got, unit, err := dialled("", in("docker-1.scope", pid)).FenceTarget(t.Context()); got != pid || unit != "" || err != nil {
		t.Errorf("would kill %d and unit %q, want %d alone: %v", got, unit, pid, err)
	}
	if got, unit, err := dialled("db.service", in("db.service", pid)).FenceTarget(t.Context()); got != pid || unit != "db.service" || err != nil {
		t.Errorf("configured: would kill %d and unit %q, want %d: %v", got, unit, pid, err)
	}
	if _, _, err := dialled("db.service", in("db.service")).FenceTarget(t.Context()); !errors.Is(err, ErrNotFenced) {
		t.Errorf("in another unit than the configured one: %v", err)
	}
	s.hang(t)
	u := in("docker-1.scope", pid)
	if err := dialled("", u).Fence(timeout(t, patience)); err != nil {
		t.Fatal(err)
	}
	wantGone(t, s)
	if !alive(bystander) || len(u.killed) != 0 {
		t.Errorf("killed %v too, the bystander lives: %t", u.killed, alive(bystander))
	}
}
