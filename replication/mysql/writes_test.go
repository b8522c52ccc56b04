package mysql

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/replication"
)

func fmtUint(n uint64) string { return strconv.FormatUint(n, 10) }

func TestCloseWrites(t *testing.T) { onEach(t, testCloseWrites) }

func testCloseWrites(t *testing.T) {
	source, replica := startPair(t)
	d, rep := source.database(t, patient), replica.database(t, patient)
	ctx := context.Background()
	source.insert(t, 1)
	const dumpThread = "SELECT ID FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'"
	dump := source.value(t, dumpThread)

	// closeAndCheck closes, and checks what must hold after each of the cases.
	closeAndCheck := func(t *testing.T, grace time.Duration) replication.Position {
		t.Helper()
		p, err := d.CloseWrites(timeout(t, patience), grace)
		if err != nil {
			t.Fatal(err)
		}
		checkClosed(t, source, d, p)
		if got := source.value(t, dumpThread); got != dump {
			t.Errorf("dump thread was %s and is %s", dump, got)
		}
		if at, err := rep.CatchUp(timeout(t, patience), p); err != nil || !at.Equal(p) {
			t.Errorf("replica caught up to %s, not %s: %v", at, p, err)
		}
		again, err := d.CloseWrites(timeout(t, patience), grace)
		if err != nil || !again.Equal(p) {
			t.Errorf("closed again at %s, not %s: %v", again, p, err)
		}
		return p
	}
	reopen := func(t *testing.T) {
		t.Helper()
		for range 2 { // the second time there is nothing to do
			if err := d.OpenWrites(timeout(t, patience), time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
		}
		if open, err := d.WritesOpen(ctx); err != nil || !open {
			t.Fatalf("open %v, %v", open, err)
		}
		source.insert(t, 1)
	}
	app := func(t *testing.T) *sql.Conn {
		t.Helper()
		c, err := openHandle(t, source.socket(), "app", "app", "app").Conn(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}

	t.Run("idle transaction", func(t *testing.T) {
		c := app(t)
		execAll(t, c, "BEGIN", "INSERT INTO t (id) VALUES (-1)")
		closeAndCheck(t, 0)
		if _, err := c.ExecContext(ctx, "COMMIT"); err == nil {
			t.Error("a commit was acknowledged after closing")
		}
		if got := source.value(t, "SELECT COUNT(*) FROM app.t WHERE id = -1"); got != "0" {
			t.Error("the row is there")
		}
		reopen(t)
	})
	t.Run("transaction that ends within the grace", func(t *testing.T) {
		c := app(t)
		execAll(t, c, "BEGIN", "INSERT INTO t (id) VALUES (-2)")
		done := make(chan error, 1)
		go func() {
			_, err := d.CloseWrites(timeout(t, patience), patience)
			done <- err
		}()
		select {
		case err := <-done:
			t.Fatalf("closed over an open transaction with grace left: %v", err)
		case <-time.After(400 * time.Millisecond):
		}
		execAll(t, c, "COMMIT")
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got := source.value(t, "SELECT COUNT(*) FROM app.t WHERE id = -2"); got != "1" {
			t.Error("the acknowledged row is not there")
		}
		closeAndCheck(t, 0)
		reopen(t)
	})
	t.Run("LOCK TABLES", func(t *testing.T) {
		c := app(t)
		execAll(t, c, "LOCK TABLES t WRITE")
		closeAndCheck(t, 0)
		reopen(t)
	})
	t.Run("UPDATE of 4 s", func(t *testing.T) {
		c := app(t)
		result := make(chan error, 1)
		go func() {
			_, err := c.ExecContext(ctx, "UPDATE t SET v = 7 WHERE SLEEP(4) = 0 LIMIT 1")
			result <- err
		}()
		eventually(t, "the update to run", func() (bool, error) {
			return source.value(t, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'UPDATE t SET v = 7%'") == "1", nil
		})
		closeAndCheck(t, 0)
		if err := <-result; err == nil {
			t.Error("the update was acknowledged though its grace was over")
		}
		reopen(t)
	})
	t.Run("writer that read_only does not bind", func(t *testing.T) {
		c, err := openHandle(t, source.socket(), "root", "", "app").Conn(ctx)
		if err != nil {
			t.Fatal(err)
		}
		began, ended, acknowledged := make(chan struct{}), make(chan struct{}), 0
		go func() {
			defer close(ended)
			for {
				if _, err := c.ExecContext(ctx, "INSERT INTO t (v) VALUES (99)"); err != nil {
					return
				}
				if acknowledged++; acknowledged == 10 {
					close(began)
				}
			}
		}()
		<-began
		closeAndCheck(t, 0)
		<-ended
		got, err := strconv.Atoi(source.value(t, "SELECT COUNT(*) FROM app.t WHERE v = 99"))
		if err != nil || got < acknowledged {
			t.Errorf("%d rows of %d acknowledged, %v", got, acknowledged, err)
		}
		reopen(t)
	})
	t.Run("running replica", func(t *testing.T) {
		if _, err := rep.CloseWrites(timeout(t, patience), 0); err != nil {
			t.Error(err)
		}
		c := onlyChannel(t, rep.Measure(ctx))
		if c.IO != replication.ThreadRunning || c.SQL != replication.ThreadRunning {
			t.Errorf("IO %s, SQL %s", c.IO, c.SQL)
		}
	})
	t.Run("without PROCESS", func(t *testing.T) {
		source.exec(t, "CREATE USER half@localhost IDENTIFIED BY '"+secret+"'")
		source.exec(t, "GRANT SLAVE MONITOR, READ_ONLY ADMIN, CONNECTION ADMIN ON *.* TO half@localhost")
		half := source.database(t, patient, func(c *Config) { c.User = "half" })
		if _, err := half.CloseWrites(timeout(t, patience), time.Second); err == nil || !strings.Contains(err.Error(), "1227") {
			t.Errorf("closed without seeing the sessions: %v", err)
		}
		if open, err := d.WritesOpen(ctx); err != nil || open {
			t.Errorf("open %v, %v: what could be closed was not", open, err)
		}
	})
}

func checkClosed(t *testing.T, s *server, d *Database, at replication.Position) {
	t.Helper()
	if got := s.value(t, "SELECT @@GLOBAL.read_only"); got != "1" {
		t.Errorf("read_only is %s", got)
	}
	if open, err := d.WritesOpen(context.Background()); err != nil || open {
		t.Errorf("open %v, %v", open, err)
	}
	if got := s.position(t); !got.Equal(at) {
		t.Errorf("stands at %s, not at %s", got, at)
	}
	const others = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'app'"
	if got := s.value(t, others); got != "0" {
		t.Errorf("%s client sessions left", got)
	}
}

func execAll(t *testing.T, c *sql.Conn, statements ...string) {
	t.Helper()
	for _, q := range statements {
		if _, err := c.ExecContext(timeout(t, patience), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
}

func TestHungServerDoesNotOpenItself(t *testing.T) { onEach(t, testHungServerDoesNotOpenItself) }

func testHungServerDoesNotOpenItself(t *testing.T) {
	s := startServer(t, 1)
	d := s.database(t)
	s.exec(t, "SET GLOBAL read_only = 1")

	// The statement itself is sent to the stopped server; it carries a deadline
	// that was fixed while the server was awake.
	err := d.act(timeout(t, time.Second), "open writes", func(ctx context.Context, sess *session) error {
		deadline, err := sess.serverDeadline(ctx, time.Now().Add(time.Second))
		if err != nil {
			return err
		}
		s.hang(t)
		return sess.openWrites(ctx, deadline)
	})
	if !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), "db1") || !strings.Contains(err.Error(), "open writes") {
		t.Errorf("error %v", err)
	}
	s.resume(t)
	staysClosed(t, s)

	// The whole of OpenWrites, the connection being there already.
	wantReach(t, s.database(t, patient).Measure(context.Background()), replication.Reachable)
	s.hang(t)
	if err := d.OpenWrites(timeout(t, time.Second), time.Now().Add(time.Second)); err == nil {
		t.Error("a stopped server opened")
	}
	s.resume(t)
	staysClosed(t, s)

	if err := d.OpenWrites(timeout(t, patience), time.Now().Add(-time.Second)); !errors.Is(err, ErrExpired) {
		t.Errorf("deadline passed: %v", err)
	}
	if err := d.act(timeout(t, patience), "open writes", func(ctx context.Context, sess *session) error {
		return sess.openWrites(ctx, "1.5")
	}); !errors.Is(err, ErrExpired) {
		t.Errorf("server's deadline passed: %v", err)
	}
	staysClosed(t, s)
	if err := d.OpenWrites(timeout(t, patience), time.Now().Add(patience)); err != nil {
		t.Error(err)
	}
	if got := s.value(t, "SELECT @@GLOBAL.read_only"); got != "0" {
		t.Errorf("read_only is %s", got)
	}
}

// worksOff waits until the woken server has worked off what it held, which is
// when no session of ours is left executing.
func worksOff(t *testing.T, s *server) {
	t.Helper()
	eventually(t, "the left-over sessions to end", func() (bool, error) {
		return s.value(t, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'tanist' AND COMMAND <> 'Sleep'") == "0", nil
	})
}

func staysClosed(t *testing.T, s *server) {
	t.Helper()
	worksOff(t, s)
	if got := s.value(t, "SELECT @@GLOBAL.read_only"); got != "1" {
		t.Errorf("read_only is %s: the server opened itself", got)
	}
}

// A statement that nobody waits for any more is killed, here one that would run
// for hours without looking at its connection.
func TestLeftStatementIsKilled(t *testing.T) { onEach(t, testLeftStatementIsKilled) }

func testLeftStatementIsKilled(t *testing.T) {
	s := startServer(t, 1)
	d := s.database(t, patient)
	err := d.act(timeout(t, time.Second), "count", func(ctx context.Context, sess *session) error {
		return sess.exec(ctx, "DO BENCHMARK(1000000000000, 1 + 1)")
	})
	if !errors.Is(err, ErrOutcomeUnknown) || !strings.Contains(err.Error(), "writes are now open") {
		t.Errorf("error %v", err)
	}
	eventually(t, "the statement to be gone", func() (bool, error) {
		return s.value(t, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'DO BENCHMARK%'") == "0", nil
	})
}
