package lab_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/test/lab"
)

// patience bounds every wait of these tests; none should come near it.
const patience = 60 * time.Second

// Re-executions of the test binary, told apart by their first argument.
const (
	asOwner      = "lab-owner"      // ID: set up a lab and wait to be killed
	asSupervisor = "lab-supervisor" // ID NODE: supervise a node of a kept lab
)

var shared struct {
	once sync.Once
	lab  *lab.Lab
	err  error
}

func TestMain(m *testing.M) {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case asOwner:
			ownLab(os.Args[2])
		case asSupervisor:
			if err := lab.Supervise(os.Args[2], os.Args[3]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	code := m.Run()
	if shared.lab != nil {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := shared.lab.Down(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// sharedLab is one lab for all tests that leave it as they found it.
func sharedLab(t *testing.T) *lab.Lab {
	t.Helper()
	lab.Require(t)
	shared.once.Do(func() { shared.lab, shared.err = lab.Up(t.Context(), lab.Options{}) })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.lab
}

func withPatience(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sh runs a shell script in a node and returns what it printed, trimmed.
func sh(t *testing.T, ctx context.Context, n *lab.Node, script string) string {
	t.Helper()
	out, err := n.Exec(ctx, "sh", "-c", script)
	must(t, err)
	return strings.TrimSpace(out)
}

// eventually polls until cond holds.
func eventually(t *testing.T, ctx context.Context, what string, cond func() bool) {
	t.Helper()
	for !cond() {
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestNodesAreHosts(t *testing.T) {
	l, ctx := sharedLab(t), withPatience(t)
	for _, tt := range []struct {
		n                         *lab.Node
		hostname, service, server string
	}{
		{l.A, "primary", "10.77.0.11", "1"},
		{l.B, "reserve", "10.77.0.12", "2"},
	} {
		if got := sh(t, ctx, tt.n, "cat /proc/1/comm; systemctl is-system-running; hostname"); got != "systemd\nrunning\n"+tt.hostname {
			t.Errorf("node %s: PID 1, system state, host name:\n%s", tt.n.Name(), got)
		}
		if got := tt.n.Addr(lab.Eth0).String(); got != tt.service {
			t.Errorf("node %s has service address %s, want %s", tt.n.Name(), got, tt.service)
		}
		for _, p := range lab.Paths {
			addrs := sh(t, ctx, tt.n, "ip -br addr show "+p.String())
			for _, want := range []string{tt.n.Addr(p).String() + "/24", tt.n.Addr6(p).String() + "/64"} {
				if !strings.Contains(addrs, want) {
					t.Errorf("node %s: %s misses %s: %s", tt.n.Name(), p, want, addrs)
				}
			}
			if got := sh(t, ctx, tt.n, "cat /sys/class/net/"+p.String()+"/address"); got != tt.n.MAC(p).String() {
				t.Errorf("node %s: %s has hardware address %s, want %s", tt.n.Name(), p, got, tt.n.MAC(p))
			}
		}
		rows, err := tt.n.SQL(ctx, "SELECT @@server_id, @@report_host, @@log_bin, @@log_slave_updates, @@gtid_strict_mode, VERSION() LIKE '10.11.%'")
		must(t, err)
		if got, want := strings.Join(rows[0], " "), tt.server+" "+tt.hostname+" 1 1 1 1"; got != want {
			t.Errorf("node %s: MariaDB says %q, want %q", tt.n.Name(), got, want)
		}
		peer := l.Peer(tt.n)
		if got := sh(t, ctx, tt.n, "ssh -o BatchMode=yes "+peer.Hostname+" hostname"); got != peer.Hostname {
			t.Errorf("ssh from %s reached %q, want %s", tt.hostname, got, peer.Hostname)
		}
	}
}

// What a supervisor of addresses needs it gets, in a unit as in Exec, and nothing
// by which a node could change the machine's clock.
func TestNodeCapabilities(t *testing.T) {
	l, ctx := sharedLab(t), withPatience(t)
	const has = "CAP_NET_ADMIN CAP_NET_RAW CAP_IPC_LOCK CAP_SYS_NICE"
	unit := sh(t, ctx, l.A, "systemd-run --quiet --pipe --wait grep CapEff /proc/self/status")
	if exec := sh(t, ctx, l.A, "grep CapEff /proc/self/status"); exec != unit {
		t.Errorf("Exec has %q, a unit %q", exec, unit)
	}
	script := "for c in " + strings.ToLower(has) + `; do setpriv --dump | grep -q "Capability bounding set:.*${c#cap_}" || echo "$c"; done`
	if missing := sh(t, ctx, l.A, script); missing != "" {
		t.Errorf("missing capabilities: %s", missing)
	}
	if _, err := l.A.Exec(ctx, "sh", "-c", "setpriv --dump | grep -q sys_time"); err == nil {
		t.Error("a node may set the machine's clock")
	}
	sh(t, ctx, l.A, "sysctl -qw net.ipv4.ip_nonlocal_bind=1 && sysctl -qw net.ipv4.ip_nonlocal_bind=0")
}

func TestExec(t *testing.T) {
	l, ctx := sharedLab(t), withPatience(t)
	t.Run("status and output", func(t *testing.T) {
		_, err := l.A.Exec(ctx, "sh", "-c", "echo out; echo err >&2; exit 7")
		var exit *lab.ExitError
		if !errors.As(err, &exit) || exit.Code != 7 || exit.Stdout != "out\n" || exit.Stderr != "err\n" {
			t.Errorf("got %#v", err)
		}
	})
	t.Run("input and environment", func(t *testing.T) {
		out, err := l.B.Run(ctx, lab.Command{
			Argv: []string{"sh", "-c", "cat; echo $WHO"}, Env: []string{"WHO=me"}, Stdin: strings.NewReader("in\n"),
		})
		if err != nil || out != "in\nme\n" {
			t.Errorf("got %q, %v", out, err)
		}
	})
	t.Run("switch", func(t *testing.T) {
		out, err := l.Switch.Exec(ctx, "ip", "-br", "link", "show", "type", "veth")
		if err != nil || strings.Count(out, "\n") != 4 {
			t.Errorf("want the 4 ports, got %q, %v", out, err)
		}
	})
	t.Run("context ends it with all it started", func(t *testing.T) {
		short, cancel := context.WithCancel(ctx)
		p, err := l.A.Start(short, lab.Command{Argv: []string{"sh", "-c", "sleep 4711 & exec sleep 4711"}})
		must(t, err)
		sleeping := func() bool {
			_, err := l.A.Exec(ctx, "pgrep", "-f", "^sleep 4711")
			return err == nil
		}
		eventually(t, ctx, "both sleep", sleeping)
		cancel()
		if err := p.Wait(); err == nil {
			t.Error("a killed command reports success")
		}
		eventually(t, ctx, "neither sleeps", func() bool { return !sleeping() })
	})
}

func TestProcessSignals(t *testing.T) {
	l, ctx := sharedLab(t), withPatience(t)
	for _, tt := range []struct {
		name  string
		start func(context.Context, lab.Command) (*lab.Process, error)
	}{
		{"node", l.A.Start}, {"switch", l.Switch.Start},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := tt.start(ctx, lab.Command{Argv: []string{"sh", "-c", `trap 'exit 3' TERM; while :; do sleep 0.1; done`}})
			must(t, err)
			state := func(want string) func() bool {
				return func() bool {
					stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID))
					return err == nil && strings.Contains(string(stat), ") "+want+" ")
				}
			}
			must(t, p.Signal(syscall.SIGSTOP))
			eventually(t, ctx, "stopped", state("T"))
			must(t, p.Signal(syscall.SIGCONT))
			eventually(t, ctx, "goes on", state("S"))
			must(t, p.Stop(ctx))
			var exit *lab.ExitError
			if err := p.Wait(); !errors.As(err, &exit) || exit.Code != 3 {
				t.Errorf("after SIGTERM: %v, want status 3", err)
			}
			if err := p.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
				t.Errorf("signal after the end: %v", err)
			}
		})
	}
}

func TestKill(t *testing.T) {
	l, ctx := sharedLab(t), withPatience(t)
	sh(t, ctx, l.B, "systemd-run --quiet --unit=victim --property=Restart=always --property=RestartSec=0 sleep infinity")
	defer sh(t, ctx, l.B, "systemctl stop victim")
	first, err := l.B.MainPID(ctx, "victim")
	must(t, err)
	must(t, l.B.KillUnit(ctx, "victim", syscall.SIGKILL))
	eventually(t, ctx, "systemd restarts it", func() bool {
		pid, err := l.B.MainPID(ctx, "victim")
		return err == nil && pid != first
	})
	if err := l.B.Kill(first, syscall.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("kill a process that is gone: %v", err)
	}
	eventually(t, ctx, "the journal tells", func() bool {
		log, err := l.B.Journal(ctx, "victim")
		return err == nil && strings.Contains(log, "code=killed, status=9/KILL")
	})
}

func TestReplicationCarriesARow(t *testing.T) {
	l, ctx := sharedLab(t), withPatience(t)
	must(t, l.SetupReplication(ctx, l.A, l.B))
	db, err := l.A.DB()
	must(t, err)
	defer db.Close()
	for _, s := range []string{
		"CREATE DATABASE shop",
		"CREATE TABLE shop.orders (id INT PRIMARY KEY, item TEXT)",
		"INSERT INTO shop.orders VALUES (1, 'tea'), (2, NULL)",
		"CREATE USER client@'10.77.%' IDENTIFIED BY 'secret'",
		"GRANT ALL ON shop.* TO client@'10.77.%'",
	} {
		_, err := db.ExecContext(ctx, s)
		must(t, err)
	}
	must(t, l.CatchUp(ctx, l.A, l.B))
	rows, err := l.B.SQL(ctx, "SELECT * FROM shop.orders WHERE id > ? ORDER BY id", 0)
	must(t, err)
	if got := fmt.Sprint(rows); got != "[[1 tea] [2 NULL]]" {
		t.Errorf("replica has %s", got)
	}

	client, err := l.Switch.OpenDB(l.B.Addr(lab.Eth0), "client", "secret", "shop")
	must(t, err)
	defer client.Close()
	var host string
	must(t, client.QueryRowContext(ctx, "SELECT @@report_host FROM orders WHERE id = 1").Scan(&host))
	if host != l.B.Hostname {
		t.Errorf("client in the switch reached %q", host)
	}
}

func TestLsyncdCarriesAFile(t *testing.T) {
	l, ctx := sharedLab(t), withPatience(t)
	for _, tt := range []struct {
		shape   lab.Lsyncd
		stopped string // ActiveState and Result after an ordinary stop
		killed  string // ActiveState after kill -9 of the process
	}{
		{lab.LsyncdNative, "inactive success", "failed"},
		{lab.LsyncdPlain, "failed exit-code", "failed"},
		{lab.LsyncdLSB, "inactive success", "active"},
	} {
		t.Run(string(tt.shape), func(t *testing.T) {
			must(t, l.A.SetLsyncd(ctx, tt.shape))
			sh(t, ctx, l.A, "systemctl start lsyncd")
			file := "/srv/data/" + string(tt.shape)
			must(t, l.A.WriteFile(file, []byte("hello"), 0o644))
			eventually(t, ctx, "the file arrives", func() bool {
				data, err := l.B.ReadFile(file)
				return err == nil && string(data) == "hello"
			})
			show := "systemctl show --property=ActiveState,Result --value lsyncd | sort | xargs"
			sh(t, ctx, l.A, "systemctl stop lsyncd")
			if got := sorted(sh(t, ctx, l.A, show)); got != sorted(tt.stopped) {
				t.Errorf("stopped: %s, want %s", got, tt.stopped)
			}
			sh(t, ctx, l.A, "systemctl reset-failed lsyncd; systemctl start lsyncd; "+
				// A plain service is started before its program runs.
				"until pkill -KILL -x lsyncd; do sleep 0.01; done; while pkill -KILL -x lsyncd; do sleep 0.01; done")
			eventually(t, ctx, "killed is "+tt.killed, func() bool {
				return sh(t, ctx, l.A, "systemctl show --property=ActiveState --value lsyncd") == tt.killed
			})
			sh(t, ctx, l.A, "systemctl stop lsyncd; systemctl reset-failed lsyncd 2>/dev/null || :")
		})
	}
}

func sorted(words string) string {
	f := strings.Fields(words)
	if len(f) == 2 && f[0] > f[1] {
		f[0], f[1] = f[1], f[0]
	}
	return strings.Join(f, " ")
}

func TestFiles(t *testing.T) {
	l, ctx := sharedLab(t), withPatience(t)
	t.Run("replace a running program", func(t *testing.T) {
		must(t, l.A.Install("/bin/sleep", "/opt/lab/bin/sleeper", 0o755))
		p, err := l.A.Start(ctx, lab.Command{Argv: []string{"/opt/lab/bin/sleeper", "1000"}})
		must(t, err)
		must(t, l.A.Install("/bin/echo", "/opt/lab/bin/sleeper", 0o755))
		if got := sh(t, ctx, l.A, "/opt/lab/bin/sleeper new"); got != "new" {
			t.Errorf("got %q", got)
		}
		must(t, p.Stop(ctx))
	})
	t.Run("never outside the node", func(t *testing.T) {
		name := "/run/tanist-lab-test-" + l.ID
		must(t, l.A.WriteFile(name, []byte("inside"), 0o600))
		if _, err := os.Stat(name); err == nil {
			t.Errorf("%s was written on the machine", name)
		}
		if got := sh(t, ctx, l.A, "cat "+name); got != "inside" {
			t.Errorf("node reads %q", got)
		}
		sh(t, ctx, l.A, "ln -s /run /srv/out")
		if err := l.A.WriteFile("/srv/out/"+l.ID, nil, 0o600); err == nil {
			t.Error("followed an absolute link")
		}
		if err := l.A.WriteFile("relative", nil, 0o600); err == nil {
			t.Error("took a relative path")
		}
	})
	t.Run("copy a tree", func(t *testing.T) {
		dir := t.TempDir()
		must(t, os.MkdirAll(dir+"/sub", 0o750))
		must(t, os.WriteFile(dir+"/sub/file", []byte("x"), 0o640))
		must(t, l.B.CopyIn(dir, "/srv/copy"))
		if got := sh(t, ctx, l.B, "stat -c '%a %U %s' /srv/copy/sub/file"); got != "640 root 1" {
			t.Errorf("got %q", got)
		}
	})
}
