package wire

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/tanist-ha/tanist/vrrp"
	"github.com/tanist-ha/tanist/vrrp/internal/netnstest"
)

// interopLimit bounds every wait: an election of version 2 takes 4 s.
const interopLimit = 30 * time.Second

// interopParallel is how many pairs of hosts run side by side.
const interopParallel = 6

// TestMain lets the elections wait side by side whatever the number of cores:
// they hardly compute.
func TestMain(m *testing.M) {
	given := false
	flag.Parse()
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", strconv.Itoa(interopParallel))
	}
	os.Exit(m.Run())
}

// wireForm is one way to speak VRRP with keepalived.
type wireForm struct {
	name     string
	version  vrrp.Version
	ours     Config // how Tanist on host a speaks with keepalived on b
	theirs   netip.Addr
	prefixes []netip.Prefix
}

func wireForms() []wireForm {
	four := []netip.Prefix{netip.MustParsePrefix("192.0.2.100/32"), netip.MustParsePrefix("192.0.2.101/32")}
	six := []netip.Prefix{netip.MustParsePrefix("fe80::100/128"), netip.MustParsePrefix("2001:db8::100/128")}
	unicast4, group4 := Config{Local: addrA, Peer: addrB, Interface: heart}, groupOf(addrA, heart, 51)
	unicast6, group6 := Config{Local: addrA6, Peer: addrB6, Interface: heart}, groupOf(linkA6, heart, 51)
	return []wireForm{
		{"v2-ipv4-unicast", vrrp.Version2, unicast4, addrB, four},
		{"v2-ipv4-multicast", vrrp.Version2, group4, addrB, four},
		{"v3-ipv4-unicast", vrrp.Version3, unicast4, addrB, four},
		{"v3-ipv4-multicast", vrrp.Version3, group4, addrB, four},
		{"v3-ipv6-unicast", vrrp.Version3, unicast6, addrB6, six},
		{"v3-ipv6-multicast", vrrp.Version3, group6, linkB6, six},
	}
}

func (f wireForm) interval() vrrp.Centiseconds {
	if f.version == vrrp.Version2 {
		return 100
	}
	return 10
}

func (f wireForm) addresses() []netip.Addr {
	var out []netip.Addr
	for _, p := range f.prefixes {
		out = append(out, p.Addr())
	}
	return out
}

// keepalivedConf of a unicast pair sets unicast_ttl: over IPv6 keepalived 2.2.7
// sends with hop limit 64 otherwise, which RFC 9568 §5.1.2.3 has dropped.
func (f wireForm) keepalivedConf(priority int) string {
	unicast := ""
	if !f.ours.group() {
		unicast = fmt.Sprintf("  unicast_src_ip %v\n  unicast_ttl 255\n  unicast_peer {\n    %v\n  }\n", f.theirs, f.ours.Local)
	}
	var addresses strings.Builder
	for _, p := range f.prefixes {
		fmt.Fprintf(&addresses, "    %v\n", p)
	}
	return fmt.Sprintf(`
global_defs {
  vrrp_version %v
}
vrrp_instance interop {
  interface %s
  state BACKUP
  virtual_router_id 51
  priority %d
  advert_int %v
%s  virtual_ipaddress {
%s  }
}
`, f.version, heart, priority, f.interval().Duration().Seconds(), unicast, addresses.String())
}

// pair is host a, where speakers run, and host b, where keepalived does.
type pair struct {
	t        *testing.T
	form     wireForm
	nsA, nsB *netnstest.Namespace
	dir      string
	log      string
	cmd      *exec.Cmd
}

func newPair(t *testing.T, form wireForm, priority int) *pair {
	t.Helper()
	needKeepalived(t)
	p := &pair{t: t, form: form, dir: t.TempDir()}
	p.nsA, p.nsB = dualHosts(t)
	p.log = filepath.Join(p.dir, "log")
	if err := os.WriteFile(filepath.Join(p.dir, "keepalived.conf"), []byte(form.keepalivedConf(priority)), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			b, _ := os.ReadFile(p.log)
			t.Logf("keepalived's log:\n%s", b)
		}
	})
	return p
}

func (p *pair) startKeepalived() {
	p.t.Helper()
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer out.Close() // the process has its own descriptor
	p.cmd = exec.Command("keepalived", "--use-file", filepath.Join(p.dir, "keepalived.conf"), "--dont-fork", "--log-console", "--log-detail",
		"--vrrp", "--pid", filepath.Join(p.dir, "pid"), "--vrrp_pid", p.childFile())
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := p.nsB.Do(p.cmd.Start); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pair) childFile() string { return filepath.Join(p.dir, "vrrp.pid") }

// terminate lets keepalived say goodbye.
func (p *pair) terminate() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	_ = p.cmd.Wait() // its status says nothing
	p.cmd = nil
}

// kill ends keepalived, parent first so that it starts no other child, and the
// addresses that it leaves behind.
func (p *pair) kill() {
	if p.cmd == nil {
		return
	}
	child, err := os.ReadFile(p.childFile())
	_ = p.cmd.Process.Kill()
	if pid, convErr := strconv.Atoi(strings.TrimSpace(string(child))); err == nil && convErr == nil {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	_ = p.cmd.Wait()
	p.cmd = nil
	for _, addr := range p.vips(p.nsB) {
		_ = p.nsB.AddrDel(p.nsB.Link(p.t, heart), &addr)
	}
}

// logged returns how often keepalived has said something.
func (p *pair) logged(text string) int {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return 0
	}
	return strings.Count(string(b), text)
}

func (p *pair) vips(ns *netnstest.Namespace) []netlink.Addr {
	list, err := ns.AddrList(ns.Link(p.t, heart), netlink.FAMILY_ALL)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(list, func(a netlink.Addr) bool {
		ip, _ := netip.AddrFromSlice(a.IP)
		return !slices.Contains(p.form.addresses(), ip.Unmap())
	})
}

// holds waits until every address is on one host and none on the other.
func (p *pair) holds(what string, holder, other *netnstest.Namespace) {
	p.t.Helper()
	netnstest.Eventually(p.t, interopLimit, what, func() bool {
		return len(p.vips(holder)) == len(p.form.prefixes) && len(p.vips(other)) == 0
	})
}

// speak starts our side, with the checksum that keepalived 2.2.7 insists on.
func (p *pair) speak(priority uint8) *speaker {
	p.t.Helper()
	return speak(p.t, p.nsA, p.form.ours, vrrp.Config{
		Version: p.form.version, VRID: 51, Priority: priority, Interval: p.form.interval(), Preempt: true,
		Addresses: p.form.addresses(), Local: p.form.ours.Local,
	}, p.form.prefixes, vrrp.ChecksumPseudoHeader)
}

// TestKeepalivedIsWeaker preempts a keepalived that is Active, leaves it the
// role with a goodbye and without one, and takes it back each time.
// electionsWanted skips the elections where the machine is busy with everything
// else: they live on being punctual, and `make interop` runs them alone.
func electionsWanted(t *testing.T) {
	t.Helper()
	if os.Getenv("TANIST_INTEROP") == "" {
		t.Skip("elections beside a real keepalived: make interop runs them (TANIST_INTEROP=1)")
	}
}

func TestKeepalivedIsWeaker(t *testing.T) {
	electionsWanted(t)
	for _, form := range wireForms() {
		t.Run(form.name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, form, 100)
			capture := p.capture()
			p.startKeepalived()
			p.holds("keepalived alone to be Active", p.nsB, p.nsA)

			us := p.speak(200)
			p.holds("us to preempt", p.nsA, p.nsB)
			netnstest.Eventually(t, interopLimit, "keepalived to say why", func() bool {
				return p.logged("received advert from "+form.ours.Local.String()+" with higher priority 200") > 0
			})

			us.leave()
			if got := us.router.Mismatch(); got != 0 {
				t.Errorf("mismatch %v with the same addresses and interval", got)
			}
			p.holds("keepalived to take over after our goodbye", p.nsB, p.nsA)
			if got := p.logged("Backup received priority 0 advertisement"); got != 1 {
				t.Errorf("keepalived heard %d goodbyes, want 1", got)
			}

			us = p.speak(200)
			p.holds("us to preempt again", p.nsA, p.nsB)
			us.crash()
			p.holds("keepalived to take over from silence", p.nsB, p.nsA)
			if got := p.logged("Backup received priority 0 advertisement"); got != 1 {
				t.Errorf("keepalived heard %d goodbyes, want 1", got)
			}
			p.checkCapture(capture(), 200)
		})
	}
}

// TestKeepalivedIsStronger is preempted by keepalived, takes over from it
// after a goodbye and after kill -9, and gives way each time.
func TestKeepalivedIsStronger(t *testing.T) {
	electionsWanted(t)
	for _, form := range wireForms() {
		t.Run(form.name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, form, 200)
			capture := p.capture()
			us := p.speak(100)
			p.holds("us alone to be Active", p.nsA, p.nsB)

			p.startKeepalived()
			p.holds("keepalived to preempt", p.nsB, p.nsA)
			netnstest.Eventually(t, interopLimit, "us to be Backup", func() bool { return us.is(vrrp.Backup) })
			if got := us.last(); got != vrrp.ReasonHigherPriority {
				t.Errorf("Backup for %v", got)
			}

			p.terminate()
			p.holds("us to take over after its goodbye", p.nsA, p.nsB)
			if got := us.heardGoodbyes(); got != 1 {
				t.Errorf("%d goodbyes heard, want 1", got)
			}

			p.startKeepalived()
			p.holds("keepalived to preempt again", p.nsB, p.nsA)
			p.kill()
			p.holds("us to take over from silence", p.nsA, p.nsB)
			if got := us.heardGoodbyes(); got != 1 {
				t.Errorf("%d goodbyes heard, want 1", got)
			}
			for _, reason := range vrrp.DropReasons() {
				if n := us.conn.Dropped(reason); n != 0 {
					t.Errorf("%d packets of keepalived's dropped: %v", n, reason)
				}
			}
			us.leave()
			p.checkCapture(capture(), 100)
		})
	}
}
