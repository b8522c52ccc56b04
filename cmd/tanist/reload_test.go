package main

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/vrrp/vip"
)

const reloadHead = `
nodes:
  primary: {addresses: [192.0.2.11]}
  reserve: {addresses: [192.0.2.12]}
log: {level: info, format: console}
instances:
`

// The intervals are long: these tests are about reloads, and the machine may be busy.
const (
	instanceA = "  - {name: a, interface: veth0, vrid: 51, vips: [192.0.2.100/24, 192.0.2.101/24], lease: 3s, heartbeat: {advert_interval: 1s}}\n"
	instanceB = "  - {name: b, interface: veth0, vrid: 52, vips: [192.0.2.110/24], lease: 3s, heartbeat: {advert_interval: 1s}}\n"
	instanceC = "  - {name: c, interface: veth0, vrid: 53, vips: [192.0.2.120/24], lease: 3s, heartbeat: {advert_interval: 1s}}\n"
)

// veth makes an interface with an address and its other end.
func veth(t *testing.T, name, other, prefix string) {
	t.Helper()
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: other}); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{name, other} {
		l, err := netlink.LinkByName(n)
		if err == nil {
			err = netlink.LinkSetUp(l)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	addAddress(t, name, prefix)
}

// gone notes which addresses the kernel says were taken off, in their order.
type gone struct {
	mu   sync.Mutex // guards list
	list []string
}

func watchAddresses(t *testing.T) *gone {
	t.Helper()
	g := &gone{}
	updates, done := make(chan netlink.AddrUpdate, 1024), make(chan struct{})
	if err := netlink.AddrSubscribe(updates, done); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(done) })
	go func() {
		for u := range updates {
			if u.NewAddr {
				continue
			}
			g.mu.Lock()
			g.list = append(g.list, u.LinkAddress.String())
			g.mu.Unlock()
		}
	}()
	return g
}

func (g *gone) addresses() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.list)
}

// reloadRig is a daemon alone whose file is written again and again.
type reloadRig struct {
	t      *testing.T
	file   string
	daemon tanistProcess
	client *control.Client
	last   time.Time // of the reload before
}

func newReloadRig(t *testing.T, instances string) *reloadRig {
	t.Helper()
	r, args := prepareReloadRig(t, "primary", instances)
	r.daemon = startTanist(t, args...)
	return r
}

// prepareReloadRig starts nothing; it returns with what to start it.
func prepareReloadRig(t *testing.T, node, instances string) (*reloadRig, []string) {
	t.Helper()
	dir := t.TempDir()
	r := &reloadRig{t: t, file: filepath.Join(dir, "tanist.yaml"), client: control.Dial(filepath.Join(dir, "s"))}
	r.write(reloadHead + instances)
	return r, []string{"run", "--config", r.file, "--node", node, "--socket", filepath.Join(dir, "s"), "--state-dir", dir}
}

func (r *reloadRig) write(text string) {
	r.t.Helper()
	if err := os.WriteFile(r.file, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *reloadRig) status() control.Document {
	r.t.Helper()
	doc, err := r.client.Status(r.t.Context())
	if err != nil {
		r.t.Fatalf("%v\n%s", err, r.daemon.stderr)
	}
	return doc
}

func (r *reloadRig) active(names ...string) {
	r.t.Helper()
	eventually(r.t, "active: "+strings.Join(names, ", "), func() bool {
		doc, err := r.client.Status(r.t.Context())
		return err == nil && len(doc.Instances) == len(names) &&
			!slices.ContainsFunc(doc.Instances, func(in control.Instance) bool { return in.State != "active" })
	})
}

func (r *reloadRig) hup() {
	r.t.Helper()
	if err := r.daemon.Process.Signal(syscall.SIGHUP); err != nil {
		r.t.Fatal(err)
	}
}

// reload writes the file, says so, and returns the status after it.
func (r *reloadRig) reload(text, result string) control.Document {
	r.t.Helper()
	r.write(text)
	r.hup()
	var doc control.Document
	eventually(r.t, "a reload", func() bool {
		doc = r.status()
		return doc.Reload != nil && doc.Reload.At.After(r.last) && doc.Reload.Result != reloadRunning
	})
	r.last = doc.Reload.At
	if doc.Reload.Result != result {
		r.t.Errorf("reload %+v, want it %s\n%s", *doc.Reload, result, r.daemon.stderr)
	}
	return doc
}

// unchanged wants an instance as it was: one that was replaced has another reason.
// Its date is worked out anew for each status.
func unchanged(t *testing.T, was, is control.Instance) {
	t.Helper()
	const jitter = 2 * time.Second
	if was.Name != is.Name || was.State != is.State || was.Reason != is.Reason || was.Epoch != is.Epoch || was.Since.Sub(is.Since).Abs() > jitter {
		t.Errorf("%s is %s (%s, epoch %d) since %v, was %s (%s, epoch %d) since %v",
			is.Name, is.State, is.Reason, is.Epoch, is.Since, was.State, was.Reason, was.Epoch, was.Since)
	}
}

func held(name string) []string {
	var list []string
	ps, _ := vip.AddressesOf(name)
	for _, p := range ps {
		if p.Addr().Is4() {
			list = append(list, p.String())
		}
	}
	slices.Sort(list)
	return list
}

func instanceOf(doc control.Document, name string) control.Instance {
	for _, in := range doc.Instances {
		if in.Name == name {
			return in
		}
	}
	return control.Instance{}
}

// A whole daemon, its file changed again and again: what is kept never leaves the
// interface, and who is not changed does not notice.
func TestReload(t *testing.T) {
	if !inside(t) {
		return
	}
	veth(t, "veth0", "veth1", "192.0.2.11/24")
	veth(t, "veth2", "veth3", "192.0.2.13/24")
	notes := manager(t)
	r := newReloadRig(t, instanceA+instanceB)
	off := watchAddresses(t)
	r.active("a", "b")
	if diff := cmp.Diff([]string{"192.0.2.100/24", "192.0.2.101/24", "192.0.2.11/24", "192.0.2.110/24"}, held("veth0")); diff != "" {
		t.Error(diff)
	}
	before := r.status()
	unmoved := func(t *testing.T, doc control.Document, names ...string) {
		t.Helper()
		for _, name := range names {
			unchanged(t, instanceOf(before, name), instanceOf(doc, name))
		}
	}

	t.Run("unchanged", func(t *testing.T) {
		doc := r.reload(reloadHead+"  # as before\n"+instanceA+instanceB, reloadUnchanged)
		unmoved(t, doc, "a", "b")
	})
	t.Run("bad-file", func(t *testing.T) {
		doc := r.reload(reloadHead+strings.Replace(instanceA, "vrid: 51", "vird: 51, vips_: 3", 1)+instanceB, reloadRefused)
		unmoved(t, doc, "a", "b")
		_, err := config.Load(r.file)
		problems, ok := err.(config.Problems) //nolint:errorlint // Load says so
		if !ok || len(problems) < 2 {
			t.Fatalf("%v", err)
		}
		if doc.Reload.Error != firstProblem(problems) {
			t.Errorf("status says %q, want %q", doc.Reload.Error, firstProblem(problems))
		}
		for _, p := range problems { // as `tanist check` finds them
			eventually(t, p.Message, func() bool { return strings.Contains(r.daemon.stderr.String(), p.Message) })
		}
	})
	t.Run("no-file", func(t *testing.T) {
		if err := os.Rename(r.file, r.file+".away"); err != nil {
			t.Fatal(err)
		}
		r.hup()
		eventually(t, "a reload that failed", func() bool {
			last := r.status().Reload
			return last != nil && last.Result == reloadFailed && strings.Contains(last.Error, r.file)
		})
		r.last = r.status().Reload.At
		unmoved(t, r.status(), "a", "b")
		if got := tanist(t, "status", "--socket", filepath.Join(filepath.Dir(r.file), "s")); !strings.Contains(got.stdout, "last reload  failed") {
			t.Errorf("status shows %s", got.stdout)
		}
	})
	t.Run("password-of-a-new-database", func(t *testing.T) {
		password := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(password, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		with := strings.Replace(instanceA, "vrid: 51", `vrid: 51, databases: [{name: p, address: "unix:/x.sock", user: x, password_file: `+password+`}]`, 1)
		doc := r.reload(reloadHead+with+instanceB, reloadRefused)
		if !strings.Contains(doc.Reload.Error, "can be read by others") {
			t.Errorf("%+v", *doc.Reload)
		}
		unmoved(t, doc, "a", "b")
	})
	t.Run("not-while-it-runs", func(t *testing.T) {
		for _, text := range []string{
			"peer_port: 7600\n" + reloadHead + strings.Replace(instanceA, ", 192.0.2.101/24", "", 1) + instanceB,
			reloadHead + instanceA + strings.Replace(instanceB, "name: b", "name: d", 1),
			reloadHead + strings.Replace(instanceA, "veth0", "veth9", 1) + instanceB,
		} {
			unmoved(t, r.reload(text, reloadRefused), "a", "b")
		}
	})
	if list := off.addresses(); len(list) > 0 {
		t.Errorf("taken off so far: %v", list)
	}

	// From here on a has another priority, announcement and list.
	changedA := "  - {name: a, interface: veth0, vrid: 51, vips: [192.0.2.100/24, 192.0.2.102/24], priority: {primary: 200, reserve: 100}, " +
		"garp: {repeat: 2, refresh: 1s}, lease: 4s, heartbeat: {advert_interval: 1500ms}}\n"
	t.Run("changed", func(t *testing.T) {
		doc := r.reload(reloadHead+changedA+instanceB, reloadApplied)
		unmoved(t, doc, "b")
		was, is := instanceOf(before, "a"), instanceOf(doc, "a")
		if is.State != "active" || is.Reason != "adopted" || is.Epoch != was.Epoch {
			t.Errorf("%s, %s, epoch %d after %d", is.State, is.Reason, is.Epoch, was.Epoch)
		}
		if diff := cmp.Diff([]string{"192.0.2.100/24", "192.0.2.102/24", "192.0.2.11/24", "192.0.2.110/24"}, held("veth0")); diff != "" {
			t.Error(diff)
		}
		time.Sleep(5500 * time.Millisecond) // longer than the old lease and the new: it is renewed
		if diff := cmp.Diff([]string{"192.0.2.101/24"}, off.addresses()); diff != "" {
			t.Errorf("taken off: %s", diff)
		}
	})
	t.Run("prefix", func(t *testing.T) {
		// The same address with another prefix is another entry of the kernel's: the
		// new one is there before the old one goes.
		missed := make(chan bool, 1)
		stop := make(chan struct{})
		go func() {
			seen := true
			for seen {
				seen = slices.Contains(heldAddresses("veth0"), netip.MustParseAddr("192.0.2.102"))
				select {
				case <-stop:
					missed <- !seen
					return
				default:
				}
			}
			missed <- true
		}()
		changedA = strings.Replace(changedA, "192.0.2.102/24", "192.0.2.102/32", 1)
		r.reload(reloadHead+changedA+instanceB, reloadApplied)
		close(stop)
		if <-missed {
			t.Error("192.0.2.102 was gone for a moment")
		}
		if list := held("veth0"); !slices.Contains(list, "192.0.2.102/32") || slices.Contains(list, "192.0.2.102/24") {
			t.Errorf("%v", list)
		}
	})
	t.Run("removed-and-added", func(t *testing.T) {
		was := r.status()
		doc := r.reload(reloadHead+instanceC+changedA, reloadApplied)
		if slices.Contains(held("veth0"), "192.0.2.110/24") || instanceOf(doc, "b").Name != "" {
			t.Errorf("b is still there: %v", held("veth0"))
		}
		unchanged(t, instanceOf(was, "a"), instanceOf(doc, "a"))
		r.active("c", "a")
		if names := r.status().Instances; names[0].Name != "c" {
			t.Errorf("the first is %s", names[0].Name)
		}
		if !slices.Contains(held("veth0"), "192.0.2.120/24") {
			t.Errorf("c does not have its address: %v", held("veth0"))
		}
	})
	t.Run("interface", func(t *testing.T) {
		r.reload(reloadHead+strings.Replace(instanceC, "veth0", "veth2", 1)+changedA, reloadApplied)
		if got := held("veth2"); !slices.Contains(got, "192.0.2.120/24") || slices.Contains(held("veth0"), "192.0.2.120/24") {
			t.Errorf("veth0 %v, veth2 %v", held("veth0"), got)
		}
		if c := instanceOf(r.status(), "c"); c.State != "active" || !c.VIPs[0].Held {
			t.Errorf("%s, %+v", c.State, c.VIPs)
		}
	})
	t.Run("log-level", func(t *testing.T) {
		quiet := strings.Replace(reloadHead, "level: info", "level: error", 1) + strings.Replace(instanceC, "veth0", "veth2", 1) + changedA
		r.reload(quiet, reloadApplied)
		length := len(r.daemon.stderr.String())
		r.reload(quiet, reloadUnchanged)
		r.reload(strings.Replace(quiet, "level: error", "level: info", 1), reloadApplied)
		eventually(t, "a line", func() bool { return len(r.daemon.stderr.String()) > length })
		if rest := r.daemon.stderr.String()[length:]; strings.Contains(rest, reloadUnchanged) || !strings.Contains(rest, "log.level info") {
			t.Errorf("at level error it wrote %s", rest)
		}
	})
	t.Run("manager", func(t *testing.T) {
		// Each reload is begun with its date and ended, whatever became of it.
		eventually(t, "the last word", func() bool {
			var begun, ended int
			for _, n := range notes() {
				switch {
				case strings.HasPrefix(n, "RELOADING=1\nMONOTONIC_USEC="):
					begun++
				case n == "READY=1":
					ended++
				}
			}
			return begun >= 10 && ended == begun+1
		})
	})
	if slices.Contains(off.addresses(), "192.0.2.100/24") {
		t.Errorf("192.0.2.100 was taken off while the daemon ran: %v", off.addresses())
	}
	if err := r.daemon.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := r.daemon.end(t); code != exitOK {
		t.Errorf("exit status %d\n%s", code, r.daemon.stderr)
	}
	if diff := cmp.Diff([]string{"192.0.2.11/24"}, held("veth0")); diff != "" {
		t.Error(diff)
	}
}

// manager is a service manager that notes what it is told.
func manager(t *testing.T) func() []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	var mu sync.Mutex
	var list []string
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			mu.Lock()
			list = append(list, string(b[:n]))
			mu.Unlock()
		}
	}()
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(list)
	}
}

// A reload that waits for a plan gives way to the end of the daemon.
func TestTheEndComesBeforeAReload(t *testing.T) {
	if !inside(t) {
		return
	}
	veth(t, "veth0", "veth1", "192.0.2.11/24")
	slow := strings.Replace(instanceA, "vrid: 51", `vrid: 51, promote: [{vip: acquire}, {exec: {command: [/bin/sleep, "3000"]}}]`, 1)
	slow = strings.Replace(slow, "3000\"]}}", "3000\"]}, timeout: 3000s}", 1)
	r := newReloadRig(t, slow+instanceB)
	eventually(t, "the address", func() bool { return slices.Contains(held("veth0"), "192.0.2.100/24") })
	r.write(reloadHead + strings.Replace(slow, "101", "102", 1))
	r.hup()
	eventually(t, "the reload", func() bool { doc := r.status(); return doc.Reload != nil && doc.Reload.Result == reloadRunning })
	if err := r.daemon.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := r.daemon.end(t); code != exitOK || strings.Contains(r.daemon.stderr.String(), "removed b") {
		t.Errorf("exit status %d\n%s", code, r.daemon.stderr)
	}
	if diff := cmp.Diff([]string{"192.0.2.11/24"}, held("veth0")); diff != "" {
		t.Error(diff)
	}
}

// However often SIGHUP comes while nobody listens, one reload follows.
func TestReloadsCoalesce(t *testing.T) {
	leave, _, reload, stop := signals(testLogger(t))
	defer stop()
	send := func(s syscall.Signal) {
		if err := syscall.Kill(os.Getpid(), s); err != nil {
			t.Fatal(err)
		}
	}
	send(syscall.SIGHUP)
	eventually(t, "the first", func() bool { return len(reload) == 1 })
	for range 3 {
		send(syscall.SIGHUP)
	}
	send(syscall.SIGTERM) // taken up after those before
	eventually(t, "the end", func() bool { return leave.Err() != nil })
	<-reload
	if len(reload) > 0 {
		t.Error("a second reload follows")
	}
}
