package main

import (
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/tanist-ha/tanist/internal/control"
)

func setLink(t *testing.T, name string, set func(netlink.Link) error) {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err == nil {
		err = set(l)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What somebody else does to the interface and the addresses of a whole daemon.
func TestInterfaces(t *testing.T) {
	if !inside(t) {
		return
	}
	for _, name := range []string{"default", "all"} { // of what comes
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/accept_dad", []byte("0"), 0); err != nil {
			t.Fatal(err)
		}
	}
	const both = "  - {name: a, interface: veth0, vrid: 51, vips: [192.0.2.100/24, \"2001:db8::100/64\"], lease: 3s, heartbeat: {advert_interval: 1s}}\n"
	r := newReloadRig(t, both)
	instance := func() control.Instance { return instanceOf(r.status(), "a") }
	is := func(state, reason string) func() bool {
		return func() bool {
			doc, err := r.client.Status(t.Context())
			return err == nil && instanceOf(doc, "a").State == state && (reason == "" || instanceOf(doc, "a").Reason == reason)
		}
	}
	hasBoth := func() bool {
		in := instance()
		return in.VIPs[0].Held && in.VIPs[1].Held
	}
	t.Run("missing-at-start", func(t *testing.T) {
		eventually(t, "the fault", is("fault", "link_down"))
		if d := instance().Detail; d != "veth0 is missing" {
			t.Errorf("it says %q", d)
		}
		veth(t, "veth0", "veth1", "192.0.2.11/24")
		r.active("a")
		eventually(t, "both addresses", hasBoth)
	})
	t.Run("taken-off", func(t *testing.T) {
		for i, p := range []string{"192.0.2.100/24", "2001:db8::100/64"} {
			delAddress(t, "veth0", p)
			eventually(t, p, func() bool {
				return hasBoth() && instance().Restored != nil && instance().Restored.Count == uint64(i)+1
			})
			if got := instance().Restored.Address; got != p {
				t.Errorf("it says %s", got)
			}
		}
		if in := instance(); in.State != "active" || in.Epoch != 1 {
			t.Errorf("%s in epoch %d", in.State, in.Epoch)
		}
	})
	t.Run("made-permanent", func(t *testing.T) {
		withAddress(t, "veth0", "192.0.2.100/24", netlink.AddrReplace)
		eventually(t, "a lease again", func() bool { return lifetime(t, "veth0", "192.0.2.100/24") < 10 })
	})
	t.Run("carrier-lost-and-back", func(t *testing.T) {
		setLink(t, "veth1", netlink.LinkSetDown)
		eventually(t, "the fault", is("fault", "link_down"))
		if d := instance().Detail; d != "veth0 is down: no carrier" {
			t.Errorf("it says %q", d)
		}
		if held := held("veth0"); slices.Contains(held, "192.0.2.100/24") {
			t.Errorf("still there: %v", held)
		}
		setLink(t, "veth1", netlink.LinkSetUp)
		r.active("a")
		eventually(t, "both addresses", hasBoth)
	})
	t.Run("created-anew", func(t *testing.T) {
		setLink(t, "veth0", netlink.LinkDel)
		eventually(t, "the fault", is("fault", "link_down"))
		veth(t, "veth0", "veth1", "192.0.2.11/24")
		r.active("a")
		eventually(t, "both addresses", hasBoth)
	})
	if err := r.daemon.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := r.daemon.end(t); code != exitOK {
		t.Errorf("exit status %d\n%s", code, r.daemon.stderr)
	}
}

// lifetime is how long the kernel keeps an address.
func lifetime(t *testing.T, link, prefix string) int {
	t.Helper()
	l, err := netlink.LinkByName(link)
	if err != nil {
		t.Fatal(err)
	}
	list, err := netlink.AddrList(l, netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		if a.IPNet.String() == prefix {
			return a.ValidLft
		}
	}
	return int(time.Hour / time.Second)
}
