package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/tanist-ha/tanist/hooks/journal"
)

// releaseRig is a host with a server and an address that a daemon left behind.
type releaseRig struct {
	t        *testing.T
	server   mariadb
	dir      string
	file     string
	instance string
}

func newReleaseRig(t *testing.T) *releaseRig {
	t.Helper()
	veth(t, "veth0", "veth1", "192.0.2.11/24")
	m := startMariaDB(t)
	dir := t.TempDir()
	return &releaseRig{t: t, server: m, dir: dir, file: filepath.Join(dir, "tanist.yaml"), instance: fmt.Sprintf(
		"  - {name: a, interface: veth0, vrid: 51, vips: [192.0.2.100/24], databases: [{name: pivot, address: 'unix:%s', user: tanist, password_file: %s}]}\n",
		m.socket(), m.password())}
}

func (r *releaseRig) write(text string) {
	r.t.Helper()
	if err := os.WriteFile(r.file, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *releaseRig) with(words ...string) []string {
	return append(words, "--config", r.file, "--node", "primary", "--socket", filepath.Join(r.dir, "s"), "--state-dir", r.dir)
}

// crashed starts a daemon on the configuration, kills it once it left word, and
// leaves the host with the address on it and writes open.
func (r *releaseRig) crashed(addresses ...string) {
	r.t.Helper()
	_ = os.Remove(filepath.Join(r.dir, appliedName))
	p := startTanist(r.t, r.with("run")...)
	eventually(r.t, "the daemon's word", func() bool { _, err := os.Stat(filepath.Join(r.dir, appliedName)); return err == nil })
	eventually(r.t, "the daemon to close the database", func() bool { return r.readOnly() })
	if err := p.Process.Signal(syscall.SIGKILL); err != nil {
		r.t.Fatal(err)
	}
	_ = p.Wait()
	for _, a := range addresses {
		addAddress(r.t, "veth0", a)
	}
	r.server.exec(r.t, "SET GLOBAL read_only = 0")
}

func (r *releaseRig) readOnly() bool {
	r.t.Helper()
	var closed bool
	if err := r.server.root.QueryRow("SELECT @@GLOBAL.read_only").Scan(&closed); err != nil {
		r.t.Fatal(err)
	}
	return closed
}

func (r *releaseRig) wantReleased(got ran, words ...string) {
	r.t.Helper()
	if got.code != exitOK {
		r.t.Errorf("%+v", got)
	}
	for _, w := range words {
		if !strings.Contains(got.stdout+got.stderr, w) {
			r.t.Errorf("it does not say %q: %+v", w, got)
		}
	}
	if held := heldAddresses("veth0"); slices.ContainsFunc(held, func(a netip.Addr) bool { return a.Is4() && a.String() != "192.0.2.11" }) {
		r.t.Errorf("veth0 has %v", held)
	}
	if !r.readOnly() {
		r.t.Error("the database takes writes")
	}
}

func TestRelease(t *testing.T) {
	if !inside(t) {
		return
	}
	r := newReleaseRig(t)
	good := reloadHead + r.instance
	r.write(good)
	r.crashed("192.0.2.100/24")
	if st, err := os.Stat(filepath.Join(r.dir, appliedName)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the daemon's word: %v, %v", st.Mode(), err)
	}
	r.wantReleased(tanist(t, r.with("release")...), "a: dropped 192.0.2.100/24 from veth0; closed writes of pivot")

	t.Run("invalid", func(t *testing.T) {
		r.crashed("192.0.2.100/24")
		r.write(good + "  - {name: b}\n")
		p := startTanist(t, r.with("run")...)
		if code := p.end(t); code != exitProblem {
			t.Errorf("a daemon with an invalid configuration: exit status %d", code)
		}
		got := tanist(t, r.with("release")...)
		r.wantReleased(got, "a: dropped 192.0.2.100/24 from veth0; closed writes of pivot", "cannot be used", "letting go of what the daemon of", `lacks the key "vrid"`)
	})
	t.Run("gone", func(t *testing.T) {
		r.write(good)
		r.crashed("192.0.2.100/24")
		if err := os.Remove(r.file); err != nil {
			t.Fatal(err)
		}
		r.wantReleased(tanist(t, r.with("release")...), "closed writes of pivot", "no such file")
	})
	t.Run("changed", func(t *testing.T) {
		r.write(good)
		r.crashed("192.0.2.100/24", "192.0.2.101/24")
		r.write(reloadHead + "  - {name: b, interface: veth0, vrid: 52, vips: [192.0.2.101/24]}\n")
		r.wantReleased(tanist(t, r.with("release")...), "a: dropped 192.0.2.100/24", "b: dropped 192.0.2.101/24", "was changed since")
	})
	t.Run("server-does-not-run", func(t *testing.T) {
		r.write(strings.ReplaceAll(good, "/s'", "/nobody'"))
		addAddress(t, "veth0", "192.0.2.100/24")
		r.wantReleased(tanist(t, r.with("release")...), "closed writes of pivot (its server does not run)")
	})
	t.Run("without-the-daemon's-word", func(t *testing.T) {
		r.write("nodes: 7\n")
		if err := os.Remove(filepath.Join(r.dir, appliedName)); err != nil {
			t.Fatal(err)
		}
		addAddress(t, "veth0", "192.0.2.100/24")
		got := tanist(t, r.with("release")...)
		if got.code != exitProblem || !strings.Contains(got.stderr, "nothing is released") || !slices.Contains(heldAddresses("veth0"), netip.MustParseAddr("192.0.2.100")) {
			t.Errorf("%+v, veth0 has %v", got, heldAddresses("veth0"))
		}
	})
	t.Run("a-daemon-without-its-socket", func(t *testing.T) {
		r.write(good)
		r.server.exec(t, "SET GLOBAL read_only = 0")
		j, _, err := journal.Open(filepath.Join(r.dir, "journal"))
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		got := tanist(t, r.with("release")...)
		if got.code != exitProblem || !strings.Contains(got.stderr, "a daemon runs") || r.readOnly() {
			t.Errorf("%+v", got)
		}
		if got := tanist(t, r.with("release", "--force")...); got.code != exitProblem || !strings.Contains(got.stderr, "--reason") || r.readOnly() {
			t.Errorf("without a reason: %+v", got)
		}
		r.wantReleased(tanist(t, r.with("release", "--force", "--reason", "it hangs")...), "closed writes of pivot", "not in the journal")
	})
	history := tanist(t, r.with("history")...).stdout
	for _, want := range []string{
		"release: dropped 192.0.2.100/24 from veth0; closed writes of pivot\n", "by root: release: dropped 192.0.2.101/24 from veth0",
	} {
		if !strings.Contains(history, want) {
			t.Errorf("the journal does not say %q:\n%s", want, history)
		}
	}
}

// A reload leaves word of what it applied, and one that is refused does not.
func TestReloadLeavesWord(t *testing.T) {
	if !inside(t) {
		return
	}
	veth(t, "veth0", "veth1", "192.0.2.11/24")
	r := newReloadRig(t, instanceA)
	dir := filepath.Dir(r.file)
	names := func() (names []string) {
		_, file, _, err := lastApplied(dir)
		if err == nil {
			for _, in := range file.Instances {
				names = append(names, in.Name)
			}
		}
		return names
	}
	r.active("a")
	eventually(t, "the first word", func() bool { return slices.Equal(names(), []string{"a"}) })
	r.reload(reloadHead+instanceA+instanceB, reloadApplied)
	eventually(t, "the second word", func() bool { return slices.Equal(names(), []string{"a", "b"}) })
	r.reload(reloadHead+"  - {name: c}\n", reloadRefused)
	if got := names(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("after a refused reload: %v", got)
	}
	r.leave()
}
