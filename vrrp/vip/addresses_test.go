package vip

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/vrrp/internal/netnstest"
)

// byNet is what the standard library says, which copies the whole of every dump.
func byNet(name string) ([]netip.Prefix, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	addrs, err := i.Addrs()
	var all []netip.Prefix
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, err
}

// manyAddresses are on eth0, beside some of another interface; a list of them takes
// several answers of the kernel.
func manyAddresses(t testing.TB, n int) *netnstest.Namespace {
	t.Helper()
	ns, other := host(t)
	netnstest.Connect(t, ns, other, "eth1")
	put := func(name, address string, flags int) {
		t.Helper()
		link, err := ns.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		a, err := netlink.ParseAddr(address)
		if err != nil {
			t.Fatal(err)
		}
		a.Flags = flags
		if err := ns.AddrAdd(link, a); err != nil {
			t.Fatalf("%s: %v", address, err)
		}
	}
	for i := range n {
		put(nic, fmt.Sprintf("10.77.%d.%d/16", i/250, i%250+1), 0)
	}
	put(nic, "2001:db8::1/64", unix.IFA_F_NODAD)
	put("eth1", "192.0.2.1/24", 0)
	link, err := ns.LinkByName("eth1")
	if err != nil {
		t.Fatal(err)
	}
	a, err := netlink.ParseAddr("192.0.2.9/32")
	if err != nil {
		t.Fatal(err)
	}
	if a.Peer, err = netlink.ParseIPNet("192.0.2.10/32"); err != nil {
		t.Fatal(err)
	}
	if err := ns.AddrAdd(link, a); err != nil {
		t.Fatal(err)
	}
	return ns
}

func TestAddressesOf(t *testing.T) {
	ns := manyAddresses(t, 600)
	err := ns.Do(func() error {
		for _, name := range []string{nic, "eth1", "lo"} {
			want, err := byNet(name)
			if err != nil {
				return err
			}
			got, err := AddressesOf(name)
			if err != nil {
				return err
			}
			slices.SortFunc(got, netip.Prefix.Compare)
			slices.SortFunc(want, netip.Prefix.Compare)
			if diff := cmp.Diff(want, got, cmpNetip); diff != "" || len(got) == 0 {
				t.Errorf("%s (-net +got):\n%s", name, diff)
			}
		}
		for _, name := range []string{"eth7", "", "a-name-that-is-too-long"} {
			if got, err := AddressesOf(name); err == nil {
				t.Errorf("of %q: %v", name, got)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// FuzzDump reads what no kernel says.
func FuzzDump(f *testing.F) {
	message := func(kind uint16, content ...byte) []byte {
		b := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(content))
		binary.NativeEndian.PutUint32(b, uint32(unix.SizeofNlMsghdr+len(content)))
		binary.NativeEndian.PutUint16(b[4:], kind)
		binary.NativeEndian.PutUint32(b[8:], 1)
		return append(b, content...)
	}
	one := message(unix.RTM_NEWADDR, 2, 24, 0, 0, 3, 0, 0, 0, 8, 0, 1, 0, 192, 0, 2, 10, 8, 0, 2, 0, 192, 0, 2, 9)
	d := dump{index: 3, sequence: 1}
	if err := d.read(append(slices.Clone(one), message(unix.NLMSG_DONE, 0, 0, 0, 0)...)); err != nil || !d.over || !slices.Equal(d.addresses, []netip.Prefix{netip.MustParsePrefix("192.0.2.9/24")}) {
		f.Fatalf("%+v, %v", d, err)
	}
	refused := dump{sequence: 1}
	if err := refused.read(message(unix.NLMSG_ERROR, 0xed, 0xff, 0xff, 0xff)); err != unix.ENODEV { //nolint:errorlint // it is not wrapped
		f.Fatalf("%v", err)
	}
	f.Add(one)
	f.Add(message(unix.NLMSG_ERROR))
	f.Add(one[:len(one)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		d := dump{index: 3, sequence: 1}
		if err := d.read(b); err != nil && d.over {
			t.Errorf("over, and %v", err)
		}
		for _, a := range d.addresses {
			if !a.IsValid() {
				t.Error("an address that is none")
			}
		}
	})
}

func BenchmarkAddressesOf(b *testing.B) {
	ns := manyAddresses(b, 255)
	for name, list := range map[string]func(string) ([]netip.Prefix, error){"vip": AddressesOf, "net": byNet} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			err := ns.Do(func() error {
				for b.Loop() {
					if _, err := list(nic); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
		})
	}
}
