package wire

import (
	"net"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/tanist-ha/tanist/vrrp/internal/netnstest"
)

// TestUnicastKeepsToItsInterface routes the peer's packets over another link.
// A path without an interface takes them, one with an interface does not.
func TestUnicastKeepsToItsInterface(t *testing.T) {
	const second = "heart1"
	nsA, nsB := dualHosts(t, second)
	for _, name := range []string{"all", heart, second} {
		nsA.Sysctl(t, "ipv4/conf/"+name+"/rp_filter", "0")
	}
	bound := open(t, nsA, Config{Local: addrA, Peer: addrB, Interface: heart})
	free := open(t, nsA, Config{Local: addrA, Peer: addrB})
	inBound, inFree := run(t, bound), run(t, free)
	detour := &netlink.Route{
		LinkIndex: nsB.Link(t, second).Attrs().Index,
		Dst:       &net.IPNet{IP: addrA.AsSlice(), Mask: net.CIDRMask(32, 32)},
	}
	if err := nsB.RouteAdd(detour); err != nil {
		t.Fatal(err)
	}
	b := open(t, nsB, Config{Local: addrB, Peer: addrA})
	send(t, b, message(1, "detour"))
	netnstest.Eventually(t, limit, "the packet that came by the other link", func() bool { return len(inFree.all()) == 1 })
	straight := open(t, nsB, Config{Local: addrB, Peer: addrA, Interface: heart})
	send(t, straight, message(1, "straight"))
	netnstest.Eventually(t, limit, "the packet of its own link", func() bool { return len(inBound.all()) > 0 })
	if got := payloads(inBound); len(got) != 1 || got[0] != message(1, "straight") {
		t.Errorf("delivered %q", got)
	}
}
