package mysql

// Real servers: private processes in temporary directories, each with
// its own socket and loopback port, ended by pid when the test ends.

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/tanist-ha/tanist/replication"
)

// patience bounds every wait for something that is certain to come.
const patience = 20 * time.Second

const secret = "no-one-may-read-this"

type server struct {
	id      int
	product *product
	options []string // added to the command line
	dir     string
	port    int
	cmd     *exec.Cmd
	exited  chan struct{}
	root    *sql.DB
}

func startServer(t *testing.T, id int, options ...string) *server {
	t.Helper()
	p := needServer(t)
	data, err := p.dataTemplate()
	if err != nil {
		t.Fatal(err)
	}
	// A short path: a unix socket's has at most 107 bytes.
	dir, err := os.MkdirTemp("", "tdb") //nolint:usetesting // t.TempDir puts the test's name into the path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.CopyFS(filepath.Join(dir, "data"), os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	s := &server{id: id, product: p, options: options, dir: dir, port: freePort(t)}
	s.run(t)
	s.provision(t)
	return s
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func (s *server) socket() string { return filepath.Join(s.dir, "s") }

func (s *server) run(t *testing.T) {
	t.Helper()
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s.cmd = s.product.cmd(filepath.Join(s.dir, "data"), "--socket="+s.socket(), "--pid-file="+filepath.Join(s.dir, "pid"),
		"--bind-address=127.0.0.1", "--port="+strconv.Itoa(s.port), "--server-id="+strconv.Itoa(s.id), "--log-bin=bin",
		"--relay-log=relay", "--skip-name-resolve", "--innodb-buffer-pool-size=16M", "--innodb-flush-log-at-trx-commit=2",
		"--performance-schema=OFF")
	if s.product.mysql {
		s.cmd.Args = append(s.cmd.Args, "--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--skip-replica-start", "--mysqlx=OFF",
			"--replica-net-timeout=5")
	} else {
		s.cmd.Args = append(s.cmd.Args, "--log-slave-updates", "--gtid-strict-mode=1", "--skip-slave-start",
			"--innodb-log-file-size=8M", "--slave-net-timeout=5")
	}
	more := s.options
	if len(more) > 0 && strings.HasPrefix(more[0], "--defaults-file=") {
		// Only the first argument can name it.
		s.cmd.Args[slices.Index(s.cmd.Args, "--no-defaults")], more = more[0], more[1:]
	}
	s.cmd.Args = append(s.cmd.Args, more...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		cmd.Wait()
		close(exited)
	}(s.cmd, s.exited)
	t.Cleanup(func() { s.kill(t) })
	s.root = openHandle(t, s.socket(), "root", "", "")
	eventually(t, "server "+strconv.Itoa(s.id)+" to answer", func() (bool, error) {
		select {
		case <-s.exited:
			out, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			return false, fmt.Errorf("%s ended: %s", s.product.name, out)
		default:
		}
		return s.root.Ping() == nil, nil
	})
}

func openHandle(t *testing.T, socket, user, password, database string) *sql.DB {
	t.Helper()
	c := driver.NewConfig()
	c.Net, c.Addr, c.User, c.Passwd, c.DBName = "unix", socket, user, password, database
	c.Timeout = patience
	c.Logger = &driver.NopLogger{}
	connector, err := driver.NewConnector(c)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { db.Close() })
	return db
}

// provision makes the accounts outside the binary log, so that every server
// starts at the same, empty position.
func (s *server) provision(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	c, err := s.root.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	privileges := mariadbPrivileges[:]
	if s.product.mysql {
		privileges = mysqlPrivileges[:]
	}
	for _, q := range []string{
		"SET SESSION sql_log_bin = 0",
		"CREATE USER tanist@localhost IDENTIFIED BY '" + secret + "'",
		"GRANT " + strings.Join(privileges, ", ") + " ON *.* TO tanist@localhost",
		"CREATE USER repl@'127.0.0.1' IDENTIFIED BY 'repl'",
		"GRANT REPLICATION SLAVE ON *.* TO repl@'127.0.0.1'",
		"CREATE USER app@localhost IDENTIFIED BY 'app'",
		"GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, LOCK TABLES ON app.* TO app@localhost",
		"CREATE DATABASE app",
		"CREATE TABLE app.t (id INT PRIMARY KEY AUTO_INCREMENT, v INT NOT NULL DEFAULT 0) ENGINE=InnoDB",
		"SET SESSION sql_log_bin = 1", // the connection goes back to the pool
	} {
		if _, err := c.ExecContext(ctx, q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
}

func (s *server) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// hang stops the process, and returns when every thread stands.
func (s *server) hang(t *testing.T) {
	t.Helper()
	s.signal(t, syscall.SIGSTOP)
	eventually(t, "the threads to stop", func() (bool, error) {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.cmd.Process.Pid))
		for _, file := range files {
			// The state follows the name, which is in brackets. A thread that is gone counts as standing.
			if stat, err := os.ReadFile(file); err == nil && !strings.Contains(string(stat), ") T ") {
				return false, nil
			}
		}
		return len(files) > 0, err
	})
}

func (s *server) resume(t *testing.T) { t.Helper(); s.signal(t, syscall.SIGCONT) }

func (s *server) kill(t *testing.T) {
	t.Helper()
	s.cmd.Process.Signal(syscall.SIGKILL)
	select {
	case <-s.exited:
	case <-time.After(patience):
		t.Errorf("server %d does not end", s.id)
	}
}

func (s *server) exec(t *testing.T, q string) {
	t.Helper()
	if _, err := s.root.Exec(q); err != nil {
		t.Fatalf("server %d: %s: %v", s.id, q, err)
	}
}

func (s *server) value(t *testing.T, q string) string {
	t.Helper()
	var v sql.NullString
	if err := s.root.QueryRow(q).Scan(&v); err != nil {
		t.Fatalf("server %d: %s: %v", s.id, q, err)
	}
	return v.String
}

func (s *server) insert(t *testing.T, n int) {
	t.Helper()
	for range n {
		s.exec(t, "INSERT INTO app.t (v) VALUES (1)")
	}
}

func (s *server) position(t *testing.T) replication.Position {
	t.Helper()
	if s.product.mysql {
		return mustPosition(t, s.value(t, "SELECT @@GLOBAL.gtid_executed"))
	}
	return mustPosition(t, s.value(t, "SELECT @@GLOBAL.gtid_binlog_pos"))
}

func (s *server) database(t *testing.T, change ...func(*Config)) *Database {
	t.Helper()
	c := Config{
		Name: "db" + strconv.Itoa(s.id), Address: "unix:" + s.socket(), User: "tanist",
		Password: func() (string, error) { return secret, nil },
	}
	for _, f := range change {
		f(&c)
	}
	d, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// patient lets a measurement on a busy machine take its time, where the test is
// not about time.
func patient(c *Config) { c.MeasureTimeout = 10 * time.Second }

// follow makes s a replica of source and waits until both threads run.
func (s *server) follow(t *testing.T, source *server) {
	t.Helper()
	s.exec(t, fmt.Sprintf("CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=%d, MASTER_USER='repl', MASTER_PASSWORD='repl', "+
		"MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1", source.port))
	s.exec(t, "SET GLOBAL read_only = 1")
	s.exec(t, "START SLAVE")
	d := s.database(t, patient)
	channelBecomes(t, d, func(c replication.Channel) bool {
		return c.IO == replication.ThreadRunning && c.SQL == replication.ThreadRunning
	})
}

// startPair starts a source and a replica that follows it.
func startPair(t *testing.T) (source, replica *server) {
	t.Helper()
	source, replica = startServer(t, 1), startServer(t, 2)
	replica.follow(t, source)
	return source, replica
}

func onlyChannel(t *testing.T, f replication.Facts) replication.Channel {
	t.Helper()
	channels, ok := f.Channels.Get()
	if !ok || len(channels) != 1 {
		t.Fatalf("channels are %v; %s %s", f.Channels, f.Reach, f.ReachDetail)
	}
	return channels[0]
}

func channelBecomes(t *testing.T, d *Database, good func(replication.Channel) bool) replication.Facts {
	t.Helper()
	var f replication.Facts
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("last measured: %+v", f)
		}
	})
	eventually(t, "channel to change", func() (bool, error) {
		f = d.Measure(context.Background())
		return good(onlyChannel(t, f)), nil
	})
	return f
}

func eventually(t *testing.T, what string, f func() (bool, error)) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		done, err := f()
		if err != nil {
			t.Fatal(err)
		}
		if done {
			return
		}
	}
	t.Fatalf("waited %s for %s", patience, what)
}

func mustPosition(t *testing.T, s string) replication.Position {
	t.Helper()
	p, err := replication.ParsePosition(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func timeout(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}
