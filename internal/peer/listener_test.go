package peer

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// inOwnNetwork runs the test on a thread with a network of its own, whose loopback
// interface has the addresses.
func inOwnNetwork(t *testing.T, addresses ...netip.Addr) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network namespace")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	for _, a := range addresses {
		if err == nil && a.Is6() {
			var at *netlink.Addr
			if at, err = netlink.ParseAddr(a.String() + "/128"); err == nil {
				at.Flags = unix.IFA_F_NODAD
				err = netlink.AddrAdd(lo, at)
			}
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		eventually(t, a.String()+" is this host's", func() bool {
			routes, err := netlink.RouteGet(a.AsSlice())
			return err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL
		})
	}
}

// TestAdmission asks the kernel's filter, in both families, in both of its forms.
func TestAdmission(t *testing.T) {
	for _, family := range []struct {
		name                string
		local, peer, others netip.Addr
	}{
		{"IPv4", netip.MustParseAddr("127.9.0.1"), netip.MustParseAddr("127.9.0.2"), netip.MustParseAddr("127.9.0.3")},
		{"IPv6", netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2"), netip.MustParseAddr("fd00:0:0:1::2")},
	} {
		t.Run(family.name, func(t *testing.T) {
			inOwnNetwork(t, family.local, family.peer, family.others)
			l, err := New(Config{Node: "primary", Peer: "reserve", Port: port, Paths: []Path{{Local: family.local, Peer: family.peer}}})
			if err != nil {
				t.Fatal(err)
			}
			p := l.paths[0]
			ln, err := p.bind(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			if !ln.filtered {
				t.Fatal("the kernel took no filter")
			}
			p.listens(ln)
			for _, tt := range []struct {
				name    string
				shut    bool
				from    netip.AddrPort
				dropped bool
			}{
				{"the peer", false, netip.AddrPortFrom(family.peer, 0), false},
				{"the peer's reserved port", false, netip.AddrPortFrom(family.peer, 1001), false},
				{"a stranger", false, netip.AddrPortFrom(family.others, 0), true},
				{"a stranger's reserved port", false, netip.AddrPortFrom(family.others, 1001), true},
				{"the peer in a flood", true, netip.AddrPortFrom(family.peer, 0), true},
				{"the peer's first ordinary port in a flood", true, netip.AddrPortFrom(family.peer, unreserved), true},
				{"the peer's last reserved port in a flood", true, netip.AddrPortFrom(family.peer, unreserved-1), false},
				{"a stranger in a flood", true, netip.AddrPortFrom(family.others, 1002), true},
				{"the peer behind the flood", false, netip.AddrPortFrom(family.peer, 0), false},
			} {
				ln.shutOut(tt.shut)
				was := l.Refusals()
				knockAt(t, tt.from, netip.AddrPortFrom(family.local, port))
				if !tt.dropped {
					if err := ln.SetDeadline(time.Now().Add(limit)); err != nil {
						t.Fatal(err)
					}
					conn, err := ln.AcceptTCP()
					if err != nil {
						t.Fatalf("%s: %v", tt.name, err)
					}
					if reason := ln.judge(conn, time.Now()); reason != 0 {
						t.Errorf("%s: %v", tt.name, reason)
					}
					_ = conn.Close()
					continue
				}
				eventually(t, tt.name+" is counted", func() bool { return l.Refusals()[ReasonDropped] > was[ReasonDropped] })
				if err := ln.SetDeadline(time.Now().Add(-time.Second)); err != nil {
					t.Fatal(err)
				}
				if _, err := ln.AcceptTCP(); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%s: accepted, or %v", tt.name, err)
				}
			}
		})
	}
}

func TestBucket(t *testing.T) {
	var b bucket
	now := time.Unix(1000, 0)
	took := func(tries int) (n int) {
		for range tries {
			if b.take(now) {
				n++
			}
		}
		return n
	}
	if n := took(2 * lookedAtOnce); n != lookedAtOnce {
		t.Errorf("at once it gives %d", n)
	}
	now = now.Add(time.Second)
	if n := took(2 * lookedAtOnce); n != lookedAt {
		t.Errorf("a second later it gives %d", n)
	}
	now = now.Add(time.Hour)
	if n := took(2 * lookedAtOnce); n != lookedAtOnce {
		t.Errorf("an hour later it gives %d", n)
	}
	now = now.Add(-time.Minute)
	if n := took(10); n != 0 {
		t.Errorf("when the clock goes back it gives %d", n)
	}
}

// TestWhoIsThrownOutTriesAReservedPort, and then an ordinary one again.
func TestWhoIsThrownOutTriesAReservedPort(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for a reserved port")
	}
	me, peer := loopback(), loopback()
	ports := make(chan uint16, 16)
	listenAs(t, peer, func(conn net.Conn) { // and throws out
		if from, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
			select {
			case ports <- uint16(from.Port):
			default:
			}
		}
	})
	start(t, "primary", "reserve", []Path{{Local: me, Peer: peer}})
	for i := range 6 {
		select {
		case from := <-ports:
			if reserved := from < unreserved; reserved != (i%2 == 1) {
				t.Errorf("attempt %d comes from port %d", i, from)
			}
		case <-time.After(limit):
			t.Fatalf("no attempt %d", i)
		}
	}
}
