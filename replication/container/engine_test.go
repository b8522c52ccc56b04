package container

// A real engine, where one runs: DOCKER_HOST or the default socket.

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/replication"
)

// docker runs the engine's own client.
func docker(t *testing.T, stdin []byte, args ...string) string {
	t.Helper()
	out, err := dockerCommand(stdin, args...)
	if err != nil {
		t.Fatalf("docker %s: %v", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(out)
}

func dockerCommand(stdin []byte, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.Output()
	return string(out), err
}

// image is a root directory that borrows the host's programs.
func image(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, target := range map[string]string{
		"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64", "var/run": "/run",
	} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}); err != nil {
			t.Fatal(err)
		}
	}
	passwd := "root:x:0:0::/:/bin/sh\n"
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "etc/passwd", Size: int64(len(passwd)), Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	w.Write([]byte(passwd))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A container of a real engine: reached, restarted, stopped, removed.
func TestEngineItself(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: not root, so no container's root directory can be entered")
	}
	if _, err := exec.LookPath("docker"); err != nil {
		t.Skip("SKIPPED: no docker client is installed, so nothing here was tried against a real engine")
	}
	if _, err := dockerCommand(nil, "version"); err != nil {
		t.Skip("SKIPPED: no engine runs here (DOCKER_HOST names another), so nothing here was tried against a real one")
	}
	for _, name := range []string{"mariadbd", "mariadb-install-db"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("SKIPPED: %s is not installed, so nothing here was tried against a server", name)
		}
	}
	const name = "tanist-test-mysql"
	img := docker(t, image(t), "import", "-", name)
	t.Cleanup(func() { dockerCommand(nil, "rmi", "-f", img) })
	t.Cleanup(func() { dockerCommand(nil, "rm", "-f", name) })
	docker(t, nil, "run", "-d", "--name", name, "--network", "none", "-v", "/usr:/usr:ro", "-v", "/etc/alternatives:/etc/alternatives:ro",
		"--label", serviceLabel+"="+name+"-service", name,
		"/bin/sh", "-c", `mkdir -p /run/mysqld /tmp
test -d /data || mariadb-install-db --no-defaults --datadir=/data --user=root --auth-root-authentication-method=normal --skip-test-db --innodb-log-file-size=8M
exec mariadbd --no-defaults --user=root --datadir=/data --socket=/run/mysqld/mysqld.sock --skip-networking --skip-name-resolve --server-id=77 --log-bin=bin --innodb-buffer-pool-size=16M --innodb-log-file-size=8M --performance-schema=OFF`)
	engineSocket := strings.TrimPrefix(cmp.Or(os.Getenv("DOCKER_HOST"), "unix://"+DefaultEngine), "unix://")
	s := &standIn{socket: engineSocket}
	c := newContainer(t, s, name, "")
	d := database(t, c)
	if got := serverID(t, d); got != 77 {
		t.Fatalf("server %d", got)
	}
	if got := serverID(t, database(t, newContainer(t, s, name+"-service", ""))); got != 77 {
		t.Errorf("as a service: server %d", got)
	}
	at, err := c.engine.find(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	p, err := openProcess(at.pid)
	if err != nil {
		t.Fatal(err)
	}
	p.close()
	t.Logf("control groups name %v", p.containers)
	docker(t, nil, "restart", "-t", "10", name)
	if got := serverID(t, d); got != 77 {
		t.Errorf("after a restart: server %d", got)
	}
	if again, err := c.engine.find(t.Context(), name); err != nil || again == at {
		t.Errorf("after a restart it is %+v still, %v", again, err)
	}
	docker(t, nil, "pause", name)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	f := d.Measure(ctx)
	cancel()
	if f.Reach != replication.ReachTimedOut {
		t.Errorf("paused: %s: %s", f.Reach, f.ReachDetail)
	}
	docker(t, nil, "unpause", name)
	serverID(t, d)
	docker(t, nil, "stop", "-t", "10", name)
	if f := d.Measure(t.Context()); f.Reach != replication.ReachRefused || !strings.Contains(f.ReachDetail, "it does not run: exited") {
		t.Errorf("stopped: %s: %s", f.Reach, f.ReachDetail)
	}
	docker(t, nil, "rm", "-f", name)
	if f := d.Measure(t.Context()); f.Reach != replication.ReachRefused || !strings.Contains(f.ReachDetail, "knows no such container") {
		t.Errorf("removed: %s: %s", f.Reach, f.ReachDetail)
	}
}
