package vrrp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Layout of an advertisement (RFC 9568 §5.1, RFC 3768 §5.1).
const (
	// Protocol is the IP protocol number of VRRP.
	Protocol = 112
	// TTL is the TTL or hop limit of every advertisement, sent or received.
	TTL = 255

	typeAdvertisement = 1
	headerLen         = 8
	ipv4Len           = 4
	ipv6Len           = 16
	authLen           = 8 // version 2: Authentication Data, zero and ignored
	maxAddresses      = 255
)

// Advertisement is the content of an ADVERTISEMENT (RFC 9568 §5.2, RFC 3768
// §5.3).
type Advertisement struct {
	Version  Version // zero is Version3; Parse never leaves it zero
	VRID     uint8   // 1..255
	Priority uint8   // 0: the sender leaves; 255: it owns the addresses
	// MaxAdvertInterval is 1..4095, in version 2 whole seconds from 100 to 25,500.
	MaxAdvertInterval Centiseconds
	// Addresses are 1..255 of one family, IPv4 in version 2, without zones. In
	// IPv6 the first has to be link-local (RFC 9568 §5.2.9), which is for the
	// configuration to see to.
	Addresses []netip.Addr
}

// ChecksumForm says over what the checksum of a version 3 advertisement over
// IPv4 is computed. Implementations differ, so receivers accept both. Version
// 2 and IPv6 know one form each, which is ChecksumRFC whatever is asked for.
type ChecksumForm uint8

const (
	// ChecksumRFC covers the VRRP message alone over IPv4 (RFC 9568 §5.2.8).
	ChecksumRFC ChecksumForm = iota
	// ChecksumPseudoHeader covers the IPv4 pseudo-header as well, as
	// keepalived and FRR do by default. keepalived 2.2.7 accepts no other.
	ChecksumPseudoHeader
)

// String returns a short name of f.
func (f ChecksumForm) String() string {
	switch f {
	case ChecksumRFC:
		return "rfc"
	case ChecksumPseudoHeader:
		return "pseudo_header"
	}
	return fmt.Sprintf("ChecksumForm(%d)", uint8(f))
}

func (a Advertisement) validate() error {
	n := len(a.Addresses)
	if a.VRID == 0 {
		return fmt.Errorf("VRID 0 is not in 1..255")
	}
	if err := a.Version.checkInterval(a.MaxAdvertInterval); err != nil {
		return err
	}
	if n < 1 || n > maxAddresses {
		return fmt.Errorf("%d addresses, not 1..%d", n, maxAddresses)
	}
	for _, addr := range a.Addresses {
		switch {
		case family(addr) == 0 || addr.Zone() != "":
			return fmt.Errorf("address %v is neither IPv4 nor IPv6 without a zone", addr)
		case !sameFamily(addr, a.Addresses[0]):
			return fmt.Errorf("addresses %v and %v are not of one family", a.Addresses[0], addr)
		case a.Version == Version2 && !addr.Is4():
			return fmt.Errorf("address %v is not IPv4, the only family of version 2", addr)
		}
	}
	return nil
}

// AppendTo appends the advertisement as it goes into a packet from src to dst,
// whose family is that of the addresses. It returns b unchanged and an error
// when a does not fit into the format.
func (a Advertisement) AppendTo(b []byte, src, dst netip.Addr, form ChecksumForm) ([]byte, error) {
	if err := a.validate(); err != nil {
		return b, fmt.Errorf("encode advertisement: %w", err)
	}
	if !sameFamily(src, a.Addresses[0]) || !sameFamily(dst, src) {
		return b, fmt.Errorf("encode advertisement: %v to %v cannot carry %v", src, dst, a.Addresses[0])
	}
	start := len(b)
	b = append(b, byte(a.Version.known())<<4|typeAdvertisement, a.VRID, a.Priority, uint8(len(a.Addresses)))
	if a.Version == Version2 {
		b = append(b, 0, uint8(a.MaxAdvertInterval/secondInterval))
	} else {
		b = binary.BigEndian.AppendUint16(b, uint16(a.MaxAdvertInterval))
	}
	b = append(b, 0, 0)
	for _, addr := range a.Addresses {
		b = appendAddr(b, addr)
	}
	if a.Version == Version2 {
		b = append(b, make([]byte, authLen)...)
	}
	sum := onesSum(0, b[start:])
	if withPseudoHeader(a.Version, src, form) {
		sum = pseudoHeaderSum(sum, src, dst, len(b)-start)
	}
	binary.BigEndian.PutUint16(b[start+6:], ^fold(sum))
	return b, nil
}

// appendAddr appends without the allocation of AsSlice.
func appendAddr(b []byte, addr netip.Addr) []byte {
	if addr.Is4() {
		four := addr.As4()
		return append(b, four[:]...)
	}
	sixteen := addr.As16()
	return append(b, sixteen[:]...)
}

func withPseudoHeader(v Version, src netip.Addr, form ChecksumForm) bool {
	return v != Version2 && (!src.Is4() || form == ChecksumPseudoHeader)
}

// Size returns how long the message at the start of b is by its header, in a
// packet of src's family. What follows is no part of it: Parse takes a trailer
// for DropLength. ok is false when b is too short to say, or of another version.
func Size(b []byte, src netip.Addr) (n int, ok bool) {
	if len(b) < headerLen || family(src) == 0 {
		return 0, false
	}
	n = headerLen + family(src)*int(b[3])
	switch Version(b[0] >> 4) {
	case Version2:
		return n + authLen, true
	case Version3:
		return n, true
	}
	return 0, false
}

// Parse reads the payload of a packet from src to dst, and tells which checksum
// form the sender used, ChecksumRFC when both fit. The error is a DropReason.
// The result does not share memory with b.
//
// Reserved bits and the Authentication Data of version 2 are ignored. Bytes
// after the message are DropLength: the checksum would not say whether they
// belong to it.
func Parse(b []byte, src, dst netip.Addr) (Advertisement, ChecksumForm, error) {
	if reason := checkHeader(b, src, dst); reason != 0 {
		return Advertisement{}, 0, reason
	}
	form, ok := checksumForm(b, src, dst)
	if !ok {
		return Advertisement{}, 0, DropChecksum
	}
	a := Advertisement{
		Version:           Version(b[0] >> 4),
		VRID:              b[1],
		Priority:          b[2],
		MaxAdvertInterval: interval(b),
		Addresses:         make([]netip.Addr, 0, b[3]),
	}
	for rest := b[headerLen:]; len(a.Addresses) < int(b[3]); rest = rest[family(src):] {
		a.Addresses = append(a.Addresses, readAddr(rest, src))
	}
	switch {
	case a.VRID == 0:
		return Advertisement{}, 0, DropVRID
	case a.MaxAdvertInterval == 0:
		return Advertisement{}, 0, DropInterval
	}
	for _, addr := range a.Addresses {
		if addr.Is4In6() {
			return Advertisement{}, 0, DropFamily
		}
	}
	return a, form, nil
}

func interval(b []byte) Centiseconds {
	if Version(b[0]>>4) == Version2 {
		return Centiseconds(b[5]) * secondInterval
	}
	return Centiseconds(binary.BigEndian.Uint16(b[4:])) & MaxInterval
}

func readAddr(b []byte, src netip.Addr) netip.Addr {
	if src.Is4() {
		return netip.AddrFrom4([4]byte(b))
	}
	return netip.AddrFrom16([16]byte(b))
}

// checkHeader makes the checks of RFC 9568 §7.1 and RFC 3768 §7.1 that come
// before the checksum.
func checkHeader(b []byte, src, dst netip.Addr) DropReason {
	if len(b) < headerLen {
		return DropShort
	}
	size, ok := Size(b, src)
	v2 := Version(b[0]>>4) == Version2
	switch {
	case !sameFamily(src, dst):
		return DropFamily
	case !ok || v2 && !src.Is4():
		return DropVersion
	case b[0]&0x0f != typeAdvertisement:
		return DropType
	case b[3] == 0:
		return DropCount
	case len(b) != size:
		return DropLength
	case v2 && b[4] != 0:
		return DropAuth
	}
	return 0
}

func checksumForm(b []byte, src, dst netip.Addr) (ChecksumForm, bool) {
	sum := onesSum(0, b)
	version := Version(b[0] >> 4)
	if withPseudoHeader(version, src, ChecksumRFC) {
		sum = pseudoHeaderSum(sum, src, dst, len(b))
	}
	if fold(sum) == 0xffff {
		return ChecksumRFC, true
	}
	if src.Is4() && version == Version3 && fold(pseudoHeaderSum(sum, src, dst, len(b))) == 0xffff {
		return ChecksumPseudoHeader, true
	}
	return 0, false
}

// pseudoHeaderSum adds the pseudo-header to sum: addresses, protocol and
// length (RFC 8200 §8.1; IPv4 alike).
func pseudoHeaderSum(sum uint32, src, dst netip.Addr, length int) uint32 {
	var addresses [2 * ipv6Len]byte
	sum = onesSum(sum, appendAddr(appendAddr(addresses[:0], src), dst))
	return sum + Protocol + uint32(length)
}

// onesSum adds b, an even number of bytes, to sum in 16-bit words. 4,088 bytes
// are the most an advertisement has, so no carry is lost before fold.
func onesSum(sum uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	return sum
}

func fold(sum uint32) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}
