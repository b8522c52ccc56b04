package vip

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/vrrp/internal/netnstest"
)

// linkMessage is an RTM_NEWLINK as the kernel sends it, as far as it is read.
func linkMessage(kind uint16, n linkNote) []byte {
	body := []byte{unix.AF_UNSPEC, 0, 0, 0}
	body = append(body, words(uint32(n.index), n.flags, 0)...)
	body = appendAttr(body, unix.IFLA_IFNAME, append(append([]byte{}, n.name...), 0)...)
	return request{kind: kind, body: body}.appendTo(nil, 0)
}

func addressMessage(n addressNote) []byte {
	seconds := uint32(60)
	if n.permanent {
		seconds = forever
	}
	r := holdRequest(n.assigned, n.index, "", seconds)
	if n.gone {
		r.kind = unix.RTM_DELADDR
	}
	if n.duplicate { // the later of two attributes counts
		r.body = appendAttr(r.body, unix.IFA_FLAGS, words(unix.IFA_F_DADFAILED)...)
	}
	return r.appendTo(nil, 0)
}

// FuzzNotes reads any datagram to its end, and compares each note with itself,
// encoded and parsed again.
func FuzzNotes(f *testing.F) {
	link := linkMessage(unix.RTM_NEWLINK, linkNote{index: 2, name: []byte(nic), flags: unix.IFF_UP | unix.IFF_RUNNING})
	f.Add(link)
	for _, p := range prefixes("192.0.2.100/24", "2001:db8::100/64") {
		for _, is := range []presence{{}, {permanent: true}, {duplicate: true}} {
			b := addressMessage(addressNote{index: 2, assigned: plain(p), presence: is})
			f.Add(b)
			f.Add(append(b, link...))
			f.Add(b[:len(b)-5])
		}
	}
	f.Add([]byte{15, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		for kind, body := range messages(b) {
			switch kind {
			case unix.RTM_NEWLINK, unix.RTM_DELLINK:
				if n, ok := parseLink(kind, body); ok {
					sameLink(t, kind, n)
				}
			case unix.RTM_NEWADDR, unix.RTM_DELADDR:
				if n, ok := parseAddress(kind, body); ok {
					sameAddress(t, kind, n)
				}
			}
		}
	})
}

func sameLink(t *testing.T, kind uint16, n linkNote) {
	t.Helper()
	for kind, body := range messages(linkMessage(kind, n)) {
		got, ok := parseLink(kind, body)
		if diff := cmp.Diff(n, got, cmp.AllowUnexported(linkNote{})); diff != "" || !ok {
			t.Fatalf("came back as %v (-want +got):\n%s", ok, diff)
		}
	}
}

func sameAddress(t *testing.T, kind uint16, n addressNote) {
	t.Helper()
	for kind, body := range messages(addressMessage(n)) {
		if got, ok := parseAddress(kind, body); !ok || got != n {
			t.Fatalf("%+v came back as %+v, %v", n, got, ok)
		}
	}
}

// TestListLeavesTheViewOnError: what a list could not read it does not report.
func TestListLeavesTheViewOnError(t *testing.T) {
	ns, _ := host(t)
	table := openTable(t, ns)
	h := table.mustOpen(t, Config{Addresses: prefixes(watched4)})
	hold(t, h, time.Minute)
	w := openWatcher(t, table, ns)
	w.Add(h)
	var v view
	if err := w.list(&v); err != nil {
		t.Fatal(err)
	}
	// A dump that waits no time gets no answer.
	if err := table.kernel.SetSocketTimeout(time.Microsecond); err != nil {
		t.Fatal(err)
	}
	ioctls := table.kernel.ioctls
	table.kernel.ioctls = -1
	err := w.list(&v)
	table.kernel.ioctls = ioctls
	if !errors.Is(err, unix.EBADF) {
		t.Fatalf("list: %v, want EBADF", err)
	}
	var got []ChangeKind
	v.tell(func(c Change) { got = append(got, c.Kind) })
	if diff := cmp.Diff(AddressPresent, got[len(got)-1]); diff != "" {
		t.Errorf("the address (-want +got):\n%s", diff)
	}
}

// BenchmarkWatch is what one message costs a Watcher of 255 interfaces.
func BenchmarkWatch(b *testing.B) {
	table := &Table{}
	holders := map[*Holder]uint64{}
	for i := range 255 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(i), 1}), 24)
		holders[table.mustOpen(b, Config{Interface: fmt.Sprintf("eth%d", i), Addresses: []netip.Prefix{p}})] = uint64(i + 1)
	}
	v := newView(holders, &view{})
	for i := range 255 {
		l := v.links[fmt.Sprintf("eth%d", i)]
		l.index, v.byIndex[i+1] = i+1, l
	}
	v.tell(func(Change) {})
	ours := addressNote{index: 1, assigned: plain(netip.MustParsePrefix("198.18.0.1/24"))}
	for _, bb := range []struct {
		name    string
		message []byte
	}{
		{"another interface's address", addressMessage(addressNote{index: 999, assigned: ours.assigned})},
		{"another address", addressMessage(addressNote{index: 1, assigned: plain(netip.MustParsePrefix("203.0.113.1/32"))})},
		{"another link", linkMessage(unix.RTM_NEWLINK, linkNote{index: 999, name: []byte("docker0")})},
		{"a renewal", addressMessage(ours)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			for kind, body := range messages(bb.message) {
				v.apply(kind, body, func(Change) {})
			}
			b.ReportAllocs()
			for b.Loop() {
				for kind, body := range messages(bb.message) {
					v.apply(kind, body, func(Change) { b.Fatal("a change") })
				}
			}
		})
	}
}

// BenchmarkWatchList is a list of everything, with a Holder for each of n interfaces.
func BenchmarkWatchList(b *testing.B) {
	for _, n := range []int{1, 255} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			ns := netnstest.New(b)
			table := openTable(b, ns)
			w := openWatcher(b, table, ns)
			for _, h := range bridges(b, ns, table, n) {
				w.Add(h)
			}
			var v view
			for b.Loop() {
				if err := w.list(&v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
