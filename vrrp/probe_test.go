package vrrp

import (
	"errors"
	"net/netip"
	"testing"
)

// A probe is read back, and no router takes it for an advertisement.
func TestProbe(t *testing.T) {
	for _, tt := range []struct{ name, src, dst string }{
		{"IPv4", "10.77.0.11", "10.77.0.12"},
		{"IPv6", "fd77::11", "fd77::12"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			src, dst := netip.MustParseAddr(tt.src), netip.MustParseAddr(tt.dst)
			b := AppendProbe([]byte("before"), 0x0123456789abcdef, src, dst)[len("before"):]
			if token, ok := ParseProbe(b); !ok || token != 0x0123456789abcdef {
				t.Errorf("read back %x, %v", token, ok)
			}
			if _, ok := checksumForm(b, src, dst); !ok {
				t.Error("the checksum does not fit")
			}
			if _, _, err := Parse(b, src, dst); !errors.Is(err, DropType) {
				t.Errorf("as an advertisement: %v, want %v", err, DropType)
			}
			if _, ok := ParseProbe(b[:len(b)-1]); ok {
				t.Error("a shorter one is taken")
			}
		})
	}
	a := Advertisement{VRID: 51, Priority: 254, MaxAdvertInterval: 100, Addresses: []netip.Addr{netip.MustParseAddr("10.77.0.100"), netip.MustParseAddr("10.77.0.101")}}
	b, err := a.AppendTo(nil, netip.MustParseAddr("10.77.0.11"), netip.MustParseAddr("10.77.0.12"), ChecksumRFC)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := ParseProbe(b); ok || len(b) != probeLen {
		t.Errorf("an advertisement of %d bytes is taken for a probe: %v", len(b), ok)
	}
}
