// Package interop lets a whole daemon elect against Debian's keepalived on a
// segment of network namespaces, in every way that both can speak VRRP, and has
// what Tanist sends decoded by others.
package interop

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/test/sidebyside"
)

// parallel is how many segments there are at once: their hosts mostly wait.
const parallel = 4

func TestMain(m *testing.M) {
	sidebyside.AtMost(parallel)
	var err error
	if built.dir, err = os.MkdirTemp("", "tanist-interop-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(built.dir)
	os.Exit(code)
}

var built struct {
	dir  string
	once sync.Once
	err  error
}

// binary builds the daemon once and returns its path.
func binary(t *attempt) string {
	built.once.Do(func() {
		cmd := exec.Command("go", "build", "-o", filepath.Join(built.dir, "tanist"), "github.com/tanist-ha/tanist/cmd/tanist")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = errors.Join(err, errors.New(string(out)))
		}
	})
	if built.err != nil {
		t.Fatalf("build tanist: %v", built.err)
	}
	return filepath.Join(built.dir, "tanist")
}

// way is one way to speak VRRP.
type way struct {
	name      string
	version   int
	multicast bool
	interval  time.Duration
	a, b      netip.Addr // that the packets of the hosts come from
	vips      []netip.Prefix
}

func ways() []way {
	four := []netip.Prefix{netip.MustParsePrefix("192.0.2.100/24"), netip.MustParsePrefix("192.0.2.101/24")}
	six := []netip.Prefix{netip.MustParsePrefix("fe80::100/64"), netip.MustParsePrefix("2001:db8::100/64")}
	a4, b4 := netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("192.0.2.12")
	a6, b6 := netip.MustParseAddr("2001:db8::11"), netip.MustParseAddr("2001:db8::12")
	linkA, linkB := netip.MustParseAddr("fe80::11"), netip.MustParseAddr("fe80::12")
	const often = 250 * time.Millisecond // the default
	return []way{
		{"v2-ipv4-unicast", 2, false, time.Second, a4, b4, four},
		{"v2-ipv4-multicast", 2, true, time.Second, a4, b4, four},
		{"v3-ipv4-unicast", 3, false, often, a4, b4, four},
		{"v3-ipv4-multicast", 3, true, often, a4, b4, four},
		{"v3-ipv6-unicast", 3, false, often, a6, b6, six},
		{"v3-ipv6-multicast", 3, true, often, linkA, linkB, six},
	}
}

func (w way) nodeA() netip.Addr { return w.node("11") }
func (w way) nodeB() netip.Addr { return w.node("12") }

// node is a host's address in the configuration: on the group of IPv6 packets
// come from another.
func (w way) node(host string) netip.Addr {
	if w.vips[0].Addr().Is4() {
		return netip.MustParseAddr("192.0.2." + host)
	}
	return netip.MustParseAddr("2001:db8::" + host)
}

// pair is tanist on host a and keepalived on host b.
type pair struct {
	segment
	t          *attempt
	way        way
	tanist     *tanist
	keepalived *keepalived
	sent       *capture
}

// beside are the keys of a heartbeat that speaks with keepalived 2.2.7: in version
// 3 over IPv4 that insists on a checksum of its own, also before it was heard.
func (w way) beside() string {
	if w.version == 3 && w.a.Is4() {
		return "auth: none, checksum: keepalived"
	}
	return "auth: none"
}

// newPair configures both and starts none: keepalived with a priority and more
// lines of its own.
func newPair(t *attempt, w way, conf string, theirs int, more string) *pair {
	s := newSegment(t)
	p := &pair{
		segment: s, t: t, way: w,
		tanist: newTanist(t, s.a), keepalived: newKeepalived(t, s.b, w, theirs, more), sent: newCapture(t, s),
	}
	p.tanist.configure(conf)
	return p
}

// holds waits until one host has every address and the other none, and until the
// client knows and is answered.
func (p *pair) holds(what string, holder, other *space) {
	began := time.Now()
	eventually(p.t, what, func() bool {
		return len(holder.has(p.way.vips)) == len(p.way.vips) && len(other.has(p.way.vips)) == 0
	})
	held := time.Since(began)
	last := p.way.vips[len(p.way.vips)-1].Addr()
	if p.known(last) {
		eventually(p.t, what+" and the client to be told", func() bool { return p.believes(p.t, last, holder) })
	}
	var err error
	eventually(p.t, what+" and the client to be answered", func() bool {
		err = p.reach(last)
		return err == nil
	})
	if !p.believes(p.t, last, holder) {
		p.t.Errorf("%s: the client is answered by another", what)
	}
	p.t.Logf("%s: held after %s, answered after %s", what, held.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
}

// known reports whether the client has asked for an address before.
func (p *pair) known(a netip.Addr) bool { return p.believes(p.t, a, p.a) || p.believes(p.t, a, p.b) }

func (p *pair) oursHolds(what string)   { p.holds(what, p.a, p.b) }
func (p *pair) theirsHolds(what string) { p.holds(what, p.b, p.a) }

// stays watches that it remains so for longer than an Active may be silent.
func (p *pair) stays(what string, holder, other *space) {
	stays(p.t, what, 5*p.way.interval, func() bool {
		return len(holder.has(p.way.vips)) == len(p.way.vips) && len(other.has(p.way.vips)) == 0
	})
}

// goodbyes compares how many keepalived has heard.
func (p *pair) goodbyes(n int) {
	if got := p.keepalived.said(heardGoodbye); got != n {
		p.t.Errorf("keepalived heard %d goodbyes, want %d", got, n)
	}
}
