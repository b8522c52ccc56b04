package mysql

// Heartbeats and what is in their way: a close above all, and locks.

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/replication"
)

// A writer that knows nothing of the close, as one left over by a daemon that was
// killed, and one that the close stops: after it the server stands still.
func TestNoHeartbeatAfterClose(t *testing.T) { onEach(t, testNoHeartbeatAfterClose) }

func testNoHeartbeatAfterClose(t *testing.T) {
	s := startServer(t, 1)
	s.withTable(t)
	d, stray := s.database(t, beating), s.database(t, beating)
	type outcome struct {
		own bool
		err error
	}
	outcomes, stop := make(chan outcome), make(chan struct{})
	var writers sync.WaitGroup
	for _, w := range []*Database{d, stray} {
		writers.Go(func() {
			for {
				select {
				case outcomes <- outcome{w == d, w.Beat(t.Context(), 7, bootTime().Add(500*time.Millisecond))}:
				case <-stop:
					return
				}
			}
		})
	}
	defer writers.Wait()
	defer close(stop)
	// next waits for outcomes of both writers that are as wanted, twice of each: one
	// may have begun before.
	next := func(what string, good func(outcome) bool) {
		t.Helper()
		seen := map[bool]int{}
		for end := time.After(patience); seen[true] < 2 || seen[false] < 2; {
			select {
			case o := <-outcomes:
				if good(o) {
					seen[o.own]++
				}
			case <-end:
				t.Fatalf("waited for %s: %v", what, seen)
			}
		}
	}
	written := 0
	last := s.position(t)
	for i := range 200 {
		next("heartbeats", func(o outcome) bool { return o.err == nil })
		closed := make(chan struct{})
		var at replication.Position
		var err error
		go func() {
			defer close(closed)
			grace := time.Duration(0)
			if i%2 == 1 {
				grace = 100 * time.Millisecond
			}
			at, err = d.CloseWrites(timeout(t, patience), grace)
		}()
		for over := false; !over; {
			select {
			case <-outcomes:
			case <-closed:
				over = true
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		next("refusals", func(o outcome) bool {
			if o.own {
				return errors.Is(o.err, errBeatStopped)
			}
			return errors.Is(o.err, ErrNoHeartbeat)
		})
		if now := s.position(t); !now.Equal(at) {
			t.Fatalf("round %d: closed at %s, stands at %s", i, at, now)
		}
		if at.Equal(last) {
			t.Fatalf("round %d: nothing was written before", i)
		}
		last, written = at, written+1
		if err := d.OpenWrites(timeout(t, patience), time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d rounds, last at %s", written, last)
}

// A heartbeat that waits for a row does not keep writes from being closed.
func TestCloseOverHeartbeatThatWaits(t *testing.T) { onEach(t, testCloseOverHeartbeatThatWaits) }

func testCloseOverHeartbeatThatWaits(t *testing.T) {
	s := startServer(t, 1)
	s.withTable(t)
	d := s.database(t, beating)
	d.mustBeat(t, 7)
	lock, err := s.root.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	execAll(t, lock, "BEGIN", "SELECT * FROM "+beatTable.String()+" FOR UPDATE")
	// First it is only a failure, which shows and says nothing about the server.
	if err := d.Beat(t.Context(), 7, soon()); serverErrorNumber(err) != errStatementTimeout {
		t.Errorf("%v", err)
	}
	if f := d.Measure(t.Context()); f.Reach != replication.Reachable || !strings.Contains(f.BeatDetail, "write heartbeat table") {
		t.Errorf("%s, detail %q", f.Reach, f.BeatDetail)
	}
	waits := make(chan error, 1)
	go func() { waits <- d.Beat(context.WithoutCancel(t.Context()), 7, soon()) }()
	at, err := d.CloseWrites(timeout(t, patience), 0)
	if err != nil {
		t.Fatal(err)
	}
	// It was stopped, or ended by itself before, or had not begun.
	if err := <-waits; err != nil && !errors.Is(err, errBeatStopped) && serverErrorNumber(err) != errStatementTimeout {
		t.Errorf("the heartbeat ended with %v", err)
	}
	if now := s.position(t); !now.Equal(at) {
		t.Errorf("closed at %s, stands at %s", at, now)
	}
	if f := d.Measure(t.Context()); f.Reach != replication.Reachable || f.BeatDetail != "" && !strings.Contains(f.BeatDetail, errBeatStopped.Error()) {
		t.Errorf("%s, detail %q", f.Reach, f.BeatDetail)
	}
}

// Of heartbeats that get no answer there is never more than one in the server, and
// writes are closed over it.
func TestHeartbeatWithoutAnswer(t *testing.T) {
	s := startServer(t, 1)
	s.withTable(t)
	d := s.database(t, beating)
	for _, q := range []string{
		"SET GLOBAL rpl_semi_sync_master_timeout = 1000000", "SET GLOBAL rpl_semi_sync_master_wait_no_slave = 1",
		"SET GLOBAL rpl_semi_sync_master_enabled = 1",
	} {
		s.exec(t, q)
	}
	defer s.exec(t, "SET GLOBAL rpl_semi_sync_master_enabled = 0")
	for range 5 {
		if err := d.Beat(t.Context(), 7, bootTime().Add(300*time.Millisecond)); err == nil {
			t.Error("it was acknowledged")
		}
		n := s.value(t, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'tanist' AND INFO LIKE 'INSERT INTO%'")
		if n != "0" && n != "1" {
			t.Errorf("%s of them are in the server", n)
		}
	}
	if f := d.Measure(t.Context()); f.Reach != replication.Reachable || f.BeatDetail == "" {
		t.Errorf("%s, detail %q", f.Reach, f.BeatDetail)
	}
	at, err := d.CloseWrites(timeout(t, patience), 0)
	if err != nil {
		t.Fatal(err)
	}
	if now := s.position(t); !now.Equal(at) {
		t.Errorf("closed at %s, stands at %s", at, now)
	}
}

// What is left of one without an answer is ended before the next, and nobody else
// who has its number by then.
func TestHeartbeatEndsItsRemains(t *testing.T) {
	s := startServer(t, 1)
	s.withTable(t)
	d := s.database(t, beating)
	d.mustBeat(t, 7)
	lock, err := s.root.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	execAll(t, lock, "BEGIN", "SELECT * FROM "+beatTable.String()+" FOR UPDATE")
	c, statement := s.statement(t, 7, patience)
	id := func(c *sql.Conn) (id uint64) {
		t.Helper()
		if err := c.QueryRowContext(t.Context(), "SELECT CONNECTION_ID()").Scan(&id); err != nil {
			t.Fatal(err)
		}
		return id
	}
	d.beats.leave(id(c))
	done := make(chan error, 1)
	go func() {
		_, err := c.ExecContext(context.WithoutCancel(t.Context()), statement)
		done <- err
	}()
	eventually(t, "the statement to wait", func() (bool, error) {
		return s.value(t, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'INSERT INTO%'") == "1", nil
	})
	if err := d.Beat(t.Context(), 7, soon()); !errors.Is(err, errBeatStuck) {
		t.Errorf("%v", err)
	}
	if err := <-done; err == nil {
		t.Error("it was not ended")
	}
	execAll(t, lock, "ROLLBACK")
	app := appConn(t, s)
	d.beats.leave(id(app))
	d.mustBeat(t, 7)
	execAll(t, app, "DO 1")
}

// A table that somebody has locked is no server that hangs.
func TestLockedHeartbeatTable(t *testing.T) {
	s := startServer(t, 1)
	s.withTable(t)
	d := s.database(t, beating)
	d.mustBeat(t, 7)
	lock, err := s.root.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	execAll(t, lock, "LOCK TABLES "+beatTable.String()+" WRITE")
	for range 5 {
		if f := d.Measure(t.Context()); f.Reach != replication.Reachable || f.Beats.IsKnown() || !strings.Contains(f.BeatDetail, "read heartbeat table") {
			t.Errorf("%s, %s, detail %q", f.Reach, f.Beats, f.BeatDetail)
		}
	}
	// The server gives up first, so that nothing piles up in it.
	eventually(t, "the server to end a look", func() (bool, error) {
		return strings.Contains(d.Measure(t.Context()).BeatDetail, "Error 1969"), nil
	})
	execAll(t, lock, "UNLOCK TABLES")
	if f := d.Measure(t.Context()); f.Beat().Count != 1 || f.BeatDetail != "" {
		t.Errorf("%s, detail %q", f.Beats, f.BeatDetail)
	}
}
