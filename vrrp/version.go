package vrrp

import (
	"fmt"
	"net/netip"
	"time"
)

// Version is the protocol version of an advertisement. The zero Version stands
// for Version3.
type Version uint8

// The versions in use.
const (
	// Version2 is RFC 3768: IPv4 only, intervals of whole seconds.
	Version2 Version = 2
	// Version3 is RFC 9568: IPv4 and IPv6, intervals of centiseconds.
	Version3 Version = 3
)

// String returns "2" or "3".
func (v Version) String() string {
	switch v.known() {
	case Version2:
		return "2"
	case Version3:
		return "3"
	}
	return fmt.Sprintf("Version(%d)", uint8(v))
}

func (v Version) known() Version {
	if v == 0 {
		return Version3
	}
	return v
}

// checkInterval holds c to what an advertisement of version v can carry.
func (v Version) checkInterval(c Centiseconds) error {
	switch v.known() {
	case Version2:
		if c < secondInterval || c > MaxIntervalV2 || c%secondInterval != 0 {
			return fmt.Errorf("advertisement interval of %d centiseconds is not 1 to 255 whole seconds", c)
		}
		return nil
	case Version3:
		if c < 1 || c > MaxInterval {
			return fmt.Errorf("advertisement interval of %d centiseconds is not in 1..%d", c, MaxInterval)
		}
		return nil
	}
	return fmt.Errorf("version %d is neither 2 nor 3", uint8(v))
}

// SkewTime returns the Skew_Time of a version: a part of the interval in
// version 3 (RFC 9568 §6.1), of one second in version 2, whatever the interval
// (RFC 3768 §6.1).
func (v Version) SkewTime(priority uint8, interval time.Duration) time.Duration {
	if v.known() == Version2 {
		interval = time.Second
	}
	return SkewTime(priority, interval)
}

// ActiveDownInterval returns 3 * interval + Skew_Time of a version.
func (v Version) ActiveDownInterval(priority uint8, interval time.Duration) time.Duration {
	return 3*interval + v.SkewTime(priority, interval)
}

// The groups to which a virtual router advertises (RFC 9568 §5.1.1.2,
// §5.1.2.2).
//
//nolint:gochecknoglobals // constants that the language cannot say
var (
	groupIPv4 = netip.AddrFrom4([4]byte{224, 0, 0, 18})
	groupIPv6 = netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 15: 0x12})
)

// Group returns the multicast group of advertisements in the family of a:
// 224.0.0.18 or ff02::12.
func Group(a netip.Addr) netip.Addr {
	if a.Is4() {
		return groupIPv4
	}
	return groupIPv6
}

// sameFamily reports whether a and b are both IPv4 or both IPv6. An
// IPv4-mapped address is of neither.
func sameFamily(a, b netip.Addr) bool { return family(a) != 0 && family(a) == family(b) }

// family returns the length of an address on the wire: 4, 16, or 0 for what no
// packet carries.
func family(a netip.Addr) int {
	switch {
	case a.Is4():
		return ipv4Len
	case a.Is6() && !a.Is4In6():
		return ipv6Len
	}
	return 0
}
