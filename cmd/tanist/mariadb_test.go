package main

// A real server for what the daemon asks of databases: a private mariadbd in a
// temporary directory, ended by its pid.

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"

	driver "github.com/go-sql-driver/mysql"
)

const databaseSecret = "no-one-may-read-this"

// emptyDir is where emptyData made something, for TestMain to remove.
var emptyDir string

// emptyData makes one data directory, which every server copies.
var emptyData = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "tcd")
	if err != nil {
		return "", err
	}
	emptyDir = dir
	data := filepath.Join(dir, "data")
	install := exec.Command("mariadb-install-db", "--no-defaults", "--datadir="+data, "--user="+userName(),
		"--auth-root-authentication-method=normal", "--skip-test-db", "--innodb-log-file-size=8M", "--innodb-use-native-aio=0", "--tmpdir="+dir)
	install.Env = append(os.Environ(), "TMPDIR="+dir)
	if out, err := install.CombinedOutput(); err != nil {
		return "", fmt.Errorf("mariadb-install-db: %w\n%s", err, out)
	}
	return data, nil
})

type mariadb struct {
	dir     string
	port    int
	process *os.Process
	root    *sql.DB
}

func (m mariadb) socket() string { return filepath.Join(m.dir, "s") }

// startMariaDB starts a server with an account tanist on its socket and over TCP,
// whose password is in the file password.
func startMariaDB(t testing.TB, options ...string) mariadb {
	t.Helper()
	m := launch(t, 1, append([]string{"--max-connections=1000"}, options...)...)
	for _, host := range []string{"localhost", "127.0.0.1"} {
		m.exec(t, fmt.Sprintf("CREATE USER tanist@'%s' IDENTIFIED BY '%s'", host, databaseSecret))
		m.exec(t, fmt.Sprintf("GRANT SLAVE MONITOR, REPLICATION SLAVE ADMIN, READ_ONLY ADMIN, CONNECTION ADMIN, PROCESS ON *.* TO tanist@'%s'", host))
	}
	if err := os.WriteFile(m.password(), []byte(databaseSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return m
}

// launch starts a server that only root may use.
func launch(t testing.TB, id int, options ...string) mariadb {
	t.Helper()
	for _, name := range []string{"mariadbd", "mariadb-install-db"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("SKIPPED: %s is not installed, so nothing here was tried against a server", name)
		}
	}
	// A short path: a unix socket's has at most 107 bytes.
	dir, err := os.MkdirTemp("", "tcd") //nolint:usetesting // t.TempDir puts the test's name into the path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := mariadb{dir: dir, port: l.Addr().(*net.TCPAddr).Port}
	l.Close()
	data, err := emptyData()
	if err == nil {
		err = os.CopyFS(filepath.Join(dir, "data"), os.DirFS(data))
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("mariadbd", append([]string{
		"--no-defaults", "--user=" + userName(), "--datadir=" + filepath.Join(dir, "data"), "--socket=" + m.socket(), "--tmpdir=" + dir,
		"--bind-address=127.0.0.1", "--port=" + strconv.Itoa(m.port), "--server-id=" + strconv.Itoa(id), "--log-bin=bin", "--skip-name-resolve",
		"--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M", "--performance-schema=OFF", "--gtid-strict-mode=1",
		"--innodb-use-native-aio=0", // its kernel contexts are few, and everybody's
	}, options...)...)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m.process = cmd.Process
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	c := driver.NewConfig()
	c.Net, c.Addr, c.User, c.Logger = "unix", m.socket(), "root", &driver.NopLogger{}
	connector, err := driver.NewConnector(c)
	if err != nil {
		t.Fatal(err)
	}
	m.root = sql.OpenDB(connector)
	t.Cleanup(func() { m.root.Close() })
	eventually(t, "mariadbd", func() bool { return m.root.Ping() == nil })
	return m
}

func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "root"
}

func (m mariadb) password() string { return filepath.Join(m.dir, "password") }

func (m mariadb) exec(t testing.TB, q string) {
	t.Helper()
	if _, err := m.root.ExecContext(context.Background(), q); err != nil {
		t.Fatalf("%s: %v", q, err)
	}
}
