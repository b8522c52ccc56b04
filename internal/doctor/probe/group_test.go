package probe

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/vrrp"
	"github.com/tanist-ha/tanist/vrrp/auth"
	"github.com/tanist-ha/tanist/vrrp/wire"
)

const insideMark = "TANIST_TEST_NETWORK"

// inside reports whether this is the process in a network namespace of its own, where
// near and far are joined by a cable. Outside it runs that process.
func inside(t *testing.T) bool {
	t.Helper()
	needRoot(t)
	if os.Getenv(insideMark) == t.Name() {
		cable(t)
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), insideMark+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("in its own network: %v\n%s", err, out)
	}
	return false
}

// cable makes the two ends, which take packets from the host's own addresses as if the
// other were another host.
func cable(t *testing.T) {
	t.Helper()
	for _, kind := range []string{"all", "default"} {
		for name, value := range map[string]string{"ipv4/conf/" + kind + "/rp_filter": "0", "ipv4/conf/" + kind + "/accept_local": "1", "ipv6/conf/" + kind + "/addr_gen_mode": "1"} {
			if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "near"}, PeerName: "far"})
	if err != nil {
		t.Fatal(err)
	}
	for name, prefixes := range map[string][]string{"lo": nil, "near": {"192.0.2.11/24", "fe80::11/64"}, "far": {"192.0.2.12/24", "fe80::12/64"}} {
		l, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
		for _, p := range prefixes {
			a, err := netlink.ParseAddr(p)
			if err != nil {
				t.Fatal(err)
			}
			a.Flags |= unix.IFA_F_NODAD
			if err := netlink.AddrAdd(l, a); err != nil && !errors.Is(err, unix.EEXIST) {
				t.Fatal(err)
			}
		}
	}
}

func onGroup(iface, local, peer string) Path {
	p := Path{Interface: iface, Local: netip.MustParseAddr(local)}
	if peer != "" {
		p.Peer = netip.MustParseAddr(peer)
	}
	return p
}

func nft(t *testing.T, command string) {
	t.Helper()
	if out, err := exec.Command("nft", command).CombinedOutput(); err != nil {
		t.Fatalf("nft %s: %v\n%s", command, err, out)
	}
}

// Both ends hear each other on the group, also the one that learns only later who the
// other is; what is cut one way is lost one way.
func TestGroup(t *testing.T) {
	if !inside(t) {
		return
	}
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs nft")
	}
	all := Heard{Sent: Count, Heard: Count}
	for _, tt := range []struct {
		name, near, far string
		cut             string // what far drops
		keys            []auth.Key
		wantNear        Heard
		wantFar         Heard
	}{
		{name: "IPv4", near: "192.0.2.11", far: "192.0.2.12", keys: key(t, "a"), wantNear: all, wantFar: all},
		{name: "IPv6", near: "fe80::11", far: "fe80::12", keys: key(t, "a"), wantNear: all, wantFar: all},
		{name: "without a key", near: "192.0.2.11", far: "192.0.2.12", wantNear: all, wantFar: all},
		{name: "IPv4 cut", near: "192.0.2.11", far: "192.0.2.12", cut: "ip daddr 224.0.0.18", keys: key(t, "a"), wantNear: all, wantFar: Heard{Sent: Count}},
		{name: "IPv6 cut", near: "fe80::11", far: "fe80::12", cut: "ip6 daddr ff02::12", keys: key(t, "a"), wantNear: all, wantFar: Heard{Sent: Count}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.cut != "" {
				nft(t, "add table inet cut; add chain inet cut in { type filter hook input priority 0; }; add rule inet cut in iifname far "+tt.cut+" drop")
				defer nft(t, "delete table inet cut")
			}
			far, err := Open(Config{Token: 7, Paths: []Path{onGroup("far", tt.far, tt.near)}, Keys: tt.keys})
			if err != nil {
				t.Fatal(err)
			}
			defer far.Close()
			near, err := Open(Config{Token: 7, Paths: []Path{onGroup("near", tt.near, "")}, Keys: tt.keys})
			if err != nil {
				t.Fatal(err)
			}
			defer near.Close()
			if err := errors.Join(near.Send(t.Context()), far.Send(t.Context())); err != nil {
				t.Fatal(err)
			}
			if got := near.Heard()[0]; got != (Heard{}) {
				t.Errorf("the peer is not known yet: %+v", got)
			}
			near.Expect(0, netip.MustParseAddr(tt.far))
			if err := near.Send(t.Context()); err != nil {
				t.Fatal(err)
			}
			for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
				if near.Heard()[0] == tt.wantNear && far.Heard()[0] == tt.wantFar {
					return
				}
			}
			t.Error(cmp.Diff([]Heard{tt.wantNear, tt.wantFar}, append(near.Heard(), far.Heard()...), cmpopts.EquateErrors()))
		})
	}
}

// Strangers on a group that repeat the token fill no memory, and take no place from the
// peer, who proves itself.
func TestGroupOfStrangers(t *testing.T) {
	if !inside(t) {
		return
	}
	x, err := Open(Config{Token: 7, Paths: []Path{onGroup("near", "192.0.2.11", "")}, Keys: key(t, "a")})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	l, err := netlink.LinkByName("far")
	if err != nil {
		t.Fatal(err)
	}
	group := vrrp.Group(netip.MustParseAddr("192.0.2.1"))
	for host := byte(100); host < 100+2*mostSources; host++ {
		a := netip.AddrFrom4([4]byte{192, 0, 2, host})
		n, err := netlink.ParseAddr(a.String() + "/24")
		if err == nil {
			err = netlink.AddrAdd(l, n)
		}
		if err != nil {
			t.Fatal(err)
		}
		c, err := wire.Listen(wire.Config{Interface: "far", Local: a, Peer: group})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(c.Send(vrrp.AppendProbe(nil, 7, a, group)), c.Close()); err != nil {
			t.Fatal(err)
		}
	}
	sources := func() int {
		e := x.ends[0]
		e.mu.Lock()
		defer e.mu.Unlock()
		return len(e.came)
	}
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end) && sources() < mostSources; {
		time.Sleep(time.Millisecond)
	}
	far, err := Open(Config{Token: 7, Paths: []Path{onGroup("far", "192.0.2.12", "192.0.2.11")}, Keys: key(t, "a")})
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	if err := far.Send(t.Context()); err != nil {
		t.Fatal(err)
	}
	x.Expect(0, netip.MustParseAddr("192.0.2.12"))
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end) && x.Heard()[0].Heard < Count; {
		time.Sleep(time.Millisecond)
	}
	if got := x.Heard()[0]; got != (Heard{Heard: Count}) || sources() != mostSources {
		t.Errorf("%+v of the peer, and %d sources, want %d", got, sources(), mostSources)
	}
}
