package vrrp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// golden is a payload and what it means between two addresses.
type golden struct {
	name     string
	src, dst netip.Addr
	payload  []byte
	form     ChecksumForm
	want     Advertisement
}

func addrs(ss ...string) []netip.Addr {
	out := make([]netip.Addr, len(ss))
	for i, s := range ss {
		out[i] = netip.MustParseAddr(s)
	}
	return out
}

var (
	goldenSrc  = netip.MustParseAddr("192.0.2.11")
	goldenDst  = netip.MustParseAddr("192.0.2.12")
	goldenSrc6 = netip.MustParseAddr("2001:db8::11")
	goldenDst6 = netip.MustParseAddr("2001:db8::12")
)

// goldens are bytes written by hand from RFC 9568 §5.1, and payloads of
// captured packets.
func goldens(tb testing.TB) []golden {
	tb.Helper()
	return append(handwritten(), capturedGoldens(tb)...)
}

func activeGolden() Advertisement {
	return Advertisement{
		Version: Version3, VRID: 51, Priority: 254, MaxAdvertInterval: 25, Addresses: addrs("192.0.2.100"),
	}
}

func handwritten() []golden {
	longest := Advertisement{
		Version: Version3, VRID: 255, Priority: 255, MaxAdvertInterval: 4095, Addresses: addrs("203.0.113.1"),
	}
	six := Advertisement{
		Version: Version3, VRID: 1, Priority: 100, MaxAdvertInterval: 100, Addresses: addrs("fe80::1"),
	}
	two := Advertisement{
		Version: Version2, VRID: 1, Priority: 100, MaxAdvertInterval: 25500, Addresses: addrs("10.0.0.1"),
	}
	return []golden{
		{
			name: "5.2.8/message-only", src: goldenSrc, dst: goldenDst, form: ChecksumRFC, want: activeGolden(),
			payload: []byte{
				0x31, 51, 254, 1, // version 3 type 1, VRID, priority, count
				0x00, 25, 0x0e, 0x4d, // 0x3133+0xfe01+0x0019+0xc000+0x0264 = 0x1f1b1, folded 0xf1b2
				192, 0, 2, 100,
			},
		},
		{
			name: "5.2.8/longest-interval", src: goldenSrc, dst: goldenDst, form: ChecksumRFC, want: longest,
			payload: []byte{
				0x31, 255, 255, 1,
				0x0f, 0xff, 0x82, 0xfd, // 0x31ff+0xff01+0x0fff+0xcb00+0x7101 = 0x27d00, folded 0x7d02
				203, 0, 113, 1,
			},
		},
		{
			name: "5.2.8/pseudo-header", src: goldenSrc, dst: goldenDst, form: ChecksumPseudoHeader, want: activeGolden(),
			payload: []byte{
				0x31, 51, 254, 1,
				0x00, 25, 0x89, 0xb8, // the sum above and 0xc000+0x020b+0xc000+0x020c+112+12 = 0x37644, folded 0x7647
				192, 0, 2, 100,
			},
		},
		{
			name: "5.2.8/ipv6-pseudo-header", src: goldenSrc6, dst: goldenDst6, form: ChecksumRFC, want: six,
			payload: []byte{
				0x31, 1, 100, 1,
				// Message 0x3101+0x6401+0x0064+0xfe80+0x0001 = 0x193e7, pseudo-header
				// 2*(0x2001+0x0db8)+0x0011+0x0012+112+24 = 0x5c1d; 0x1f004, folded 0xf005.
				0x00, 100, 0x0f, 0xfa,
				0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
			},
		},
		{
			name: "3768/longest-interval", src: goldenSrc, dst: goldenDst, form: ChecksumRFC, want: two,
			payload: []byte{
				0x21, 1, 100, 1, // version 2 type 1, VRID, priority, count
				0, 255, 0x6f, 0xfd, // 0x2101+0x6401+0x00ff+0x0a00+0x0001 = 0x9002
				10, 0, 0, 1,
				0, 0, 0, 0, 0, 0, 0, 0,
			},
		},
	}
}

func capturedGoldens(tb testing.TB) []golden {
	tb.Helper()
	with := func(change func(*Advertisement)) Advertisement {
		a := activeGolden()
		change(&a)
		return a
	}
	leave := func(a *Advertisement) { a.Priority = 0 }
	two := func(a *Advertisement) {
		a.Version, a.MaxAdvertInterval, a.Addresses = Version2, 100, addrs("192.0.2.100", "192.0.2.101")
	}
	six := func(a *Advertisement) { a.Addresses = addrs("fe80::100", "2001:db8::100") }
	var out []golden
	for _, g := range []golden{
		{name: "active", form: ChecksumPseudoHeader, want: activeGolden()},
		{name: "leaving", form: ChecksumPseudoHeader, want: with(leave)},
		{name: "three-addresses", form: ChecksumPseudoHeader, want: with(func(a *Advertisement) {
			a.VRID, a.Priority, a.MaxAdvertInterval = 7, 100, 100
			a.Addresses = addrs("192.0.2.101", "192.0.2.102", "10.9.8.7")
		})},
		{name: "v2-multicast", want: with(two)},
		{name: "v2-multicast-leaving", want: with(func(a *Advertisement) { two(a); leave(a) })},
		{name: "v2-unicast", want: with(func(a *Advertisement) { a.Version, a.MaxAdvertInterval = Version2, 200 })},
		{name: "v3-multicast", form: ChecksumPseudoHeader, want: activeGolden()},
		{name: "v3-ipv6-multicast", want: with(six)},
		{name: "v3-ipv6-multicast-leaving", want: with(func(a *Advertisement) { six(a); leave(a) })},
		{name: "v3-ipv6-unicast", want: with(func(a *Advertisement) { six(a); a.Priority, a.MaxAdvertInterval = 100, 100 })},
		{name: "v3-ipv6-global-first", want: with(func(a *Advertisement) {
			a.Priority, a.MaxAdvertInterval, a.Addresses = 100, 100, addrs("2001:db8::100")
		})},
	} {
		g.src, g.dst, g.payload = captured(tb, g.name)
		g.name = "keepalived/" + g.name
		out = append(out, g)
	}
	return out
}

// captured returns the addresses of a captured packet, and what it carries
// behind its IP header.
func captured(tb testing.TB, name string) (src, dst netip.Addr, payload []byte) {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "keepalived-2.2.7", name+".hex"))
	if err != nil {
		tb.Fatal(err)
	}
	var digits strings.Builder
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			digits.WriteString(strings.Join(strings.Fields(line), ""))
		}
	}
	packet, err := hex.DecodeString(digits.String())
	if err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	if packet[0]>>4 == 6 {
		return netip.AddrFrom16([16]byte(packet[8:])), netip.AddrFrom16([16]byte(packet[24:])), packet[40:]
	}
	return netip.AddrFrom4([4]byte(packet[12:])), netip.AddrFrom4([4]byte(packet[16:])), packet[int(packet[0]&0x0f)*4:]
}

func TestGoldenBytes(t *testing.T) {
	for _, g := range goldens(t) {
		t.Run(g.name, func(t *testing.T) {
			got, form, err := Parse(g.payload, g.src, g.dst)
			if err != nil || form != g.form {
				t.Fatalf("Parse: form %v, %v; want form %v", form, err, g.form)
			}
			if diff := cmp.Diff(g.want, got, cmpAddr); diff != "" {
				t.Errorf("Parse (-want +got):\n%s", diff)
			}
			b, err := g.want.AppendTo([]byte{0xee}, g.src, g.dst, g.form)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(append([]byte{0xee}, g.payload...), b); diff != "" {
				t.Errorf("AppendTo (-want +got):\n%s", diff)
			}
			if n, ok := Size(append(bytes.Clone(g.payload), 1, 2, 3), g.src); n != len(g.payload) || !ok {
				t.Errorf("Size %d, %v; want %d", n, ok, len(g.payload))
			}
		})
	}
}

// TestZeroVersionIs3 encodes what callers that know one version leave out.
func TestZeroVersionIs3(t *testing.T) {
	g := handwritten()[0]
	g.want.Version = 0
	b, err := g.want.AppendTo(nil, g.src, g.dst, g.form)
	if err != nil || !bytes.Equal(b, g.payload) {
		t.Errorf("%x, %v; want %x", b, err, g.payload)
	}
}

func TestSizeRefuses(t *testing.T) {
	good := handwritten()[0]
	other := bytes.Clone(good.payload)
	other[0] = 0x41
	for name, tt := range map[string]struct {
		b   []byte
		src netip.Addr
	}{
		"short":     {good.payload[:7], good.src},
		"version 4": {other, good.src},
		"no source": {good.payload, netip.Addr{}},
	} {
		if n, ok := Size(tt.b, tt.src); ok {
			t.Errorf("%s: %d", name, n)
		}
	}
}

// fit makes the checksum of b right.
func fit(b []byte, src, dst netip.Addr) []byte {
	b[6], b[7] = 0, 0
	sum := onesSum(0, b)
	if b[0]>>4 == 3 && !src.Is4() {
		sum = pseudoHeaderSum(sum, src, dst, len(b))
	}
	sum = uint32(^fold(sum))
	b[6], b[7] = byte(sum>>8), byte(sum)
	return b
}

func TestParseDrops(t *testing.T) {
	three, six, two := handwritten()[0], handwritten()[3], handwritten()[4]
	type change func(b []byte) []byte
	set := func(i int, v byte) change {
		return func(b []byte) []byte { b[i] = v; return b }
	}
	cut := func(n int) change {
		return func(b []byte) []byte { return b[:n] }
	}
	grow := func(b []byte) []byte { return append(b, 0, 0, 0, 0) }
	none := func(b []byte) []byte { b[3] = 0; return b[:8] }
	for _, tt := range []struct {
		clause string
		of     golden
		change change
		want   DropReason
	}{
		{"7.1/empty", three, cut(0), DropShort},
		{"7.1/header-incomplete", three, cut(7), DropShort},
		{"7.1/version-4", three, set(0, 0x41), DropVersion},
		{"7.1/version-1", three, set(0, 0x11), DropVersion},
		{"7.1/type-2", three, set(0, 0x32), DropType},
		{"5.2.5/no-address", three, none, DropCount},
		{"7.1/address-missing", three, set(3, 2), DropLength},
		{"7.1/address-cut", three, cut(10), DropLength},
		{"7.1/trailing-bytes", three, grow, DropLength},
		{"7.1/vrid-0", three, set(1, 0), DropVRID},
		{"5.2.7/interval-0", three, set(5, 0), DropInterval},

		{"7.1/ipv6-version-2", six, set(0, 0x21), DropVersion},
		{"7.1/ipv6-type-2", six, set(0, 0x32), DropType},
		{"7.1/ipv6-no-address", six, none, DropCount},
		{"7.1/ipv6-address-cut", six, cut(12), DropLength},
		{"7.1/ipv6-trailing-bytes", six, grow, DropLength},
		{"7.1/ipv6-vrid-0", six, set(1, 0), DropVRID},
		{"5.2.7/ipv6-interval-0", six, set(5, 0), DropInterval},
		{"5.2.9/ipv4-mapped", six, func(b []byte) []byte {
			mapped := netip.MustParseAddr("::ffff:192.0.2.1").As16()
			return append(b[:8], mapped[:]...)
		}, DropFamily},

		{"3768-7.1/type-2", two, set(0, 0x22), DropType},
		{"3768-7.1/no-address", two, func(b []byte) []byte { return append(none(b), b[12:]...) }, DropCount},
		{"3768-7.1/authentication-data-missing", two, cut(12), DropLength},
		{"3768-7.1/authentication-type-1", two, set(4, 1), DropAuth},
		{"3768-7.1/vrid-0", two, set(1, 0), DropVRID},
		{"3768-7.1/interval-0", two, set(5, 0), DropInterval},
	} {
		t.Run(tt.clause, func(t *testing.T) {
			b := tt.change(bytes.Clone(tt.of.payload))
			if len(b) >= headerLen {
				b = fit(b, tt.of.src, tt.of.dst)
			}
			_, _, err := Parse(b, tt.of.src, tt.of.dst)
			var reason DropReason
			if !errors.As(err, &reason) || reason != tt.want {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

// TestChecksumCoversEveryBit flips each bit of each golden payload. What is
// accepted nevertheless is another packet whose checksum fits: none is, one bit
// away.
func TestChecksumCoversEveryBit(t *testing.T) {
	for _, g := range goldens(t) {
		for i := range len(g.payload) * 8 {
			b := bytes.Clone(g.payload)
			b[i/8] ^= 1 << (i % 8)
			if a, _, err := Parse(b, g.src, g.dst); err == nil {
				t.Errorf("%s: bit %d of byte %d changed, accepted as %+v", g.name, i%8, i/8, a)
			}
		}
	}
}

// TestPseudoHeaderBindsAddresses parses a pseudo-header checksum as if the
// packet had gone elsewhere.
func TestPseudoHeaderBindsAddresses(t *testing.T) {
	for _, tt := range []struct {
		name, dst string
		want      DropReason
	}{
		{"active", "192.0.2.13", DropChecksum},
		{"active", "2001:db8::1", DropFamily},
		{"v3-ipv6-unicast", "2001:db8::13", DropChecksum},
		{"v3-ipv6-multicast", "ff02::13", DropChecksum},
	} {
		src, _, payload := captured(t, tt.name)
		if _, _, err := Parse(payload, src, netip.MustParseAddr(tt.dst)); !errors.Is(err, tt.want) {
			t.Errorf("%s to %v: error %v, want %v", tt.name, tt.dst, err, tt.want)
		}
		if _, _, err := Parse(payload, src, netip.Addr{}); !errors.Is(err, DropFamily) {
			t.Errorf("%s to nowhere: error %v, want %v", tt.name, err, DropFamily)
		}
	}
}

func TestParseIgnores(t *testing.T) {
	for name, tt := range map[string]struct {
		of     golden
		change func(b []byte)
	}{
		"5.2.6/reserved-bits":      {handwritten()[0], func(b []byte) { b[4] |= 0xf0 }},
		"5.2.6/ipv6-reserved-bits": {handwritten()[3], func(b []byte) { b[4] |= 0xf0 }},
		// RFC 3768 §5.3.10: zero on transmission, ignored on reception.
		"3768/authentication-data": {handwritten()[4], func(b []byte) { copy(b[12:], "password") }},
	} {
		b := bytes.Clone(tt.of.payload)
		tt.change(b)
		got, _, err := Parse(fit(b, tt.of.src, tt.of.dst), tt.of.src, tt.of.dst)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(tt.of.want, got, cmpAddr); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestParseDoesNotAlias(t *testing.T) {
	b := bytes.Clone(goldens(t)[0].payload)
	adv, _, err := Parse(b, goldenSrc, goldenDst)
	if err != nil {
		t.Fatal(err)
	}
	clear(b)
	if adv.Addresses[0] != vip {
		t.Errorf("address became %v when the buffer was reused", adv.Addresses[0])
	}
}

func TestLongestAdvertisement(t *testing.T) {
	six := manyAddresses6(255)
	for _, tt := range []struct {
		src, dst netip.Addr
		form     ChecksumForm
		want     Advertisement
	}{
		{goldenSrc, goldenDst, ChecksumRFC, Advertisement{Version: Version3, MaxAdvertInterval: 1, Addresses: manyAddresses(255)}},
		{goldenSrc, goldenDst, ChecksumPseudoHeader, Advertisement{Version: Version3, MaxAdvertInterval: 1, Addresses: manyAddresses(255)}},
		{goldenSrc6, goldenDst6, ChecksumRFC, Advertisement{Version: Version3, MaxAdvertInterval: 1, Addresses: six}},
		{goldenSrc, goldenDst, ChecksumRFC, Advertisement{Version: Version2, MaxAdvertInterval: 100, Addresses: manyAddresses(255)}},
	} {
		tt.want.VRID, tt.want.Priority = 1, 1
		b, err := tt.want.AppendTo(nil, tt.src, tt.dst, tt.form)
		if err != nil {
			t.Fatal(err)
		}
		got, form, err := Parse(b, tt.src, tt.dst)
		if err != nil || form != tt.form {
			t.Fatalf("form %v, %v; want %v", form, err, tt.form)
		}
		if diff := cmp.Diff(tt.want, got, cmpAddr); diff != "" {
			t.Errorf("%v (-want +got):\n%s", tt.form, diff)
		}
	}
}

func TestAppendToRefuses(t *testing.T) {
	v6 := netip.MustParseAddr("2001:db8::1")
	for name, tt := range map[string]struct {
		change   func(*Advertisement)
		src, dst netip.Addr
	}{
		"version 1":             {change: func(a *Advertisement) { a.Version = 1 }},
		"version 4":             {change: func(a *Advertisement) { a.Version = 4 }},
		"vrid 0":                {change: func(a *Advertisement) { a.VRID = 0 }},
		"interval 0":            {change: func(a *Advertisement) { a.MaxAdvertInterval = 0 }},
		"interval 4096":         {change: func(a *Advertisement) { a.MaxAdvertInterval = 4096 }},
		"v2 half a second":      {change: func(a *Advertisement) { a.Version, a.MaxAdvertInterval = Version2, 150 }},
		"v2 interval 0":         {change: func(a *Advertisement) { a.Version, a.MaxAdvertInterval = Version2, 0 }},
		"v2 256 seconds":        {change: func(a *Advertisement) { a.Version, a.MaxAdvertInterval = Version2, 25600 }},
		"v2 over IPv6":          {func(a *Advertisement) { a.Version, a.MaxAdvertInterval, a.Addresses = Version2, 100, []netip.Addr{v6} }, v6, v6},
		"no address":            {change: func(a *Advertisement) { a.Addresses = nil }},
		"256 addresses":         {change: func(a *Advertisement) { a.Addresses = manyAddresses(256) }},
		"IPv6 over IPv4":        {change: func(a *Advertisement) { a.Addresses = []netip.Addr{v6} }},
		"IPv4 over IPv6":        {src: v6, dst: v6},
		"both families":         {change: func(a *Advertisement) { a.Addresses = append(a.Addresses, v6) }},
		"IPv4-mapped":           {func(a *Advertisement) { a.Addresses = addrs("::ffff:192.0.2.1") }, v6, v6},
		"with a zone":           {func(a *Advertisement) { a.Addresses = addrs("fe80::1%eth0") }, v6, v6},
		"source of IPv6":        {src: v6},
		"destination of IPv6":   {dst: v6},
		"destination is mapped": {dst: netip.MustParseAddr("::ffff:192.0.2.1")},
	} {
		a := activeGolden()
		if tt.change != nil {
			tt.change(&a)
		}
		src, dst := goldenSrc, goldenDst
		if tt.src.IsValid() {
			src = tt.src
		}
		if tt.dst.IsValid() {
			dst = tt.dst
		}
		b, err := a.AppendTo([]byte{1}, src, dst, ChecksumPseudoHeader)
		if err == nil || !bytes.Equal(b, []byte{1}) {
			t.Errorf("%s: %x, error %v", name, b, err)
		}
	}
	a := activeGolden()
	if _, err := a.AppendTo(nil, netip.Addr{}, goldenDst, ChecksumRFC); err == nil {
		t.Error("no source: no error")
	}
}

func TestGroup(t *testing.T) {
	if got := Group(goldenSrc); got != netip.MustParseAddr("224.0.0.18") {
		t.Errorf("IPv4 group %v", got)
	}
	if got := Group(goldenSrc6); got != netip.MustParseAddr("ff02::12") {
		t.Errorf("IPv6 group %v", got)
	}
}
