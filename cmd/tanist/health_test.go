package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/tanist-ha/tanist/internal/control"
)

// Checks that are asked often, and decide at once.
const often = ", interval: 20ms, timeout: 5s, rise: 1, fall: 1"

func withHealth(checks ...string) string {
	return strings.TrimSuffix(instanceA, "}\n") + ", health: [{" + strings.Join(checks, "}, {") + "}]}\n"
}

func checkOf(in control.Instance, name string) control.Health {
	i := slices.IndexFunc(in.Health, func(h control.Health) bool { return h.Name == name })
	if i < 0 {
		return control.Health{}
	}
	return in.Health[i]
}

func is(h control.Health, ok bool) bool { return h.OK != nil && *h.OK == ok }

func TestDaemonHealth(t *testing.T) {
	if !inside(t) {
		return
	}
	veth(t, "veth0", "veth1", "192.0.2.11/24")
	ready := filepath.Join(t.TempDir(), "ready")
	touch := func() {
		t.Helper()
		if err := os.WriteFile(ready, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	touch()
	pids := filepath.Join(t.TempDir(), "ran")
	file := "name: ready, file: " + ready + ", effect: fault"
	deaf := "name: hung, interval: 20ms, timeout: 50ms, exec: [/bin/sh, -c, 'echo $$ >> " + pids + "; trap \"\" TERM; while :; do sleep 1; done']"
	r := newReloadRig(t, withHealth(file+often, deaf, "name: link, link: veth0"+often)+instanceB)
	r.active("a", "b")
	a := func() control.Instance { return instanceOf(r.status(), "a") }
	eventually(t, "every check has a sample", func() bool {
		in := a()
		return is(checkOf(in, "ready"), true) && is(checkOf(in, "link"), true) && is(checkOf(in, "hung"), false)
	})
	hung := checkOf(a(), "hung")
	if hung.Effect != "yield" || !strings.Contains(hung.Detail, "no answer") || hung.AgeMS == nil {
		t.Errorf("a hung check: %+v", hung)
	}
	eventually(t, "the hung program is killed and asked again", func() bool {
		b, _ := os.ReadFile(pids)
		return strings.Count(string(b), "\n") >= 2
	})

	t.Run("fault", func(t *testing.T) {
		if err := os.Remove(ready); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the fault", func() bool {
			in := a()
			return in.State == "fault" && in.Reason == "unhealthy" && strings.Contains(in.Detail, "ready: "+ready+" does not exist") && !in.VIPs[0].Held
		})
		if b := instanceOf(r.status(), "b"); b.State != "active" {
			t.Errorf("the instance beside it is %s", b.State)
		}
		out := tanist(t, "status", "--socket", filepath.Join(filepath.Dir(r.file), "s"))
		if out.code != 0 || !strings.Contains(out.stdout, "check ready") || !strings.Contains(out.stdout, "failing") || !strings.Contains(out.stdout, " ago\n") {
			t.Errorf("%+v", out)
		}
	})

	t.Run("reload", func(t *testing.T) {
		was := r.status()
		b, before := instanceOf(was, "b"), lines(t, pids)
		doc := r.reload(reloadHead+withHealth(file+often)+instanceB, reloadApplied) // the same check, and two are gone
		if in := instanceOf(doc, "a"); in.State == "active" || in.VIPs[0].Held || len(in.Health) != 1 || !is(in.Health[0], false) {
			t.Errorf("after the reload it is %s, %+v", in.State, in.Health)
		}
		eventually(t, "the fault", func() bool { return a().State == "fault" })
		unchanged(t, b, instanceOf(doc, "b"))
		eventually(t, "the program of the check that is gone has ended", func() bool { return !running(before) })
		n := len(lines(t, pids))
		touch() // a takeover takes longer than many intervals
		eventually(t, "the role", func() bool { return a().State == "active" })
		if got := len(lines(t, pids)); got != n {
			t.Errorf("a check that is gone was asked %d times", got-n)
		}
	})

	t.Run("refused", func(t *testing.T) {
		r.reload(reloadHead+withHealth(file+often, "name: x, link: veth7")+instanceB, reloadRefused)
		if e := r.status().Reload.Error; !strings.Contains(e, "health check x: there is no interface veth7") {
			t.Errorf("%q", e)
		}
	})
	if err := r.daemon.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := r.daemon.end(t); code != 0 {
		t.Errorf("exit status %d\n%s", code, r.daemon.stderr)
	}
	if running(lines(t, pids)) {
		t.Error("a program of a check outlives the daemon")
	}
}

func lines(t *testing.T, file string) []string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(b))
}

// running reports whether one of the processes runs.
func running(pids []string) bool {
	return slices.ContainsFunc(pids, func(pid string) bool {
		b, err := os.ReadFile("/proc/" + pid + "/stat")
		return err == nil && !strings.Contains(string(b), ") Z ")
	})
}

const askedConfig = `
key_file: %s
nodes:
  primary: {addresses: [192.0.2.11]}
  reserve: {addresses: [192.0.2.12]}
instances:
  - name: compass
    interface: veth0
    vrid: 51
    vips: [192.0.2.100/24]
    health:
%s`

// A check asks everything once. What can never be well here is a problem, what is
// not well now is a note.
func TestCheckAsksHealth(t *testing.T) {
	if !inside(t) {
		return
	}
	here, err := netlink.NewHandle()
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	if err := here.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "veth0"}, PeerName: "veth1"}); err != nil {
		t.Fatal(err)
	}
	number(t, here, "192.0.2.11/24")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "tanist.yaml")
	key := filepath.Join(dir, "key")
	if got := tanist(t, "keygen", key); got.code != exitOK {
		t.Fatalf("keygen: %+v", got)
	}
	ask := func(checks ...string) ran {
		t.Helper()
		text := fmt.Sprintf(askedConfig, key, "      - {"+strings.Join(checks, "}\n      - {")+"}\n")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return tanist(t, "check", "--config", file, "--node", "primary")
	}
	well := ask("name: tcp, tcp: '"+l.Addr().String()+"'", "name: exec, exec: [/bin/sh, -c, 'test {{.Node}} = primary']", "name: link, link: lo")
	if well.code != exitOK || well.stdout != "ok: "+file+"\n" {
		t.Errorf("all is well: %+v", well)
	}
	now := ask("name: tcp, tcp: '127.0.0.1:1'", "name: exec, exec: [/bin/sh, -c, 'echo why; exit 3'], effect: fault",
		"name: hangs, exec: [/bin/sleep, 1000], timeout: 100ms", "name: file, file: /nowhere")
	for _, want := range []string{
		"note: " + file + ":12:", "health check tcp fails now: connect to 127.0.0.1:1: connect: connection refused",
		"health check exec fails now: /bin/sh: exit status 3: why", "the effect fault",
		"health check hangs fails now: no answer within 100ms", "health check file fails now: /nowhere does not exist", "\nok: ",
	} {
		if now.code != exitOK || !strings.Contains(now.stdout, want) {
			t.Errorf("what fails now: no %q in %+v", want, now)
		}
	}
	never := ask("name: program, exec: [/nowhere/program]", "name: user, exec: {command: [/bin/true], user: tanist-nobody}", "name: link, link: veth9",
		"name: disk, disk: {path: /nowhere, min_free: 1%}", "name: own, gateway: 192.0.2.11", "name: unit, tcp: '127.0.0.1:1'")
	for _, want := range []string{
		":12:9: health check program: run /nowhere/program", "tanist-nobody", "there is no interface veth9", "/nowhere does not exist",
		"192.0.2.11 is an address of this host", "hint: name another host's address",
	} {
		if never.code != exitProblem || !strings.Contains(never.stderr, want) {
			t.Errorf("what cannot be asked: no %q in %+v", want, never)
		}
	}
	if strings.Contains(never.stderr, "health check unit") {
		t.Errorf("what fails now is a problem: %+v", never)
	}
}
