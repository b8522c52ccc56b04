package container

// A stand-in for the engine's API, and containers of this machine: a mariadbd with
// a mount namespace and a root directory of its own.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for something that is certain to come.
const patience = 60 * time.Second

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		if f() {
			return
		}
	}
	t.Fatalf("waited %s for %s", patience, what)
}

// shortDir is a directory whose path leaves room for a socket's.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tct") //nolint:usetesting // t.TempDir puts the test's name into the path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// standIn answers as the engine does.
type standIn struct {
	socket string

	mu    sync.Mutex
	boxes map[string]box // by name
	asked int
	// before is called before each answer about a container, with how many
	// questions there were.
	before func(asked int)
	// raw answers in place of everything else.
	raw http.HandlerFunc
}

// box is what the engine says of a container.
type box struct {
	id, service, status, started string
	pid                          int
	running                      bool
}

func id(c string) string { return strings.Repeat(c, 64) }

func newStandIn(t *testing.T) *standIn {
	t.Helper()
	s := &standIn{socket: filepath.Join(shortDir(t), "docker.sock"), boxes: map[string]box{}}
	l, err := net.Listen("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: s, ReadHeaderTimeout: patience}
	over := make(chan struct{})
	go func() { defer close(over); server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-over })
	return s
}

func (s *standIn) set(name string, b box) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.boxes[name] = b
}

func (s *standIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked++
	before, asked, raw := s.before, s.asked, s.raw
	s.mu.Unlock()
	if before != nil {
		before(asked)
	}
	if raw != nil {
		raw(w, r)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.URL.Path == "/containers/json" {
		s.list(w, r)
		return
	}
	name, ok := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/containers/"), "/json")
	for n, b := range s.boxes {
		if ok && (n == name || b.id == name) {
			json.NewEncoder(w).Encode(map[string]any{
				"Id": b.id, "Name": "/" + n,
				"State": map[string]any{"Running": b.running, "Pid": b.pid, "Status": b.status, "StartedAt": b.started},
			})
			return
		}
	}
	w.WriteHeader(http.StatusNotFound)
	json.NewEncoder(w).Encode(map[string]string{"message": "No such container: " + name})
}

func (s *standIn) list(w http.ResponseWriter, r *http.Request) {
	var filters struct{ Label, Status []string }
	if err := json.Unmarshal([]byte(r.URL.Query().Get("filters")), &filters); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	found := []map[string]any{}
	for n, b := range s.boxes {
		if b.running && len(filters.Label) == 1 && filters.Label[0] == serviceLabel+"="+b.service {
			found = append(found, map[string]any{"Id": b.id, "Names": []string{"/" + n}, "Labels": map[string]string{serviceLabel: b.service}})
		}
	}
	json.NewEncoder(w).Encode(found)
}

// guest is a process with a root directory of its own, as a container has.
type guest struct {
	root   string // as it is called on the host, where nothing is mounted on it
	cmd    *exec.Cmd
	exited chan struct{}
}

func (g guest) pid() int { return g.cmd.Process.Pid }

// startGuest starts a program whose root looks like the host's, but for a /run of
// its own, which the script fills before it executes the program.
func startGuest(t *testing.T, script string) guest {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: not root, so there is no root directory of another process")
	}
	if _, err := exec.LookPath("unshare"); err != nil {
		t.Skip("SKIPPED: unshare is not installed")
	}
	g := guest{root: shortDir(t), exited: make(chan struct{})}
	var out bytes.Buffer
	g.cmd = exec.Command("unshare", "--mount", "--propagation", "private", "/bin/sh", "-ec",
		"mount --rbind / "+g.root+"\nmount -t tmpfs -o size=256m tmpfs "+g.root+"/run\n"+
			"exec chroot "+g.root+" /bin/sh -ec 'echo ready\n"+script+"'")
	ready, err := g.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	g.cmd.Stderr = &out
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 6)
	if _, err := ready.Read(line); err != nil || string(line) != "ready\n" {
		g.cmd.Wait()
		t.Skipf("SKIPPED: a root directory cannot be made here: %s", out.String())
	}
	go func() { defer close(g.exited); g.cmd.Wait() }()
	t.Cleanup(g.kill)
	t.Cleanup(func() {
		if t.Failed() && out.Len() > 0 {
			t.Logf("guest %d: %.2000s", g.pid(), out.String())
		}
	})
	return g
}

func (g guest) kill() {
	g.cmd.Process.Kill()
	<-g.exited
}

// startServer starts a database in a guest. Its id tells which one it is.
func startServer(t *testing.T, serverID int) guest {
	t.Helper()
	for _, name := range []string{"mariadbd", "mariadb-install-db"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("SKIPPED: %s is not installed, so nothing here was tried against a server", name)
		}
	}
	g := startGuest(t, fmt.Sprintf(`mkdir /run/mysqld /run/tmp
export TMPDIR=/run/tmp
mariadb-install-db --no-defaults --tmpdir=/run/tmp --datadir=/run/data --user=root --auth-root-authentication-method=normal --skip-test-db --innodb-log-file-size=8M >/dev/null
exec mariadbd --no-defaults --user=root --datadir=/run/data --tmpdir=/run/tmp --socket=/run/mysqld/mysqld.sock --skip-networking --skip-name-resolve --server-id=%d --log-bin=bin --innodb-buffer-pool-size=16M --innodb-log-file-size=8M --performance-schema=OFF`, serverID))
	return g
}

// at is what the engine says of a guest.
func (g guest) at(c string) box {
	return box{id: id(c), pid: g.pid(), running: true, status: "running", started: fmt.Sprintf("2025-01-01T00:00:00.%09dZ", g.pid())}
}

func withTimeout(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
