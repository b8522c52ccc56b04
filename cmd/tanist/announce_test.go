package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/internal/control"
)

func (f *fake) Announce(context.Context, control.AnnounceRequest) ([]control.Announced, error) {
	return f.announced, f.refusal
}

// neighbour counts what is announced on the other end of a wire.
type neighbour struct {
	mu    sync.Mutex // guards count
	count map[string]int
}

func hear(t *testing.T, link string) *neighbour {
	t.Helper()
	ifi, err := net.InterfaceByName(link)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	n := &neighbour{count: map[string]int{}}
	go func() {
		b := make([]byte, 2048)
		for {
			size, _, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			if what := announced(b[:size]); what != "" {
				n.mu.Lock()
				n.count[what]++
				n.mu.Unlock()
			}
		}
	}()
	return n
}

// announced names a frame that tells of an address: its form and the address.
func announced(f []byte) string {
	switch {
	case len(f) >= 42 && f[12] == 0x08 && f[13] == 0x06: // ARP; sender and target are the same
		sender, target := netip.AddrFrom4([4]byte(f[28:32])), netip.AddrFrom4([4]byte(f[38:42]))
		if sender == target {
			return map[byte]string{1: "request ", 2: "reply "}[f[21]] + sender.String()
		}
	case len(f) >= 78 && f[12] == 0x86 && f[13] == 0xdd && f[20] == unix.IPPROTO_ICMPV6 && f[54] == 136:
		return "advertisement " + netip.AddrFrom16([16]byte(f[62:78])).String()
	}
	return ""
}

// heard returns how often an announcement came.
func (n *neighbour) heard(what string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.count[what]
}

// The neighbour hears the takeover and then, as often again, what the command says.
// An instance that is not held is refused, and an unknown one; the journal tells of it.
func TestAnnounceReachesTheWire(t *testing.T) {
	if !inside(t) {
		return
	}
	veth(t, "veth0", "veth1", "192.0.2.11/24")
	addAddress(t, "veth0", "2001:db8::11/64")
	r, args := prepareReloadRig(t, "primary",
		"  - {name: a, interface: veth0, vrid: 51, vips: [192.0.2.100/24, '2001:db8::100/64'], lease: 3s, garp: {repeat: 3, delay: 0s, refresh: 0s}}\n"+
			"  - {name: b, interface: veth9, vrid: 52, vips: [198.51.100.1/24]}\n")
	n := hear(t, "veth1")
	r.daemon = startTanist(t, args...)
	with := func(words ...string) []string { return append(words, args[1:]...) }
	heard := func(times int) {
		t.Helper()
		forms := []string{"request 192.0.2.100", "reply 192.0.2.100", "advertisement 2001:db8::100"}
		eventually(t, "the announcements", func() bool {
			return !slices.ContainsFunc(forms, func(f string) bool { return n.heard(f) < times })
		})
		for _, f := range forms {
			if got := n.heard(f); got != times {
				t.Errorf("heard %s %d times, want %d", f, got, times)
			}
		}
	}
	eventually(t, "the role", func() bool { return tanist(t, with("check-master", "--instance", "a")...).code == masterActive })
	heard(3) // the takeover
	got := tanist(t, with("announce", "--json")...)
	var list []control.Announced
	if err := json.Unmarshal([]byte(got.stdout), &list); err != nil || got.code != exitOK || len(list) != 2 {
		t.Fatalf("%v: %+v", err, got)
	}
	want := control.Announced{Instance: "a", Interface: "veth0", VIPs: []string{"192.0.2.100/24", "2001:db8::100/64"}, Times: 3}
	if diff := cmp.Diff(want, list[0]); diff != "" {
		t.Error(diff)
	}
	if list[1].Times != 0 || !strings.Contains(list[1].Refused, "does not hold the address") || !strings.Contains(list[1].Refused, "fault") {
		t.Errorf("on an interface that is missing: %+v", list[1])
	}
	heard(6)
	one := tanist(t, with("announce", "--instance", "a")...)
	if one.code != exitOK || one.stdout != "a: announced 192.0.2.100/24, 2001:db8::100/64 on veth0 3 times\n" || one.stderr != "" {
		t.Errorf("%+v", one)
	}
	heard(9)
	for instance, why := range map[string]string{"b": "does not hold the address", "c": "no instance is called"} {
		if got := tanist(t, with("announce", "--instance", instance)...); got.code != exitProblem || got.stdout != "" || !strings.Contains(got.stderr, why) {
			t.Errorf("%s: %+v", instance, got)
		}
	}
	history := tanist(t, with("history")...).stdout
	if c := strings.Count(history, "announce"); c < 2 {
		t.Errorf("the journal has it %d times: %s", c, history)
	}
	if err := r.daemon.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := r.daemon.end(t); code != exitOK {
		t.Errorf("exit status %d\n%s", code, r.daemon.stderr)
	}
	if got := tanist(t, with("announce")...); got.code != exitProblem || !strings.Contains(got.stderr, "start the daemon") {
		t.Errorf("without a daemon: %+v", got)
	}
}

func TestAnnounceRefused(t *testing.T) {
	f := serve(t, "backup", false)
	f.refusal = errors.New("no instance is called so")
	if got := tanist(t, "announce", "--socket", f.socket); got.code != exitProblem || !strings.Contains(got.stderr, "no instance is called so") {
		t.Errorf("%+v", got)
	}
	f.refusal, f.announced = nil, []control.Announced{{Instance: "a", Interface: "eth0", VIPs: []string{"192.0.2.100/24"}, Times: 1}}
	got := tanist(t, "announce", "--socket", f.socket)
	if want := (ran{0, "a: announced 192.0.2.100/24 on eth0 once\n", ""}); got != want {
		t.Errorf("%+v", got)
	}
}
