package container

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/replication"
	"github.com/tanist-ha/tanist/replication/mysql"
)

func newContainer(t *testing.T, s *standIn, name, socket string) *Container {
	t.Helper()
	c, err := New(Config{Name: name, Socket: socket, Engine: s.socket})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func database(t *testing.T, c *Container) *mysql.Database {
	t.Helper()
	d, err := mysql.Open(mysql.Config{
		Name: "db", Address: "unix:/run/mysqld/mysqld.sock", Dial: c.Dial, User: "root",
		Password: func() (string, error) { return "", nil }, MeasureTimeout: 5 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// serverID measures until the server answers, and returns its id.
func serverID(t *testing.T, d *mysql.Database) uint32 {
	t.Helper()
	var f replication.Facts
	eventually(t, "the server to answer", func() bool {
		f = d.Measure(t.Context())
		return f.Reach == replication.Reachable
	})
	id, _ := f.ServerID.Get()
	return id
}

// A database in a container is found, found again under another process after a
// restart, and told to be gone when it is.
func TestDatabase(t *testing.T) {
	s := newStandIn(t)
	first, second := startServer(t, 41), startServer(t, 42)
	s.set("db", first.at("a"))
	d := database(t, newContainer(t, s, "db", ""))
	if got := serverID(t, d); got != 41 {
		t.Fatalf("server %d", got)
	}
	first.kill()
	s.set("db", box{id: id("a"), status: "exited"})
	if f := d.Measure(t.Context()); f.Reach != replication.ReachRefused || !strings.Contains(f.ReachDetail, "it does not run: exited") {
		t.Errorf("stopped: %s: %s", f.Reach, f.ReachDetail)
	}
	s.set("db", second.at("a"))
	if got := serverID(t, d); got != 42 {
		t.Errorf("after the restart: server %d", got)
	}
	// As a task of a Swarm service, whose container has another name each time.
	b := second.at("a")
	b.service = "stack_mysql-33150"
	s.set("stack_mysql-33150.1.x8s7", b)
	if got := serverID(t, database(t, newContainer(t, s, "stack_mysql-33150", "/run/mysqld/mysqld.sock"))); got != 42 {
		t.Errorf("as a service: server %d", got)
	}
}

// listener listens inside a guest, for as long as the test runs.
const listener = `mkdir -p /run/mysqld
exec perl -MIO::Socket::UNIX -e "
	\$SIG{PIPE} = q(IGNORE);
	\$s = IO::Socket::UNIX->new(Local => q(/run/mysqld/mysqld.sock), Listen => 5) or die \$!;
	while (\$c = \$s->accept) { print \$c qq(%s); close \$c }"`

// read reads what the listener says.
func read(t *testing.T, c *Container) (string, error) {
	t.Helper()
	conn, err := c.Dial(withTimeout(t, 10*time.Second))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	n, err := conn.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n]), nil
}

func startListener(t *testing.T, says string) guest {
	t.Helper()
	g := startGuest(t, fmt.Sprintf(listener, says))
	eventually(t, "the listener", func() bool {
		_, err := os.Stat(fmt.Sprintf("/proc/%d/root/run/mysqld/mysqld.sock", g.pid()))
		return err == nil
	})
	return g
}

// A process that is not the container's any more is not connected to, however the
// engine came to name it.
func TestReusedProcess(t *testing.T) {
	good, other := startListener(t, "good"), startListener(t, "other")
	t.Run("the engine knows better when asked again", func(t *testing.T) {
		s := newStandIn(t)
		s.set("db", other.at("a"))
		s.before = func(asked int) {
			if asked == 2 {
				s.set("db", good.at("a"))
			}
		}
		if got, err := read(t, newContainer(t, s, "db", "")); got != "good" || err != nil {
			t.Errorf("connected to %q, %v", got, err)
		}
	})
	t.Run("restarts without end", func(t *testing.T) {
		s := newStandIn(t)
		s.before = func(asked int) {
			b := good.at("a")
			b.started = fmt.Sprint(asked)
			s.set("db", b)
		}
		if got, err := read(t, newContainer(t, s, "db", "")); !errors.Is(err, errRestarted) || s.asked != 2*attempts {
			t.Errorf("connected to %q, %v after %d questions", got, err, s.asked)
		}
	})
	t.Run("the process ends meanwhile", func(t *testing.T) {
		s := newStandIn(t)
		victim := startListener(t, "victim")
		s.set("db", victim.at("a"))
		s.before = func(asked int) {
			if asked == 2 {
				victim.kill()
			}
		}
		if got, err := read(t, newContainer(t, s, "db", "")); !errors.Is(err, errRestarted) {
			t.Errorf("connected to %q, %v", got, err)
		}
	})
	t.Run("the same start, another process", func(t *testing.T) {
		s := newStandIn(t)
		s.set("db", good.at("a"))
		c := newContainer(t, s, "db", "")
		if got, err := read(t, c); got != "good" || err != nil {
			t.Fatalf("connected to %q, %v", got, err)
		}
		if got, err := read(t, c); got != "good" || err != nil {
			t.Fatalf("the second time: connected to %q, %v", got, err)
		}
		c.seen.ticks--
		if got, err := read(t, c); !errors.Is(err, errRestarted) || !strings.Contains(err.Error(), "is not the one that it was") {
			t.Errorf("connected to %q, %v", got, err)
		}
	})
}

// Links inside a container lead where they do for it, and never to the host.
func TestPaths(t *testing.T) {
	outside := filepath.Join(shortDir(t), "host.sock")
	l, err := net.Listen("unix", outside)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	deep := "/run/" + strings.Repeat("deep/", 60)
	g := startGuest(t, fmt.Sprintf(`mkdir -p /run/mysqld /run/esc %[2]s
ln -s /run/mysqld/mysqld.sock /run/absolute
ln -s ../../../../../../../../run/mysqld/mysqld.sock /run/up
ln -s mysqld /run/dir
ln -s %[1]s /run/esc/absolute
ln -s ../../../../../../../..%[1]s /run/esc/up
ln -s /proc/self/root/run/mysqld/mysqld.sock /run/esc/magic
ln -s loop /run/loop
ln -s /run/mysqld/mysqld.sock %[2]ssocket
mount -t tmpfs tmpfs %[3]s
touch /run/file
mkfifo /run/fifo
`, outside, deep, filepath.Dir(outside))+fmt.Sprintf(listener, "inside"))
	s := newStandIn(t)
	s.set("db", g.at("a"))
	eventually(t, "the listener", func() bool {
		got, err := read(t, newContainer(t, s, "db", ""))
		return err == nil && got == "inside"
	})
	for _, path := range []string{"/run/absolute", "/run/up", "/run/dir/mysqld.sock", deep + "socket"} {
		if got, err := read(t, newContainer(t, s, "db", path)); got != "inside" || err != nil {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	for path, want := range map[string]error{
		"/run/esc/absolute": syscall.ENOENT, "/run/esc/up": syscall.ENOENT, "/run/esc/magic": syscall.ELOOP, "/run/loop": syscall.ELOOP,
		"/run/nothing": syscall.ENOENT, "/run/file": nil, "/run/fifo": nil, "/run": nil,
	} {
		got, err := read(t, newContainer(t, s, "db", path))
		if err == nil || want != nil && !errors.Is(err, want) || want == nil && !strings.Contains(err.Error(), "is not a socket") {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
}

// What the engine can answer, and what that says about the database.
func TestEngine(t *testing.T) {
	respond := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			w.Write([]byte(body))
		}
	}
	for name, tt := range map[string]struct {
		raw    http.HandlerFunc
		boxes  map[string]box
		reach  replication.Reach
		detail string
	}{
		"no container":    {reach: replication.ReachRefused, detail: "the engine knows no such container, and no service of which a task runs here"},
		"created":         {boxes: map[string]box{"db": {id: id("a"), status: "created"}}, reach: replication.ReachRefused, detail: "it does not run: created"},
		"two tasks":       {boxes: map[string]box{"x": {id: id("a"), service: "db", running: true}, "y": {id: id("b"), service: "db", running: true}}, reach: replication.ReachFailed, detail: "more than one task"},
		"no process":      {boxes: map[string]box{"db": {id: id("a"), running: true}}, reach: replication.ReachFailed, detail: "the engine says that its process is 0"},
		"gone process":    {boxes: map[string]box{"db": {id: id("a"), running: true, pid: 1 << 30}}, reach: replication.ReachFailed},
		"an error":        {raw: respond(500, `{"message": "server\nmisbehaves"}`), reach: replication.ReachFailed, detail: "the engine answers 500 server misbehaves"},
		"no JSON":         {raw: respond(200, "<html>"), reach: replication.ReachFailed, detail: "not the JSON that was asked for"},
		"another JSON":    {raw: respond(200, "[]"), reach: replication.ReachFailed, detail: "not the JSON that was asked for"},
		"an empty object": {raw: respond(200, "{}"), reach: replication.ReachFailed, detail: "names no container"},
		"too much":        {raw: respond(200, strings.Repeat(" ", maxAnswer+1)), reach: replication.ReachFailed, detail: "more than 1048576 bytes"},
		"nothing":         {raw: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, reach: replication.ReachFailed, detail: "no answer within"},
		"half of it": {raw: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.Write([]byte(`{"Id":`))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, reach: replication.ReachFailed, detail: "read the answer"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStandIn(t)
			s.raw = tt.raw
			for n, b := range tt.boxes {
				s.set(n, b)
			}
			d, err := mysql.Open(mysql.Config{
				Name: "db", Address: "unix:/x", Dial: newContainer(t, s, "db", "").Dial, User: "root",
				Password: func() (string, error) { return "", nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			f := d.Measure(t.Context())
			if f.Reach != tt.reach || !strings.Contains(f.ReachDetail, tt.detail) {
				t.Errorf("%s: %s; want %s: %s", f.Reach, f.ReachDetail, tt.reach, tt.detail)
			}
		})
	}
}

// An engine that is not there says nothing about the database.
func TestNoEngine(t *testing.T) {
	c, err := New(Config{Name: "db", Engine: filepath.Join(t.TempDir(), "none")})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := c.Dial(t.Context())
	if conn != nil || err == nil || errors.Is(err, syscall.ENOENT) || !strings.Contains(err.Error(), "ask the engine at") {
		t.Errorf("%v, %v", conn, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Dial(ctx); err == nil {
		t.Error("connected after the end")
	}
}

func TestNew(t *testing.T) {
	for _, c := range []Config{{}, {Name: "a/b"}, {Name: "-a"}, {Name: "a", Socket: "x"}, {Name: "a", Socket: "/a/../b"}, {Name: "a", Engine: "run"}} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v accepted", c)
		}
	}
}

func TestContainerIDs(t *testing.T) {
	a, b := id("a"), id("b")
	for groups, want := range map[string][]string{
		"0::/system.slice/docker-" + a + ".scope\n":                     {a},
		"0::/user.slice/libpod-" + a + ".scope/container\n":             {a},
		"12:cpu:/docker/" + a + "\n11:memory:/docker/" + a + "\n":       {a},
		"0::/docker/" + a + "/docker/" + b + "\n":                       {a, b},
		"0::/system.slice/mariadb.service\n":                            nil,
		"0::/x-" + a + "a.scope\n":                                      nil, // longer than an id
		"0::/init.scope\n1:name=systemd:/docker/" + a[:63] + "/" + "\n": nil,
		"": nil,
	} {
		if diff := cmp.Diff(want, containerIDs([]byte(groups))); diff != "" {
			t.Errorf("%q:\n%s", groups, diff)
		}
	}
	c := &Container{}
	if err := c.compare(start{id: a}, &process{containers: []string{b}}); !errors.Is(err, errRestarted) {
		t.Errorf("a process of another container: %v", err)
	}
	if err := c.compare(start{id: a}, &process{containers: []string{b, a}}); err != nil {
		t.Errorf("a container in a container: %v", err)
	}
}

func TestStartTicks(t *testing.T) {
	stat, err := readSome("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	own, err := startTicks(stat)
	if err != nil || own == 0 {
		t.Errorf("%d, %v", own, err)
	}
	if got, err := startTicks([]byte("7 (a) b) S" + strings.Repeat(" 1", 18) + " 99 1\n")); got != 99 || err != nil {
		t.Errorf("%d, %v", got, err)
	}
	for _, bad := range []string{"", "7 (a", "7 (a) S 1 2"} {
		if _, err := startTicks([]byte(bad)); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

// A server that hangs in a container is killed, and the host's server at the path
// where the container's is, and whatever else the container's unit holds, are not.
func TestFence(t *testing.T) {
	s := newStandIn(t)
	inside, outside := startServer(t, 43), startServer(t, 44)
	s.set("db", inside.at("a"))
	u := units{}
	d, err := mysql.Open(mysql.Config{
		Name: "db", Address: "unix:" + outside.root + "/nowhere", Dial: newContainer(t, s, "db", "").Dial, User: "root",
		Password: func() (string, error) { return "", nil }, Units: &u,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	ended := make(chan struct{})
	watching, stop := context.WithCancel(t.Context())
	watched := make(chan struct{})
	go func() { defer close(watched); d.Watch(watching, func() { close(ended) }) }()
	defer func() { stop(); <-watched }()
	serverID(t, d)
	if pid, unit, err := d.FenceTarget(t.Context()); err != nil || pid != inside.pid() || unit != "" {
		t.Fatalf("would kill process %d with unit %q, want %d alone: %v", pid, unit, inside.pid(), err)
	}
	if err := inside.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server to hang", func() bool { return d.Measure(t.Context()).Reach == replication.ReachTimedOut })
	if err := d.Fence(withTimeout(t, patience)); err != nil {
		t.Fatal(err)
	}
	<-inside.exited
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("the watch was not told")
	}
	if len(u.killed) != 0 {
		t.Errorf("killed %v too", u.killed)
	}
	select {
	case <-outside.exited:
		t.Error("killed the other server")
	default:
	}
	s.set("db", box{id: id("a"), status: "exited"})
	if err := d.Fence(withTimeout(t, patience)); err != nil {
		t.Errorf("nobody is left to fence: %v", err)
	}
}

// units says that the process runs in a unit of its own, and records what is killed.
type units struct{ killed []string }

func (u *units) Of(_ context.Context, pid int) (mysql.Unit, error) {
	return mysql.Unit{Name: "docker-a.scope", Main: pid, Processes: []int{pid}}, nil
}

func (u *units) Unit(_ context.Context, name string) (mysql.Unit, error) {
	return mysql.Unit{Name: name}, nil
}

func (u *units) Kill(_ context.Context, name string) error {
	u.killed = append(u.killed, name)
	return nil
}
