package mysql

// Heartbeats on real servers: what they write, and above all when they do not.

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/replication"
)

var beatTable = Table{"tanist-hb", "heart`beat"} // quoted, or it does not work

// withTable makes the table and lets the account use it, outside the binary log.
func (s *server) withTable(t *testing.T) {
	t.Helper()
	c, err := s.root.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	execAll(t, c, "SET SESSION sql_log_bin = 0", "CREATE DATABASE "+quoteName(beatTable.Schema), beatTable.Definition(),
		"GRANT SELECT, INSERT, UPDATE ON "+beatTable.String()+" TO tanist@localhost", "SET SESSION sql_log_bin = 1")
}

func beating(c *Config) { c.Heartbeat, c.MeasureTimeout = beatTable, 10*time.Second }

// soon is an instant by which every server has come to it.
func soon() mono.Instant { return bootTime().Add(patience) }

func (d *Database) mustBeat(t *testing.T, epoch uint64) {
	t.Helper()
	if err := d.Beat(t.Context(), epoch, soon()); err != nil {
		t.Fatal(err)
	}
}

// noBeat wants a heartbeat refused and nothing written.
func (s *server) noBeat(t *testing.T, d *Database, until mono.Instant, want error) {
	t.Helper()
	before := s.position(t)
	if err := d.Beat(t.Context(), 7, until); !errors.Is(err, want) {
		t.Errorf("%v, want %v", err, want)
	}
	if at := s.position(t); !at.Equal(before) {
		t.Errorf("it went from %s to %s", before, at)
	}
}

func TestHeartbeatIsCounted(t *testing.T) { onEach(t, testHeartbeatIsCounted) }

func testHeartbeatIsCounted(t *testing.T) {
	source, replica := startServer(t, 1), startServer(t, 2)
	source.withTable(t)
	replica.withTable(t)
	replica.follow(t, source)
	d, r := source.database(t, beating), replica.database(t, beating)
	if f := d.Measure(t.Context()); f.Beats.String() != "[]" || f.BeatDetail != "" {
		t.Errorf("before the first: %s %s", f.Beats, f.BeatDetail)
	}
	for range 3 {
		d.mustBeat(t, 7)
	}
	d.mustBeat(t, 8)
	want := replication.Beat{Server: 1, Epoch: 8, Count: 4}
	if f := d.Measure(t.Context()); f.Beat() != want || f.BeatDetail != "" {
		t.Errorf("%+v %s", f.Beats, f.BeatDetail)
	}
	eventually(t, "the replica to have it", func() (bool, error) {
		rows, _ := r.Measure(t.Context()).Beats.Get()
		return len(rows) == 1 && rows[0] == want, nil
	})
	replica.noBeat(t, r, soon(), ErrNoHeartbeat)
	if rows, _ := r.Measure(t.Context()).Beats.Get(); len(rows) != 1 {
		t.Errorf("the standby has %+v", rows)
	}
	if plain := source.database(t, patient); plain.Beat(t.Context(), 7, soon()) != nil || plain.Measure(t.Context()).Beats.IsKnown() {
		t.Error("a database without a table has heartbeats")
	}
}

// An errant transaction of Tanist's own would be its worst mistake: whatever the
// binary log's format, a server that is closed does not move.
func TestNoHeartbeatOnClosedServer(t *testing.T) { onEach(t, testNoHeartbeatOnClosedServer) }

func testNoHeartbeatOnClosedServer(t *testing.T) {
	s := startServer(t, 1)
	s.withTable(t)
	for _, format := range []string{"MIXED", "ROW"} {
		s.exec(t, "SET GLOBAL binlog_format = "+format)
		d := s.database(t, beating)
		d.mustBeat(t, 7)
		s.noBeat(t, d, bootTime(), ErrNoHeartbeat)
		s.exec(t, "SET GLOBAL read_only = 1")
		s.noBeat(t, d, soon(), ErrNoHeartbeat)
		s.exec(t, "SET GLOBAL read_only = 0")
		d.mustBeat(t, 7)
	}
	// As text, a statement that changes nothing is a transaction too.
	s.exec(t, "SET GLOBAL binlog_format = STATEMENT")
	d := s.database(t, beating)
	before := s.position(t)
	if err := d.Beat(t.Context(), 7, soon()); err == nil || !strings.Contains(err.Error(), "binlog_format is STATEMENT") {
		t.Error(err)
	}
	if at := s.position(t); !at.Equal(before) {
		t.Errorf("it went from %s to %s", before, at)
	}
	if f := d.Measure(t.Context()); !strings.Contains(f.BeatDetail, "binlog_format is STATEMENT") {
		t.Errorf("detail %q", f.BeatDetail)
	}
}

// statement returns the heartbeat as it is sent, without its bound, and a session
// of the account to send it.
func (s *server) statement(t *testing.T, epoch uint64, rest time.Duration) (*sql.Conn, string) {
	t.Helper()
	ctx := timeout(t, patience)
	c, err := openHandle(t, s.socket(), "tanist", secret, "").Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	session, err := new(Database).identify(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	deadline, err := session.deadlineAfter(ctx, func() time.Duration { return rest })
	if err != nil {
		t.Fatal(err)
	}
	return c, session.dialect.insertBeat(beatTable, epoch, deadline)
}

// The server looks whether it is read-only when it has the lock that closing waits
// for, not when the statement arrives.
func TestHeartbeatLooksBehindTheLock(t *testing.T) { onEach(t, testHeartbeatLooksBehindTheLock) }

func testHeartbeatLooksBehindTheLock(t *testing.T) {
	s := startServer(t, 1)
	s.withTable(t)
	for _, closes := range []bool{true, false} {
		lock, err := s.root.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		execAll(t, lock, "FLUSH TABLES WITH READ LOCK")
		c, statement := s.statement(t, 7, patience)
		before := s.position(t)
		done := make(chan error, 1)
		go func() {
			_, err := c.ExecContext(context.WithoutCancel(t.Context()), statement)
			done <- err
		}()
		eventually(t, "the heartbeat to wait", func() (bool, error) {
			var n int
			err := lock.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'tanist' AND STATE LIKE 'Waiting for%lock'").Scan(&n)
			return n == 1, err
		})
		if closes {
			execAll(t, lock, "SET GLOBAL read_only = 1")
		}
		execAll(t, lock, "UNLOCK TABLES")
		if err := <-done; err != nil {
			t.Error(err)
		}
		if moved := !s.position(t).Equal(before); moved == closes {
			t.Errorf("closed %v, and it went from %s to %s", closes, before, s.position(t))
		}
		s.exec(t, "SET GLOBAL read_only = 0")
		lock.Close()
	}
}

func TestHungServerDoesNotBeat(t *testing.T) { onEach(t, testHungServerDoesNotBeat) }

func testHungServerDoesNotBeat(t *testing.T) {
	s := startServer(t, 1)
	s.withTable(t)
	const rest = 200 * time.Millisecond
	c, statement := s.statement(t, 7, rest)
	over := time.Now().Add(rest)
	before := s.position(t)
	s.hang(t)
	done := make(chan error, 1)
	go func() {
		_, err := c.ExecContext(context.WithoutCancel(t.Context()), statement)
		done <- err
	}()
	eventually(t, "its time to be over", func() (bool, error) { return time.Now().After(over), nil })
	s.resume(t)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if at := s.position(t); !at.Equal(before) {
		t.Errorf("it went from %s to %s", before, at)
	}
}

// stallable is a way to a server that can be held up with its connections open.
type stallable struct {
	net.Listener
	mu      sync.Mutex // held while it is stalled
	port    int
	forward sync.WaitGroup
}

func stallableTo(t *testing.T, to string) *stallable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &stallable{Listener: l, port: l.Addr().(*net.TCPAddr).Port}
	p.forward.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			t.Cleanup(func() { in.Close(); out.Close() })
			p.forward.Go(func() { io.Copy(out, in); out.Close() })
			p.forward.Go(func() { p.copy(in, out); in.Close() })
		}
	})
	t.Cleanup(func() { l.Close() })
	return p
}

func (p *stallable) copy(to, from net.Conn) {
	b := make([]byte, 4096)
	for {
		n, err := from.Read(b)
		p.mu.Lock()
		_, writeErr := to.Write(b[:n])
		p.mu.Unlock()
		if err != nil || writeErr != nil {
			return
		}
	}
}

// The case for it: the connection stands, both threads run, Seconds_Behind is 0,
// and nothing arrives.
func TestHeartbeatTellsOfStall(t *testing.T) { onEach(t, testHeartbeatTellsOfStall) }

func testHeartbeatTellsOfStall(t *testing.T) {
	source, replica := startServer(t, 1), startServer(t, 2, "--slave-net-timeout=3600")
	source.withTable(t)
	replica.withTable(t)
	link := stallableTo(t, net.JoinHostPort("127.0.0.1", fmtUint(uint64(source.port))))
	replica.follow(t, &server{port: link.port})
	d, r := source.database(t, beating), replica.database(t, beating)
	var h replication.Heard
	told := func(at mono.Instant) {
		t.Helper()
		d.mustBeat(t, 7)
		f := d.Measure(t.Context())
		p, ok := f.Position()
		if !ok || f.Beat().Count == 0 {
			t.Fatalf("%+v", f)
		}
		h.Note(p, at)
		h.NoteBeat(f.Beat(), at)
	}
	start := bootTime()
	arrived := func() (bool, error) {
		rows, _ := r.Measure(t.Context()).Beats.Get()
		lag, ok := h.BeatLag(rows, start.Add(2*time.Second))
		return ok && lag == 0, nil
	}
	told(start)
	eventually(t, "the replica to have the first", arrived)

	link.mu.Lock()
	told(start.Add(time.Second))
	told(start.Add(2 * time.Second))
	now := start.Add(9 * time.Second)
	f := r.Measure(t.Context())
	link.mu.Unlock()
	c := onlyChannel(t, f)
	if !threadsRun(c) || !c.SecondsBehind.Equal(replication.Known(time.Duration(0))) {
		t.Errorf("IO %s, SQL %s, Seconds_Behind %s", c.IO, c.SQL, c.SecondsBehind)
	}
	f.MeasuredAt = now
	last, _ := h.Last()
	quick := h
	quick.Note(last, now) // the link between the nodes goes on telling
	v := replication.Gate(now, replication.Policy{MaxLag: 5 * time.Second}, replication.Question{
		Health: replication.HealthGood, Databases: []replication.Database{{Name: "pivot", Facts: f, Heard: quick}},
	})
	lag, _ := v.Databases[0].Lag.Get()
	if v.Open || lag != 8*time.Second || v.Databases[0].LagFrom != replication.LagHeartbeat {
		t.Errorf("open %v, lag %s from %s: %v", v.Open, lag, v.Databases[0].LagFrom, v.Reasons)
	}
	eventually(t, "the replica to have all", arrived)
}

func TestHeartbeatAdvice(t *testing.T) { onEach(t, testHeartbeatAdvice) }

func testHeartbeatAdvice(t *testing.T) {
	s := startServer(t, 1)
	const grant = "GRANT SELECT, INSERT, UPDATE ON `tanist-hb`.`heart``beat` TO `tanist`@`localhost`"
	advice := func() Advice {
		t.Helper()
		before := s.position(t)
		a, err := s.database(t, beating).HeartbeatAdvice(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !s.position(t).Equal(before) {
			t.Error("the check wrote something")
		}
		if a == nil {
			return Advice{}
		}
		return *a
	}
	fix := func(what, want string) {
		t.Helper()
		if diff := cmp.Diff(want, advice().Fix); diff != "" {
			t.Errorf("%s (-want +got):\n%s\n%s", what, diff, advice().What)
		}
	}
	fix("neither table nor grant", "on the active node: "+beatTable.Definition()+"; "+grant)
	s.exec(t, "CREATE DATABASE "+quoteName(beatTable.Schema))
	s.exec(t, "GRANT CREATE ON `tanist-hb`.* TO tanist@localhost")
	s.exec(t, "GRANT SELECT ON `tanist-hb`.* TO tanist@localhost")
	fix("no table", "on the active node: "+beatTable.Definition())
	s.exec(t, beatTable.Definition())
	s.exec(t, beatTable.Definition()) // it says what it wants, not what to do
	fix("no grant to write", "on the active node: "+beatTable.Definition()+"; "+grant)
	s.exec(t, strings.Replace(grant, ", UPDATE", "", 1))
	if a := advice(); !strings.Contains(a.What, "UPDATE command denied") {
		t.Errorf("%+v", a)
	}
	s.exec(t, grant)
	fix("all is well", "")
	s.exec(t, "SET GLOBAL read_only = 1")
	fix("all is well with the standby", "")
	s.exec(t, "SET GLOBAL read_only = 0")
	s.exec(t, "SET GLOBAL binlog_format = STATEMENT")
	if a := advice(); !strings.Contains(a.Fix, "binlog_format=ROW") {
		t.Errorf("%+v", a)
	}
	s.exec(t, "SET GLOBAL binlog_format = MIXED")
	s.exec(t, "ALTER TABLE "+beatTable.String()+" DROP beat")
	if a := advice(); !strings.Contains(a.What, "is no heartbeat table") {
		t.Errorf("%+v", a)
	}
	if a, err := s.database(t, patient).HeartbeatAdvice(t.Context()); a != nil || err != nil {
		t.Errorf("without a table: %v, %v", a, err)
	}
}

func TestHeartbeatStopAndAllow(t *testing.T) {
	var b beats
	ctx, err := b.begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.begin(t.Context()); !errors.Is(err, errBeatRuns) {
		t.Errorf("a second one begins: %v", err)
	}
	opening := b.opening()
	stopped := make(chan struct{})
	go func() { b.stop(t.Context()); close(stopped) }()
	<-ctx.Done() // it is told at once
	if err := b.end(ctx.Err()); err != nil {
		t.Errorf("what was stopped is trouble: %v", err)
	}
	<-stopped
	b.allow(opening) // of an opening that the close overtook
	if _, err := b.begin(t.Context()); !errors.Is(err, errBeatStopped) {
		t.Errorf("one begins after the close: %v", err)
	}
	b.allow(b.opening())
	if b.trouble() != "" {
		t.Error(b.trouble())
	}
	if _, err := b.begin(t.Context()); err != nil {
		t.Errorf("none begins after the opening: %v", err)
	}
	// One that does not end holds a close up for a moment and no longer.
	b.stop(t.Context())
}

func TestOpenRefusesHeartbeatTable(t *testing.T) {
	for _, table := range []Table{{"a", ""}, {"", "b"}, {strings.Repeat("x", 65), "b"}} {
		_, err := Open(Config{
			Name: "a", Address: "unix:/x", User: "u", Password: func() (string, error) { return "", nil }, Heartbeat: table,
		})
		if err == nil || !strings.Contains(err.Error(), "heartbeat table") {
			t.Errorf("%+v: %v", table, err)
		}
	}
}
