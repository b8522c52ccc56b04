package mysql

// The servers that the tests run against: the installed MariaDB, that of Debian
// trixie from a root of its own, and what two variables name.

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/tanist-ha/tanist/test/sidebyside"
)

// product is a server program and where its parts are.
type product struct {
	name    string
	missing string // why there is none
	mysql   bool
	command []string // the program, behind its root's loader when it has one
	prefix  string   // of the file system it was built for, such as /usr
	share   string   // messages, and the statements that make the system tables

	once sync.Once
	data string // an empty data directory to copy
	err  error
}

// products are in the order in which they are tried; the first is what a test
// gets that does not ask.
var products = sync.OnceValue(func() []*product {
	all := []*product{
		productAt("mariadb", lookPath("mariadbd"), "mariadbd is not installed"),
		productAt("mariadb-trixie", "/var/cache/tanist-test/trixie/usr/sbin/mariadbd", "internal/tools/setup.sh did not unpack trixie's MariaDB"),
	}
	for _, variable := range []string{"TANIST_TEST_MARIADBD", "TANIST_TEST_MYSQLD"} {
		if path := os.Getenv(variable); path != "" {
			all = append(all, productAt(variable, path, path+" is not there"))
		}
	}
	return all
})

func lookPath(name string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

// productAt finds the parts of the server whose program is at PREFIX/sbin or
// PREFIX/bin. Where a loader stands beside it, in a root that is not this
// machine's, the program runs with that root's libraries.
func productAt(name, program, missing string) *product {
	p := &product{name: name, command: []string{program}}
	if _, err := os.Stat(program); err != nil {
		p.missing = missing
		return p
	}
	p.mysql = strings.HasPrefix(filepath.Base(program), "mysql")
	p.prefix = filepath.Dir(filepath.Dir(program))
	if loaders, _ := filepath.Glob(p.prefix + "/lib/*/ld-linux-*.so.*"); len(loaders) > 0 && p.prefix != "/usr" {
		p.command = []string{loaders[0], "--library-path", filepath.Dir(loaders[0]), program}
	}
	for _, share := range []string{"share/mariadb", "share/mysql", "share"} {
		if _, err := os.Stat(filepath.Join(p.prefix, share, "english/errmsg.sys")); err == nil {
			p.share = filepath.Join(p.prefix, share)
			break
		}
	}
	return p
}

// cmd is the server with the options that every start of it has.
func (p *product) cmd(data string, options ...string) *exec.Cmd {
	// A directory of its own for what is temporary: a server that starts removes
	// from it what it takes for left over, and that may be another's.
	args := append(append([]string{}, p.command[1:]...), "--no-defaults", "--user="+userName(), "--basedir="+p.prefix,
		"--datadir="+data, "--tmpdir="+filepath.Dir(data))
	if p.share != "" {
		args = append(args, "--lc-messages-dir="+p.share)
	}
	return exec.Command(p.command[0], append(args, options...)...)
}

// dataTemplate makes one empty data directory, copied by every server.
func (p *product) dataTemplate() (string, error) {
	p.once.Do(func() {
		dir, err := os.MkdirTemp("", "tanist-data-")
		if err != nil {
			p.err = err
			return
		}
		p.data = filepath.Join(dir, "data")
		p.err = p.initialize()
	})
	return p.data, p.err
}

func (p *product) initialize() error {
	var cmd *exec.Cmd
	if p.mysql {
		cmd = p.cmd(p.data, "--initialize-insecure")
	} else {
		statements, err := p.systemTables()
		if err != nil {
			return err
		}
		if err := os.Mkdir(p.data, 0o700); err != nil {
			return err
		}
		cmd = p.cmd(p.data, "--bootstrap", "--innodb-log-file-size=8M", "--innodb-fast-shutdown=0", "--log-warnings=0",
			"--enforce-storage-engine=", "--max_allowed_packet=8M")
		cmd.Stdin = statements
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make a data directory with %s: %w\n%s", p.name, err, out)
	}
	return nil
}

// systemTables are the statements that mariadb-install-db runs; the files have
// had two names.
func (p *product) systemTables() (io.Reader, error) {
	all := bytes.NewBufferString("CREATE DATABASE mysql;\nUSE mysql;\nSET @auth_root_socket = NULL;\n")
	for _, name := range []string{"system_tables", "performance_tables", "system_tables_data"} {
		var b []byte
		var err error
		for _, prefix := range []string{"mariadb_", "mysql_"} {
			if b, err = os.ReadFile(filepath.Join(p.share, prefix+name+".sql")); err == nil {
				break
			}
		}
		if err != nil {
			return nil, err
		}
		all.Write(b)
	}
	return all, nil
}

func userName() string {
	u, err := user.Current()
	if err != nil {
		return strconv.Itoa(os.Getuid())
	}
	return u.Username
}

// onEach runs a test against every MariaDB.
func onEach(t *testing.T, test func(*testing.T)) {
	t.Helper()
	t.Parallel()
	for _, p := range products() {
		if !p.mysql {
			t.Run(p.name, func(t *testing.T) { on(t, test) })
		}
	}
}

// on runs a test against the server that it is called after.
func on(t *testing.T, test func(*testing.T)) {
	t.Helper()
	t.Parallel()
	needServer(t)
	test(t)
}

// productOf is what startServer starts: the product that a test, or one that it is
// part of, is called after, else the first.
func productOf(t *testing.T) *product {
	t.Helper()
	words := strings.Split(t.Name(), "/")
	for _, p := range products() {
		if slices.Contains(words, p.name) {
			return p
		}
	}
	return products()[0]
}

func needServer(t *testing.T) *product {
	t.Helper()
	p := productOf(t)
	if p.missing != "" {
		t.Skipf("SKIPPED: %s, so nothing here was tried against it", p.missing)
	}
	return p
}

func TestMain(m *testing.M) {
	sidebyside.AtMost(4) // pairs of servers
	code := m.Run()
	for _, p := range products() {
		if p.data != "" {
			os.RemoveAll(filepath.Dir(p.data))
		}
	}
	os.Exit(code)
}
