package wire

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/vrrp"
	"github.com/tanist-ha/tanist/vrrp/internal/netnstest"
)

const keepalivedConf = `
global_defs {
  vrrp_version 3
}
vrrp_instance interop {
  interface heart0
  state BACKUP
  virtual_router_id 51
  priority 100
  advert_int 0.1
  unicast_src_ip 192.0.2.12
  unicast_peer {
    192.0.2.11
  }
  virtual_ipaddress {
    192.0.2.100/24
  }
}
`

// keepalived runs on host b as a Backup, and returns a function that tells
// whether its log has a text.
func keepalived(t *testing.T, ns *netnstest.Namespace) (logged func(text string) bool) {
	t.Helper()
	dir := t.TempDir()
	conf, log := filepath.Join(dir, "keepalived.conf"), filepath.Join(dir, "log")
	if err := os.WriteFile(conf, []byte(keepalivedConf), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("keepalived", "--use-file", conf, "--dont-fork", "--log-console", "--vrrp",
		"--pid", filepath.Join(dir, "pid"), "--vrrp_pid", filepath.Join(dir, "vrrp.pid"))
	cmd.Stdout, cmd.Stderr = out, out
	if err := ns.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	logged = func(text string) bool {
		b, err := os.ReadFile(log)
		return err == nil && strings.Contains(string(b), text)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
		_ = cmd.Wait()                          // its status says nothing
		_ = out.Close()
		if t.Failed() {
			b, _ := os.ReadFile(log)
			t.Logf("keepalived's log:\n%s", b)
		}
	})
	return logged
}

// advertise sends adverts of the given form every 50 ms until done says so.
func advertise(t *testing.T, c *Conn, form vrrp.ChecksumForm, limit time.Duration, done func() bool) bool {
	t.Helper()
	adv := vrrp.Advertisement{
		VRID: 51, Priority: 200, MaxAdvertInterval: 10,
		Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.100")},
	}
	payload, err := adv.AppendTo(nil, c.Local(), c.Peer(), form)
	if err != nil {
		t.Fatal(err)
	}
	end := time.NewTimer(limit)
	defer end.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		send(t, c, string(payload))
		select {
		case <-end.C:
			return false
		case <-tick.C:
		}
	}
	return true
}

func needKeepalived(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("keepalived"); err != nil {
		t.Skip("needs keepalived to speak with (apt-get install keepalived)")
	}
}

// TestKeepalived lets our advertisements keep a keepalived Backup quiet, then
// falls silent and parses what it sends as the new Active, then takes over again.
func TestKeepalived(t *testing.T) {
	needKeepalived(t)
	nsA, nsB := hosts(t)
	a := listen(t, nsA, addrA, addrB)
	in := run(t, a)
	logged := keepalived(t, nsB)
	started := func() bool { return logged("Entering BACKUP STATE") }
	if !advertise(t, a, vrrp.ChecksumPseudoHeader, limit, started) {
		t.Fatal("keepalived did not start")
	}
	heard := func() bool { return len(in.all()) > 0 }
	if advertise(t, a, vrrp.ChecksumPseudoHeader, 2*time.Second, heard) { // 5 times its Active_Down_Interval
		t.Fatal("keepalived became Active against a stronger one")
	}
	netnstest.Eventually(t, limit, "keepalived to take over from a silent Active", heard)
	checkKeepalivedAdvert(t, in.all()[0])

	quiet := func() bool { return logged("Master received advert from 192.0.2.11 with higher priority") }
	if !advertise(t, a, vrrp.ChecksumPseudoHeader, limit, quiet) {
		t.Error("keepalived did not give way")
	}
}

// TestKeepalivedRefusesRFCChecksum shows why ChecksumRFC cannot be what a
// router beside keepalived 2.2.7 sends: it takes over against a stronger Active.
func TestKeepalivedRefusesRFCChecksum(t *testing.T) {
	needKeepalived(t)
	nsA, nsB := hosts(t)
	a := listen(t, nsA, addrA, addrB)
	in := run(t, a)
	logged := keepalived(t, nsB)
	refused := func() bool { return logged("Invalid VRRPv3 checksum") && len(in.all()) > 0 }
	if !advertise(t, a, vrrp.ChecksumRFC, limit, refused) {
		t.Error("keepalived accepts the RFC's checksum: ChecksumRFC may become the default towards it")
	}
}

func checkKeepalivedAdvert(t *testing.T, p Packet) {
	t.Helper()
	got, form, err := vrrp.Parse(p.Payload, p.Source, p.Destination)
	if err != nil || form != vrrp.ChecksumPseudoHeader {
		t.Fatalf("keepalived's advertisement %x: %v, %v", p.Payload, form, err)
	}
	want := vrrp.Advertisement{
		VRID: 51, Priority: 100, MaxAdvertInterval: 10,
		Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.100")},
	}
	if diff := cmp.Diff(fmt.Sprint(want), fmt.Sprint(got)); diff != "" {
		t.Errorf("keepalived's advertisement (-want +got):\n%s", diff)
	}
}
