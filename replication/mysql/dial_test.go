package mysql

import (
	"context"
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
