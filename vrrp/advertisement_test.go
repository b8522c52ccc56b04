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

// golden is a payload and what it means between 192.0.2.11 and 192.0.2.12.
type golden struct {
	name    string
	payload []byte
	form    ChecksumForm
	want    Advertisement
}

func addrs(ss ...string) []netip.Addr {
	out := make([]netip.Addr, len(ss))
	for i, s := range ss {
		out[i] = netip.MustParseAddr(s)
	}
	return out
}

// goldens are bytes written by hand from RFC 9568 §5.1, and payloads of
// captured packets.
func goldens(tb testing.TB) []golden {
	tb.Helper()
	active := Advertisement{VRID: 51, Priority: 254, MaxAdvertInterval: 25, Addresses: addrs("192.0.2.100")}
	leaving := active
	leaving.Priority = 0
	three := Advertisement{
		VRID: 7, Priority: 100, MaxAdvertInterval: 100,
		Addresses: addrs("192.0.2.101", "192.0.2.102", "10.9.8.7"),
	}
	longest := Advertisement{VRID: 255, Priority: 255, MaxAdvertInterval: 4095, Addresses: addrs("203.0.113.1")}
	return []golden{
		{
			name: "5.2.8/message-only", form: ChecksumRFC, want: active,
			payload: []byte{
				0x31, 51, 254, 1, // version 3 type 1, VRID, priority, count
				0x00, 25, 0x0e, 0x4d, // 0x3133+0xfe01+0x0019+0xc000+0x0264 = 0x1f1b1, folded 0xf1b2
				192, 0, 2, 100,
			},
		},
		{
			name: "5.2.8/longest-interval", form: ChecksumRFC, want: longest,
			payload: []byte{
				0x31, 255, 255, 1,
				0x0f, 0xff, 0x82, 0xfd, // 0x31ff+0xff01+0x0fff+0xcb00+0x7101 = 0x27d00, folded 0x7d02
				203, 0, 113, 1,
			},
		},
		{
			name: "pseudo-header", form: ChecksumPseudoHeader, want: active,
			payload: []byte{
				0x31, 51, 254, 1,
				0x00, 25, 0x89, 0xb8, // the sum above and 0xc000+0x020b+0xc000+0x020c+112+12 = 0x37644, folded 0x7647
				192, 0, 2, 100,
			},
		},
		{name: "keepalived/active", form: ChecksumPseudoHeader, want: active, payload: capturedPayload(tb, "active")},
		{name: "keepalived/leaving", form: ChecksumPseudoHeader, want: leaving, payload: capturedPayload(tb, "leaving")},
		{name: "keepalived/three-addresses", form: ChecksumPseudoHeader, want: three, payload: capturedPayload(tb, "three-addresses")},
	}
}

// capturedPayload returns what a captured packet carries behind its IPv4 header.
func capturedPayload(tb testing.TB, name string) []byte {
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
	return packet[int(packet[0]&0x0f)*4:]
}

var (
	goldenSrc = netip.MustParseAddr("192.0.2.11")
	goldenDst = netip.MustParseAddr("192.0.2.12")
)

func TestGoldenBytes(t *testing.T) {
	for _, g := range goldens(t) {
		t.Run(g.name, func(t *testing.T) {
			got, form, err := Parse(g.payload, goldenSrc, goldenDst)
			if err != nil || form != g.form {
				t.Fatalf("Parse: form %v, %v; want form %v", form, err, g.form)
			}
			if diff := cmp.Diff(g.want, got, cmpAddr); diff != "" {
				t.Errorf("Parse (-want +got):\n%s", diff)
			}
			b, err := g.want.AppendTo([]byte{0xee}, goldenSrc, goldenDst, g.form)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(append([]byte{0xee}, g.payload...), b); diff != "" {
				t.Errorf("AppendTo (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseDrops(t *testing.T) {
	good := goldens(t)[0].payload
	// edit changes bytes of a good payload and makes the checksum fit again.
	edit := func(change func(b []byte) []byte) []byte {
		b := change(bytes.Clone(good))
		b[6], b[7] = 0, 0
		sum := ^fold(onesSum(0, b))
		b[6], b[7] = byte(sum>>8), byte(sum)
		return b
	}
	set := func(i int, v byte) []byte {
		return edit(func(b []byte) []byte { b[i] = v; return b })
	}
	flip := bytes.Clone(good)
	flip[2] ^= 1
	for _, tt := range []struct {
		clause string
		b      []byte
		want   DropReason
	}{
		{"7.1/empty", nil, DropShort},
		{"7.1/header-incomplete", good[:7], DropShort},
		{"7.1/version-2", set(0, 0x21), DropVersion},
		{"7.1/version-4", set(0, 0x41), DropVersion},
		{"7.1/type-2", set(0, 0x32), DropType},
		{"7.1/no-address", edit(func(b []byte) []byte { b[3] = 0; return b[:8] }), DropCount},
		{"7.1/address-missing", set(3, 2), DropLength},
		{"7.1/address-cut", good[:11], DropLength},
		{"7.1/trailing-bytes", edit(func(b []byte) []byte { return append(b, 0, 0, 0, 0) }), DropLength},
		{"7.1/checksum", flip, DropChecksum},
		{"7.1/vrid-0", set(1, 0), DropVRID},
		{"5.2.7/interval-0", set(5, 0), DropInterval},
	} {
		t.Run(tt.clause, func(t *testing.T) {
			_, _, err := Parse(tt.b, goldenSrc, goldenDst)
			var reason DropReason
			if !errors.As(err, &reason) || reason != tt.want {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

// TestPseudoHeaderBindsAddresses parses a pseudo-header checksum as if the
// packet had gone elsewhere.
func TestPseudoHeaderBindsAddresses(t *testing.T) {
	payload := capturedPayload(t, "active")
	for _, dst := range []netip.Addr{netip.MustParseAddr("192.0.2.13"), {}, netip.MustParseAddr("2001:db8::1")} {
		if _, _, err := Parse(payload, goldenSrc, dst); !errors.Is(err, DropChecksum) {
			t.Errorf("to %v: error %v, want %v", dst, err, DropChecksum)
		}
	}
}

func TestParseIgnoresReservedBits(t *testing.T) {
	b := bytes.Clone(goldens(t)[0].payload)
	b[4] |= 0xf0
	b[6], b[7] = 0, 0
	sum := ^fold(onesSum(0, b))
	b[6], b[7] = byte(sum>>8), byte(sum)
	adv, _, err := Parse(b, goldenSrc, goldenDst)
	if err != nil || adv.MaxAdvertInterval != 25 {
		t.Errorf("interval %d, %v; want 25", adv.MaxAdvertInterval, err)
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
	want := Advertisement{VRID: 1, Priority: 1, MaxAdvertInterval: 1, Addresses: manyAddresses(255)}
	for _, form := range []ChecksumForm{ChecksumRFC, ChecksumPseudoHeader} {
		b, err := want.AppendTo(nil, goldenSrc, goldenDst, form)
		if err != nil {
			t.Fatal(err)
		}
		got, gotForm, err := Parse(b, goldenSrc, goldenDst)
		if err != nil || gotForm != form {
			t.Fatalf("form %v, %v; want %v", gotForm, err, form)
		}
		if diff := cmp.Diff(want, got, cmpAddr); diff != "" {
			t.Errorf("%v (-want +got):\n%s", form, diff)
		}
	}
}

func TestAppendToRefuses(t *testing.T) {
	good := goldens(t)[0].want
	v6 := netip.MustParseAddr("2001:db8::1")
	for name, tt := range map[string]struct {
		change func(*Advertisement)
		src    netip.Addr
	}{
		"vrid 0":            {func(a *Advertisement) { a.VRID = 0 }, goldenSrc},
		"interval 0":        {func(a *Advertisement) { a.MaxAdvertInterval = 0 }, goldenSrc},
		"interval 4096":     {func(a *Advertisement) { a.MaxAdvertInterval = 4096 }, goldenSrc},
		"no address":        {func(a *Advertisement) { a.Addresses = nil }, goldenSrc},
		"256 addresses":     {func(a *Advertisement) { a.Addresses = manyAddresses(256) }, goldenSrc},
		"IPv6 address":      {func(a *Advertisement) { a.Addresses = []netip.Addr{v6} }, goldenSrc},
		"IPv4-mapped":       {func(a *Advertisement) { a.Addresses = addrs("::ffff:192.0.2.1") }, goldenSrc},
		"source not IPv4":   {func(*Advertisement) {}, v6},
		"source is missing": {func(*Advertisement) {}, netip.Addr{}},
	} {
		a := good
		tt.change(&a)
		b, err := a.AppendTo([]byte{1}, tt.src, goldenDst, ChecksumPseudoHeader)
		if err == nil || !bytes.Equal(b, []byte{1}) {
			t.Errorf("%s: %x, error %v", name, b, err)
		}
	}
}
