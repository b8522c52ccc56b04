package vip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/vrrp/internal/netnstest"
)

// story is what a running Watcher reported, in order.
type story struct {
	changes chan Change
	ended   chan error
}

func openWatcher(t testing.TB, table *Table, ns *netnstest.Namespace) *Watcher {
	t.Helper()
	var w *Watcher
	err := ns.Do(func() (err error) {
		w, err = table.NewWatcher()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// watch runs w until the test ends.
func watch(t testing.TB, w *Watcher) *story {
	t.Helper()
	return watchWith(t, w, func(Change) {})
}

// watchWith calls also after each change.
func watchWith(t testing.TB, w *Watcher, also func(Change)) *story {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &story{changes: make(chan Change, 1<<16), ended: make(chan error, 1)}
	go func() { s.ended <- w.Run(ctx, func(c Change) { s.changes <- c; also(c) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-s.ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

// next waits for one change of the Holder.
func (s *story) next(t testing.TB, h *Holder) Change {
	t.Helper()
	timeout := time.After(limit)
	for {
		select {
		case c := <-s.changes:
			if c.Holder == h {
				return c
			}
		case err := <-s.ended:
			s.ended <- err
			t.Fatalf("Run ended: %v", err)
		case <-timeout:
			t.Fatal("no change")
		}
	}
}

// expect requires exactly these changes next. Their Holder is h.
func (s *story) expect(t testing.TB, h *Holder, what string, want ...Change) {
	t.Helper()
	var got []Change
	for i := range want {
		want[i].Holder = h
		got = append(got, s.next(t, h))
	}
	if diff := cmp.Diff(want, got, cmpNetip, cmp.Comparer(func(a, b *Holder) bool { return a == b })); diff != "" {
		t.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}

// until waits for one change and passes over others.
func (s *story) until(t testing.TB, h *Holder, want Change) {
	t.Helper()
	want.Holder = h
	for c := s.next(t, h); c != want; {
		c = s.next(t, h)
	}
}

func about(kind ChangeKind, p string) Change {
	return Change{Kind: kind, Prefix: netip.MustParsePrefix(p)}
}

func index(t *testing.T, ns *netnstest.Namespace) int { return ns.Link(t, nic).Attrs().Index }

func ip(t testing.TB, ns *netnstest.Namespace, args ...string) {
	t.Helper()
	path, err := exec.LookPath("ip")
	if err != nil {
		t.Skip("needs iproute2")
	}
	err = ns.Do(func() error {
		out, err := exec.Command(path, args...).CombinedOutput()
		if err != nil {
			return errors.Join(err, errors.New(string(out)))
		}
		return nil
	})
	if err != nil {
		t.Fatalf("ip %v: %v", args, err)
	}
}

const (
	watched4 = "192.0.2.100/24"
	watched6 = "2001:db8::100/64"
)

// watching is a host whose Holder of two addresses is watched and whose present
// state was reported.
func watching(t *testing.T) (ns, peer *netnstest.Namespace, h *Holder, s *story) {
	t.Helper()
	ns, peer = host(t)
	table := openTable(t, ns)
	h = table.mustOpen(t, Config{Addresses: prefixes(watched4, watched6)})
	netnstest.Eventually(t, limit, "the carrier to come", func() bool {
		return ns.Link(t, nic).Attrs().RawFlags&unix.IFF_RUNNING != 0
	})
	w := openWatcher(t, table, ns)
	w.Add(h)
	s = watch(t, w)
	s.until(t, h, about(AddressGone, watched6))
	for len(s.changes) > 0 {
		<-s.changes
	}
	return ns, peer, h, s
}

func TestWatchReportsPresentState(t *testing.T) {
	ns, peer := host(t)
	table := openTable(t, ns)
	h := table.mustOpen(t, Config{Addresses: prefixes(watched4, watched6, "192.0.2.101/32")})
	absent := table.mustOpen(t, Config{Interface: "absent0", Addresses: prefixes("192.0.2.102/24")})
	hold(t, h, time.Minute)
	ns.AddAddr(t, nic, "192.0.2.101/24") // without a lease, with another prefix length
	peer.Down(t, nic)
	netnstest.Eventually(t, limit, "the carrier to go", func() bool {
		return ns.Link(t, nic).Attrs().RawFlags&unix.IFF_RUNNING == 0
	})
	w := openWatcher(t, table, ns)
	w.Add(h)
	s := watch(t, w)
	s.expect(t, h, "at start",
		Change{Kind: InterfacePresent, Index: index(t, ns)}, Change{Kind: LinkDown, Down: NoCarrier},
		about(AddressPresent, watched4), about(AddressPresent, watched6), about(AddressPermanent, "192.0.2.101/32"))
	w.Add(absent)
	s.expect(t, absent, "added at run time", Change{Kind: InterfaceMissing}, about(AddressGone, "192.0.2.102/24"))
	w.Add(h)
	s.expect(t, h, "added again",
		Change{Kind: InterfacePresent, Index: index(t, ns)}, Change{Kind: LinkDown, Down: NoCarrier},
		about(AddressPresent, watched4), about(AddressPresent, watched6), about(AddressPermanent, "192.0.2.101/32"))
	w.Remove(h)
	w.Add(absent) // a fence: its report comes from after the removal
	s.expect(t, absent, "added again", Change{Kind: InterfaceMissing}, about(AddressGone, "192.0.2.102/24"))
	if err := h.Release(); err != nil {
		t.Fatal(err)
	}
	netnstest.Connect(t, ns, netnstest.New(t), "absent0")
	for {
		c := <-s.changes
		if c.Holder == h {
			t.Fatalf("%v of a Holder that was removed", c)
		}
		if c.Kind == LinkUp {
			return
		}
	}
}

// TestWatchAddressDeletedByHand is what `ip addr del` on a held address does.
func TestWatchAddressDeletedByHand(t *testing.T) {
	ns, _, h, s := watching(t)
	hold(t, h, time.Minute)
	s.expect(t, h, "held", about(AddressPresent, watched4), about(AddressPresent, watched6))
	began := time.Now()
	ip(t, ns, "addr", "del", watched4, "dev", nic)
	s.expect(t, h, "deleted", about(AddressGone, watched4))
	t.Logf("reported within %v, the run of ip included", time.Since(began))
	ip(t, ns, "-6", "addr", "del", watched6, "dev", nic)
	s.expect(t, h, "deleted", about(AddressGone, watched6))
	hold(t, h, time.Minute)
	s.expect(t, h, "renewed", about(AddressPresent, watched4), about(AddressPresent, watched6))
	ip(t, ns, "addr", "flush", "dev", nic)
	s.until(t, h, about(AddressGone, watched4))
}

func TestWatchLeaseRunsOut(t *testing.T) {
	_, _, h, s := watching(t)
	hold(t, h, time.Second)
	s.expect(t, h, "held", about(AddressPresent, watched4), about(AddressPresent, watched6))
	var gone []Change
	for range 2 {
		gone = append(gone, s.next(t, h))
	}
	slices.SortFunc(gone, func(a, b Change) int { return a.Prefix.Compare(b.Prefix) })
	for i, p := range []string{watched4, watched6} {
		want := about(AddressGone, p)
		want.Holder = h
		if gone[i] != want {
			t.Errorf("%v, want %v", gone[i], want)
		}
	}
}

// TestWatchSaysNothingOfRenewals, nor of what is not watched.
func TestWatchSaysNothingOfRenewals(t *testing.T) {
	ns, _, h, s := watching(t)
	hold(t, h, time.Minute)
	s.expect(t, h, "held", about(AddressPresent, watched4), about(AddressPresent, watched6))
	for range 5 {
		hold(t, h, time.Minute)
		ip(t, ns, "addr", "add", "192.0.2.7/24", "dev", nic)
		ip(t, ns, "addr", "del", "192.0.2.7/24", "dev", nic)
		ip(t, ns, "link", "set", "lo", "down")
		ip(t, ns, "link", "set", "lo", "up")
	}
	if err := h.Release(); err != nil {
		t.Fatal(err)
	}
	s.expect(t, h, "released", about(AddressGone, watched4), about(AddressGone, watched6))
}

func TestWatchPermanent(t *testing.T) {
	ns, _, h, s := watching(t)
	hold(t, h, time.Minute)
	s.expect(t, h, "held", about(AddressPresent, watched4), about(AddressPresent, watched6))
	ip(t, ns, "addr", "replace", watched4, "dev", nic)
	s.expect(t, h, "made permanent", about(AddressPermanent, watched4))
	hold(t, h, time.Minute)
	s.expect(t, h, "renewed", about(AddressPresent, watched4))
	ip(t, ns, "addr", "add", "192.0.2.100/32", "dev", nic)
	s.expect(t, h, "another prefix length", about(AddressPermanent, watched4))
	if _, _, err := h.Held(); !errors.Is(err, ErrPermanent) {
		t.Errorf("held: %v, want %v", err, ErrPermanent)
	}
	hold(t, h, time.Minute)
	s.expect(t, h, "renewed", about(AddressPresent, watched4))
	ip(t, ns, "-6", "addr", "replace", watched6, "dev", nic)
	s.expect(t, h, "IPv6 made permanent", about(AddressPermanent, watched6))
	hold(t, h, time.Minute)
	s.expect(t, h, "renewed", about(AddressPresent, watched6))
}

// TestWatchDuplicate: the neighbour has the address that somebody puts here.
func TestWatchDuplicate(t *testing.T) {
	ns, peer, h, s := watching(t)
	addPermanent(t, peer, watched6)
	ns.AddAddr(t, nic, watched6)
	s.until(t, h, about(AddressDuplicate, watched6))
	// Whoever decides to hold it after all gets one that works.
	if _, ok, err := h.Held(); ok || !errors.Is(err, ErrPermanent) {
		t.Errorf("held %v, %v; want %v", ok, err, ErrPermanent)
	}
	hold(t, h, time.Minute)
	s.until(t, h, about(AddressPresent, watched6))
	if _, ok := held(t, h); !ok {
		t.Error("not held")
	}
	a, _ := find(t, ns, h.cfg.Addresses[1])
	if a.Flags&(unix.IFA_F_DADFAILED|unix.IFA_F_TENTATIVE) != 0 {
		t.Errorf("flags %#x: the kernel does not use it", a.Flags)
	}
}

func TestWatchLink(t *testing.T) {
	ns, peer, h, s := watching(t)
	hold(t, h, time.Minute)
	s.expect(t, h, "held", about(AddressPresent, watched4), about(AddressPresent, watched6))
	peer.Down(t, nic)
	s.expect(t, h, "carrier lost", Change{Kind: LinkDown, Down: NoCarrier})
	peer.Up(t, nic)
	s.expect(t, h, "carrier back", Change{Kind: LinkUp})
	ns.Down(t, nic)
	s.until(t, h, Change{Kind: LinkDown, Down: AdminDown})
	ns.Up(t, nic)
	s.until(t, h, Change{Kind: LinkUp})
	hold(t, h, time.Minute)
	s.expect(t, h, "IPv6 went with the link", about(AddressPresent, watched6))
}

func TestWatchInterfaceComesAndGoes(t *testing.T) {
	ns, _, h, s := watching(t)
	hold(t, h, time.Minute)
	s.expect(t, h, "held", about(AddressPresent, watched4), about(AddressPresent, watched6))
	first := index(t, ns)
	if err := ns.LinkDel(ns.Link(t, nic)); err != nil {
		t.Fatal(err)
	}
	s.until(t, h, Change{Kind: InterfaceMissing})
	netnstest.Connect(t, ns, netnstest.New(t), nic)
	second := index(t, ns)
	if second == first {
		t.Fatalf("the same index %d: the test shows nothing", first)
	}
	s.until(t, h, Change{Kind: InterfacePresent, Index: second})
	s.until(t, h, Change{Kind: LinkUp})
	hold(t, h, time.Minute)
	s.expect(t, h, "held again", about(AddressPresent, watched4), about(AddressPresent, watched6))
	// Another name is another interface, and the old name is free.
	ns.Down(t, nic)
	if err := ns.LinkSetName(ns.Link(t, nic), "renamed0"); err != nil {
		t.Fatal(err)
	}
	s.until(t, h, Change{Kind: InterfaceMissing})
	ns.Down(t, "renamed0")
	if err := ns.LinkSetName(ns.Link(t, "renamed0"), nic); err != nil {
		t.Fatal(err)
	}
	s.until(t, h, Change{Kind: InterfacePresent, Index: second})
}

// TestWatchBridgePort: an interface that leaves a bridge is reported deleted by
// the bridge, and is still there.
func TestWatchBridgePort(t *testing.T) {
	ns, _, h, s := watching(t)
	if err := ns.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}); err != nil {
		t.Fatal(err)
	}
	if err := ns.LinkSetMaster(ns.Link(t, nic), ns.Link(t, "br0")); err != nil {
		t.Fatal(err)
	}
	if err := ns.LinkSetNoMaster(ns.Link(t, nic)); err != nil {
		t.Fatal(err)
	}
	hold(t, h, time.Minute)
	s.expect(t, h, "the next change", about(AddressPresent, watched4), about(AddressPresent, watched6))
}

// TestWatchOverflow fills a small queue while nobody reads it, with changes of
// others, so that the kernel drops ours: ENOBUFS. What was missed is reported.
func TestWatchOverflow(t *testing.T) {
	for _, tt := range []struct {
		name   string
		missed func(*testing.T, *netnstest.Namespace, *Holder)
		want   func(*testing.T, *netnstest.Namespace) []Change
	}{
		{"addresses", func(t *testing.T, ns *netnstest.Namespace, h *Holder) {
			if err := h.Release(); err != nil {
				t.Fatal(err)
			}
		}, func(*testing.T, *netnstest.Namespace) []Change {
			return []Change{about(AddressGone, watched4), about(AddressGone, watched6)}
		}},
		{"interface", func(t *testing.T, ns *netnstest.Namespace, h *Holder) {
			if err := ns.LinkDel(ns.Link(t, nic)); err != nil {
				t.Fatal(err)
			}
			netnstest.Connect(t, ns, netnstest.New(t), nic)
		}, func(t *testing.T, ns *netnstest.Namespace) []Change {
			return []Change{{Kind: InterfacePresent, Index: index(t, ns)}, about(AddressGone, watched4), about(AddressGone, watched6)}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ns, _ := host(t)
			table := openTable(t, ns)
			h := table.mustOpen(t, Config{Addresses: prefixes(watched4, watched6)})
			hold(t, h, time.Minute)
			w := openWatcher(t, table, ns)
			if err := w.queue(4 << 10); err != nil {
				t.Fatal(err)
			}
			w.Add(h)
			blocked, goOn := make(chan struct{}), make(chan struct{})
			var once sync.Once
			s := watchWith(t, w, func(c Change) {
				if c.Kind == AddressPresent && c.Prefix == h.cfg.Addresses[1] {
					once.Do(func() {
						close(blocked)
						<-goOn
					})
				}
			})
			<-blocked
			storm(t, table, ns, 100)
			before := dropped(t, ns, w)
			tt.missed(t, ns, h)
			after := dropped(t, ns, w)
			close(goOn)
			if before == 0 || after == before {
				t.Fatalf("%d messages dropped before the change and %d after it: the test shows nothing", before, after)
			}
			for _, want := range tt.want(t, ns) {
				s.until(t, h, want)
			}
			hold(t, h, time.Minute) // it follows again
			s.until(t, h, about(AddressPresent, watched6))
		})
	}
}

// dropped is how many messages the kernel could not queue for w.
func dropped(t *testing.T, ns *netnstest.Namespace, w *Watcher) int {
	t.Helper()
	name, err := unix.Getsockname(w.fd)
	if err != nil {
		t.Fatal(err)
	}
	var table []byte
	err = ns.Do(func() (err error) {
		table, err = os.ReadFile("/proc/thread-self/net/netlink")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	const port, drops = 2, 8
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		if len(f) > drops && f[port] == strconv.FormatUint(uint64(name.(*unix.SockaddrNetlink).Pid), 10) && f[1] == "0" {
			n, err := strconv.Atoi(f[drops])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("the watcher's socket is not listed")
	return 0
}

// TestWatchStorm: in the middle of a storm that overflows the queue again and
// again, each removal is reported.
func TestWatchStorm(t *testing.T) {
	ns, _ := host(t)
	table := openTable(t, ns)
	h := table.mustOpen(t, Config{Addresses: prefixes(watched4)})
	w := openWatcher(t, table, ns)
	if err := w.queue(4 << 10); err != nil {
		t.Fatal(err)
	}
	w.Add(h)
	s := watch(t, w)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				storm(t, table, ns, 8)
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	for range 20 {
		hold(t, h, time.Minute)
		s.until(t, h, about(AddressPresent, watched4))
		ip(t, ns, "addr", "del", watched4, "dev", nic)
		s.until(t, h, about(AddressGone, watched4))
	}
}

// storm adds and removes other addresses on the same interface.
func storm(t testing.TB, table *Table, ns *netnstest.Namespace, times int) {
	link, err := ns.LinkByName(nic)
	if err != nil {
		t.Error(err)
		return
	}
	var requests []request
	for i := range times {
		p := plain(netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), 32))
		requests = append(requests, holdRequest(p, link.Attrs().Index, "", 60), dropRequest(p, link.Attrs().Index))
	}
	if err := errors.Join(table.kernel.changes.exchange(requests)...); err != nil {
		t.Error(err)
	}
}

// TestWatchMany has a Holder for each of 255 interfaces.
func TestWatchMany(t *testing.T) {
	ns := netnstest.New(t)
	table := openTable(t, ns)
	w := openWatcher(t, table, ns)
	holders := bridges(t, ns, table, 255)
	for _, h := range holders {
		w.Add(h)
	}
	s := watch(t, w)
	state := map[*Holder]Change{}
	settle := func(want ChangeKind) {
		t.Helper()
		timeout := time.After(limit)
		for n := 0; n < len(holders); {
			select {
			case c := <-s.changes:
				if c.Prefix.IsValid() && c.Kind == want && state[c.Holder].Kind != want {
					n++
				}
				if c.Prefix.IsValid() {
					state[c.Holder] = c
				}
			case <-timeout:
				t.Fatalf("%v: only %d of %d", want, n, len(holders))
			}
		}
	}
	settle(AddressGone)
	var renewals []Renewal
	for _, h := range holders {
		renewals = append(renewals, Renewal{h, time.Second})
	}
	if err := errors.Join(table.Hold(renewals)...); err != nil {
		t.Fatal(err)
	}
	settle(AddressPresent)
	settle(AddressGone) // the leases run out
}

// bridges makes n interfaces with a Holder each.
func bridges(t testing.TB, ns *netnstest.Namespace, table *Table, n int) []*Holder {
	t.Helper()
	var holders []*Holder
	for i := range n {
		name := fmt.Sprintf("br%d", i)
		if err := ns.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}); err != nil {
			t.Fatal(err)
		}
		ns.Up(t, name)
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(i), 1}), 24)
		holders = append(holders, table.mustOpen(t, Config{Interface: name, Addresses: []netip.Prefix{p}}))
	}
	return holders
}
