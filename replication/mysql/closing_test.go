package mysql

// What is in the way of closing, and what goes with it.

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/replication"
)

func appConn(t *testing.T, s *server) *sql.Conn {
	t.Helper()
	c, err := openHandle(t, s.socket(), "app", "app", "app").Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// running begins a statement and returns when it has run for longStatement.
func running(t *testing.T, s *server, c *sql.Conn, statement string) chan error {
	t.Helper()
	result := make(chan error, 1)
	go func() {
		_, err := c.ExecContext(context.Background(), statement)
		result <- err
	}()
	eventually(t, "the statement to run", func() (bool, error) {
		return s.value(t, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'app' AND COMMAND = 'Query' AND TIME_MS > "+
			fmtUint(uint64(longStatement.Milliseconds()))) == "1", nil
	})
	return result
}

// Behind a statement that runs for long nothing waits for the lock, where it
// would make all other writers wait behind it.
func TestClosingDoesNotQueueBehindLongStatement(t *testing.T) {
	s := startServer(t, 1)
	// Of this engine nobody sees an open transaction: only the statement shows.
	s.exec(t, "CREATE TABLE app.plain (v INT) ENGINE=Aria")
	s.exec(t, "INSERT INTO app.plain VALUES (1)")
	d := s.database(t, patient)
	result := running(t, s, appConn(t, s), "UPDATE plain SET v = 7 WHERE SLEEP(1.5) = 0")
	writer := openHandle(t, s.socket(), "app", "app", "app")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := writer.Exec("INSERT INTO t (v) VALUES (8)"); err != nil && serverErrorNumber(err) != 1290 && !isLost(err) {
				t.Errorf("another writer: %v", err)
				return
			}
		}
	}()
	closed := make(chan error, 1)
	go func() {
		_, err := d.CloseWrites(timeout(t, patience), patience)
		closed <- err
	}()
	for over := false; !over; {
		select {
		case err := <-result:
			if err != nil {
				t.Errorf("the statement had grace left and ended with %v", err)
			}
			over = true
		default:
			if got := s.value(t, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE LIKE 'Waiting for%lock'"); got != "0" {
				t.Errorf("%s sessions wait for a lock", got)
				over = true
			}
		}
	}
	close(stop)
	<-stopped
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if got := s.value(t, "SELECT @@GLOBAL.read_only"); got != "1" {
		t.Errorf("read_only is %s", got)
	}
}

func TestClosingOverBlockers(t *testing.T) {
	s := startServer(t, 1)
	s.insert(t, 1)
	s.exec(t, "CREATE TABLE app.plain (v INT) ENGINE=Aria")
	s.exec(t, "INSERT INTO app.plain VALUES (1)")
	d := s.database(t, patient)
	reopen := func(t *testing.T) {
		t.Helper()
		if err := d.OpenWrites(timeout(t, patience), time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
	}
	closes := func(t *testing.T, grace time.Duration) {
		t.Helper()
		p, err := d.CloseWrites(timeout(t, patience), grace)
		if err != nil {
			t.Fatal(err)
		}
		checkClosed(t, s, d, p)
	}
	for _, grace := range []time.Duration{0, 300 * time.Millisecond} {
		name := " with grace " + grace.String()
		t.Run("LOCK TABLES"+name, func(t *testing.T) {
			execAll(t, appConn(t, s), "LOCK TABLES t WRITE")
			closes(t, grace)
			reopen(t)
		})
		t.Run("global read lock"+name, func(t *testing.T) {
			c, err := openHandle(t, s.socket(), "root", "", "").Conn(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			execAll(t, c, "FLUSH TABLES WITH READ LOCK")
			closes(t, grace)
			reopen(t)
		})
		t.Run("statement of another engine"+name, func(t *testing.T) {
			result := running(t, s, appConn(t, s), "UPDATE plain SET v = 7 WHERE SLEEP(30) = 0")
			closes(t, grace)
			if err := <-result; err == nil {
				t.Error("the update was acknowledged though its grace was over")
			}
			reopen(t)
		})
		t.Run("report"+name, func(t *testing.T) {
			result := running(t, s, appConn(t, s), "DO (SELECT SLEEP(30) FROM t LIMIT 1)")
			closes(t, grace)
			<-result
			reopen(t)
		})
		t.Run("transaction that never ends"+name, func(t *testing.T) {
			execAll(t, appConn(t, s), "BEGIN", "INSERT INTO t (v) VALUES (123)")
			closes(t, grace)
			if got := s.value(t, "SELECT COUNT(*) FROM app.t WHERE v = 123"); got != "0" {
				t.Error("the row is there")
			}
			reopen(t)
		})
		t.Run("commit that waits for a replica"+name, func(t *testing.T) {
			for _, q := range []string{
				"SET GLOBAL rpl_semi_sync_master_timeout = 1000000", "SET GLOBAL rpl_semi_sync_master_wait_no_slave = 1",
				"SET GLOBAL rpl_semi_sync_master_enabled = 1",
			} {
				s.exec(t, q)
			}
			defer s.exec(t, "SET GLOBAL rpl_semi_sync_master_enabled = 0")
			result := running(t, s, appConn(t, s), "INSERT INTO t (v) VALUES (77)")
			closes(t, grace)
			if err := <-result; err == nil {
				t.Error("the commit was acknowledged and no replica has it")
			}
			reopen(t)
		})
	}
}

// A closing that was given up does not come about later, except where it was to.
func TestHungServerDoesNotCloseItself(t *testing.T) {
	s := startServer(t, 1)
	d := s.database(t)
	wantReach(t, s.database(t, patient).Measure(context.Background()), replication.Reachable)
	for _, tc := range []struct {
		name, readOnly string
		limit          time.Duration
	}{
		{"planned", "0", time.Second},
		{"emergency", "1", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := d.act(timeout(t, 1500*time.Millisecond), "close writes", func(ctx context.Context, sess *session) (err error) {
				c := closing{database: d, session: sess}
				if tc.limit > 0 {
					if c.deadline, err = sess.serverDeadline(ctx, time.Now().Add(tc.limit)); err != nil {
						return err
					}
				}
				s.hang(t)
				_, err = c.attempt(ctx, shortWait)
				return err
			})
			if !errors.Is(err, ErrOutcomeUnknown) {
				t.Errorf("error %v", err)
			}
			s.resume(t)
			worksOff(t, s)
			if got := s.value(t, "SELECT @@GLOBAL.read_only"); got != tc.readOnly {
				t.Errorf("read_only is %s", got)
			}
			s.exec(t, "SET GLOBAL read_only = 0")
		})
	}
	if _, err := d.CloseWritesUntil(timeout(t, patience), 0, time.Now().Add(-time.Second)); !errors.Is(err, ErrExpired) {
		t.Errorf("deadline passed: %v", err)
	}
	err := d.act(timeout(t, patience), "close writes", func(ctx context.Context, sess *session) error {
		_, err := closing{database: d, session: sess, deadline: "1.5"}.attempt(ctx, 0)
		return err
	})
	if !errors.Is(err, ErrExpired) {
		t.Errorf("server's deadline passed: %v", err)
	}
	if got := s.value(t, "SELECT @@GLOBAL.read_only"); got != "0" {
		t.Errorf("read_only is %s", got)
	}
	if _, err := d.CloseWritesUntil(timeout(t, patience), 0, time.Now().Add(patience)); err != nil {
		t.Error(err)
	}
	if got := s.value(t, "SELECT @@GLOBAL.read_only"); got != "1" {
		t.Errorf("read_only is %s", got)
	}
}

func TestEventSchedulerGoesWithTheRole(t *testing.T) {
	state := func(s *server) string { return s.value(t, "SELECT @@GLOBAL.event_scheduler") }
	start := func(t *testing.T, args ...string) *server {
		t.Helper()
		s := startServer(t, 1, args...)
		s.exec(t, "GRANT SUPER ON *.* TO tanist@localhost")
		return s
	}
	closes := func(t *testing.T, s *server, d *Database, want string) {
		t.Helper()
		if _, err := d.CloseWrites(timeout(t, patience), 0); err != nil {
			t.Fatal(err)
		}
		if are, err := d.WritesAre(timeout(t, patience), false); err != nil || !are || state(s) != want {
			t.Fatalf("closed %v, %v, event scheduler %s, want %s", are, err, state(s), want)
		}
	}
	opens := func(t *testing.T, s *server, d *Database, want string) {
		t.Helper()
		if err := d.OpenWrites(timeout(t, patience), time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if are, err := d.WritesAre(timeout(t, patience), true); err != nil || !are || state(s) != want {
			t.Fatalf("open %v, %v, event scheduler %s, want %s", are, err, state(s), want)
		}
	}
	t.Run("on", func(t *testing.T) {
		s := start(t, "--event-scheduler=ON")
		d := s.database(t, patient)
		s.exec(t, "CREATE EVENT app.e ON SCHEDULE EVERY 1 SECOND DO INSERT INTO app.t (v) SELECT SLEEP(60)")
		eventually(t, "the event to run", func() (bool, error) {
			return s.value(t, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE '%SLEEP(60)%' AND COMMAND = 'Connect'") != "0", nil
		})
		closes(t, s, d, "OFF")
		if got := s.value(t, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE COMMAND = 'Connect'"); got != "0" {
			t.Errorf("%s events run", got)
		}
		closes(t, s, d, "OFF")
		opens(t, s, d, "ON")
		closes(t, s, d, "OFF")
		// An open database without its scheduler is not as it should be.
		s.exec(t, "SET GLOBAL read_only = 0")
		if are, err := d.WritesAre(timeout(t, patience), true); err != nil || are {
			t.Errorf("open %v, %v", are, err)
		}
		opens(t, s, d, "ON")
		closes(t, s, d, "OFF")
		opens(t, s, s.database(t, patient), "ON") // of another process, which has not seen the closing
		// Closed by somebody else, or by its own configuration.
		s.exec(t, "SET GLOBAL read_only = 1")
		if are, err := d.WritesAre(timeout(t, patience), false); err != nil || are {
			t.Errorf("closed %v, %v, with the event scheduler on", are, err)
		}
		closes(t, s, d, "OFF")
		opens(t, s, d, "ON")
		// An operator's decision.
		s.exec(t, "SET GLOBAL event_scheduler = 'OFF'")
		closes(t, s, d, "OFF")
		opens(t, s, d, "OFF")
	})
	t.Run("off", func(t *testing.T) {
		s := start(t)
		d := s.database(t, patient)
		closes(t, s, d, "OFF")
		opens(t, s, d, "OFF")
		closes(t, s, d, "OFF")
		opens(t, s, s.database(t, patient), "OFF")
	})
	t.Run("disabled", func(t *testing.T) {
		s := start(t, "--event-scheduler=DISABLED")
		d := s.database(t, patient)
		closes(t, s, d, "DISABLED")
		opens(t, s, d, "DISABLED")
	})
	t.Run("without SUPER", func(t *testing.T) {
		s := startServer(t, 1, "--event-scheduler=ON")
		d := s.database(t, patient)
		missing, err := d.Grants(timeout(t, patience))
		if err != nil || len(missing) != 1 || missing[0].Privilege != "SUPER" {
			t.Errorf("missing %v, %v", missing, err)
		}
		if _, err := d.CloseWrites(timeout(t, patience), 0); err == nil || !strings.Contains(err.Error(), "1227") || !strings.Contains(err.Error(), "event scheduler") {
			t.Errorf("error %v", err)
		}
		if got := s.value(t, "SELECT @@GLOBAL.read_only"); got != "1" {
			t.Error("what could be closed was not")
		}
	})
	t.Run("woken late", func(t *testing.T) {
		s := start(t, "--event-scheduler=ON")
		d := s.database(t)
		closes(t, s, s.database(t, patient), "OFF")
		err := d.act(timeout(t, time.Second), "open writes", func(ctx context.Context, sess *session) error {
			deadline, err := sess.serverDeadline(ctx, time.Now().Add(time.Second))
			if err != nil {
				return err
			}
			s.hang(t)
			return sess.exec(ctx, sess.dialect.startEventsUntil(deadline))
		})
		if !errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("error %v", err)
		}
		s.resume(t)
		worksOff(t, s)
		if got := state(s); got != "OFF" {
			t.Errorf("event scheduler is %s: the server started it itself", got)
		}
	})
}

// An account that read_only does not bind can write to a standby. The next
// measurement shows it, and closing again ends the session.
func TestWriteToClosedStandbyIsSeen(t *testing.T) {
	source, replica := startPair(t)
	source.insert(t, 1)
	at := source.position(t)
	d := replica.database(t, patient)
	if _, err := d.CatchUp(timeout(t, patience), at); err != nil {
		t.Fatal(err)
	}
	if _, err := d.CloseWrites(timeout(t, patience), 0); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if v := verdict(d.Measure(ctx), replication.Planned, at, at); !v.Open {
		t.Fatalf("gate is closed: %v", v.Reasons)
	}
	c, err := openHandle(t, replica.socket(), "root", "", "app").Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	execAll(t, c, "INSERT INTO t (id) VALUES (5000)")
	f := d.Measure(ctx)
	if !f.ReadOnly.Equal(replication.Known(true)) {
		t.Errorf("read_only %s", f.ReadOnly)
	}
	wantCodes(t, verdict(f, replication.Planned, at, at), replication.Errant)
	if _, err := d.CloseWrites(timeout(t, patience), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ExecContext(ctx, "INSERT INTO t (id) VALUES (5001)"); err == nil {
		t.Error("the session writes on")
	}
	running := onlyChannel(t, d.Measure(ctx))
	if running.IO != replication.ThreadRunning || running.SQL != replication.ThreadRunning {
		t.Errorf("IO %s, SQL %s", running.IO, running.SQL)
	}
}

// A node that steps down closes at once and runs its plan beside that: both close.
func TestTwoClosingsLeaveEachOtherAlone(t *testing.T) {
	s := startServer(t, 1)
	d := s.database(t, patient)
	for range 20 {
		if err := d.OpenWrites(timeout(t, patience), time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		errs := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := d.CloseWrites(timeout(t, patience), 0)
				errs <- err
			}()
		}
		for range 2 {
			if err := <-errs; err != nil {
				t.Fatal(err)
			}
		}
	}
}
