package pair

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tanist-ha/tanist/test/lab"
	"github.com/tanist-ha/tanist/test/site"
)

// TestCheckOnAHost: what the file names has to be there, and the account has to
// be allowed what a failover needs.
func TestCheckOnAHost(t *testing.T) {
	t.Parallel()
	s := up(t, site.Options{}, false)
	for _, n := range s.Nodes() {
		if r := tanist(t, s, n, "check"); r.Code != 0 {
			t.Errorf("check on %s: %d\n%s%s", n.Hostname, r.Code, r.Stdout, r.Stderr)
		}
	}
	if _, err := s.Primary.SQL(within(t), "REVOKE READ_ONLY ADMIN ON *.* FROM tanist@localhost"); err != nil {
		t.Fatal(err)
	}
	if err := s.Primary.WriteFile("/etc/tanist/mysql.password", []byte("tanist-in-the-lab\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.Primary.Remove(site.LabelFile); err != nil {
		t.Fatal(err)
	}
	broken := strings.NewReplacer("eth0", "eth7", "lsyncd.service", "lsyncx.service").Replace(site.Config(true))
	if err := s.Primary.WriteFile("/etc/tanist/tanist.yaml", []byte(broken), 0o644); err != nil {
		t.Fatal(err)
	}
	r := tanist(t, s, s.Primary, "check")
	if r.Code != 1 {
		t.Errorf("exit status %d, want 1", r.Code)
	}
	for _, want := range []string{
		"interface eth7 does not exist", "lsyncx.service", site.LabelFile, "can be read by others", "READ_ONLY ADMIN", "GRANT", "^",
	} {
		if !strings.Contains(r.Stderr, want) {
			t.Errorf("no word of %q in\n%s", want, r.Stderr)
		}
	}
	if strings.Contains(r.Stderr, "tanist-in-the-lab") {
		t.Error("the password is in the output")
	}
}

// TestOnAHost runs in a host of the lab the tests of other packages that need a real
// systemd, and a server that may be killed.
func TestOnAHost(t *testing.T) {
	t.Parallel()
	lab.Require(t)
	l, err := lab.Up(within(t), lab.Options{Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	for _, tt := range []struct{ pkg, run string }{
		{"hooks/step", "^TestUnit"},
		{"hooks/step", "^TestHostileUnit"},
		{"cmd/tanist", "UnderSystemd"},
	} {
		t.Run(tt.pkg+" "+tt.run, func(t *testing.T) {
			bin := filepath.Join(t.TempDir(), "on-a-host.test")
			build := exec.CommandContext(within(t), "go", "test", "-c", "-o", bin, "github.com/tanist-ha/tanist/"+tt.pkg)
			build.Env = append(build.Environ(), "CGO_ENABLED=0")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("build: %v: %s", err, out)
			}
			if err := l.A.Install(bin, "/opt/on-a-host.test", 0o755); err != nil {
				t.Fatal(err)
			}
			out, err := l.A.Run(within(t), lab.Command{
				// Two units at a time: all of them have one manager.
				Argv: []string{"/opt/on-a-host.test", "-test.v", "-test.parallel", "2", "-test.run", tt.run}, Env: []string{"TANIST_TEST_SYSTEMD=1"},
			})
			t.Log(out)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(out, "--- PASS") || strings.Contains(out, "--- SKIP") {
				t.Error("the tests did not run")
			}
		})
	}
}

// TestPlannedLeave: SIGTERM hands the role over when the peer can take it.
func TestPlannedLeave(t *testing.T) {
	t.Parallel()
	s := up(t, site.Options{}, true)
	c := client(t, s)
	sampler := s.StartSampler(t.Context())
	if _, err := s.Primary.Exec(within(t), "systemctl", "stop", "tanist.service"); err != nil {
		t.Fatal(err)
	}
	if err := s.AwaitState(within(t), s.Reserve, "active"); err != nil {
		t.Fatal(err)
	}
	if err := c.AwaitAck(within(t)); err != nil {
		t.Fatal(err)
	}
	holders := sampler.Stop()
	t.Logf("holders: %s", holders)
	if holders.None > 0 {
		t.Errorf("nobody had the address for %s", holders.None)
	}
	c.Stop()
	wantRows(t, c, s.Reserve)
	if w := look(t, s, s.Primary); w.VIP || w.ReadOnly != "1" || w.Lsyncd != 0 {
		t.Errorf("the host that left: %+v", w)
	}
}
