package vrrp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Layout of a version 3 advertisement (RFC 9568 §5.1).
const (
	// Protocol is the IP protocol number of VRRP.
	Protocol = 112
	// TTL is what every advertisement is sent and has to be received with.
	TTL = 255

	version           = 3
	typeAdvertisement = 1
	headerLen         = 8
	ipv4Len           = 4
	maxAddresses      = 255
)

// Advertisement is the content of a version 3 ADVERTISEMENT (RFC 9568 §5.2).
type Advertisement struct {
	VRID              uint8 // 1..255
	Priority          uint8 // 0: the sender leaves; 255: it owns the addresses
	MaxAdvertInterval Centiseconds
	Addresses         []netip.Addr // 1..255, IPv4
}

// ChecksumForm says over what the checksum of an IPv4 advertisement is
// computed. Implementations differ, so receivers accept both.
type ChecksumForm uint8

const (
	// ChecksumRFC covers the VRRP message alone (RFC 9568 §5.2.8).
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
	switch n := len(a.Addresses); {
	case a.VRID == 0:
		return fmt.Errorf("VRID 0 is not in 1..255")
	case a.MaxAdvertInterval < 1 || a.MaxAdvertInterval > MaxInterval:
		return fmt.Errorf("advertisement interval of %d centiseconds is not in 1..%d", a.MaxAdvertInterval, MaxInterval)
	case n < 1 || n > maxAddresses:
		return fmt.Errorf("%d addresses, not 1..%d", n, maxAddresses)
	}
	for _, addr := range a.Addresses {
		if !addr.Is4() {
			return fmt.Errorf("address %v is not IPv4", addr)
		}
	}
	return nil
}

// AppendTo appends the advertisement as it goes into an IPv4 packet from src
// to dst, which only ChecksumPseudoHeader looks at. It returns b unchanged and
// an error when a does not fit into the format.
func (a Advertisement) AppendTo(b []byte, src, dst netip.Addr, form ChecksumForm) ([]byte, error) {
	if err := a.validate(); err != nil {
		return b, fmt.Errorf("encode advertisement: %w", err)
	}
	if form == ChecksumPseudoHeader && (!src.Is4() || !dst.Is4()) {
		return b, fmt.Errorf("encode advertisement: %v to %v is not IPv4", src, dst)
	}
	start := len(b)
	b = append(b, version<<4|typeAdvertisement, a.VRID, a.Priority, uint8(len(a.Addresses)))
	b = binary.BigEndian.AppendUint16(b, uint16(a.MaxAdvertInterval))
	b = append(b, 0, 0)
	for _, addr := range a.Addresses {
		b = append(b, addr.AsSlice()...)
	}
	sum := onesSum(0, b[start:])
	if form == ChecksumPseudoHeader {
		sum = pseudoHeaderSum(sum, src, dst, len(b)-start)
	}
	binary.BigEndian.PutUint16(b[start+6:], ^fold(sum))
	return b, nil
}

// Parse reads the payload of an IPv4 packet from src to dst, and tells which
// checksum form the sender used, ChecksumRFC when both fit. The error is a
// DropReason. The result does not share memory with b.
//
// Reserved bits are ignored. Bytes after the last address are DropLength: the
// checksum would not say whether they belong to it.
func Parse(b []byte, src, dst netip.Addr) (Advertisement, ChecksumForm, error) {
	if reason := checkHeader(b); reason != 0 {
		return Advertisement{}, 0, reason
	}
	form, ok := checksumForm(b, src, dst)
	if !ok {
		return Advertisement{}, 0, DropChecksum
	}
	a := Advertisement{
		VRID:              b[1],
		Priority:          b[2],
		MaxAdvertInterval: Centiseconds(binary.BigEndian.Uint16(b[4:])) & MaxInterval,
		Addresses:         make([]netip.Addr, 0, b[3]),
	}
	for rest := b[headerLen:]; len(rest) > 0; rest = rest[ipv4Len:] {
		a.Addresses = append(a.Addresses, netip.AddrFrom4([4]byte(rest)))
	}
	switch {
	case a.VRID == 0:
		return Advertisement{}, 0, DropVRID
	case a.MaxAdvertInterval == 0:
		return Advertisement{}, 0, DropInterval
	}
	return a, form, nil
}

// checkHeader makes the checks of RFC 9568 §7.1 that come before the checksum.
func checkHeader(b []byte) DropReason {
	switch {
	case len(b) < headerLen:
		return DropShort
	case b[0]>>4 != version:
		return DropVersion
	case b[0]&0x0f != typeAdvertisement:
		return DropType
	case b[3] == 0:
		return DropCount
	case len(b) != headerLen+ipv4Len*int(b[3]):
		return DropLength
	}
	return 0
}

func checksumForm(b []byte, src, dst netip.Addr) (ChecksumForm, bool) {
	sum := onesSum(0, b)
	if fold(sum) == 0xffff {
		return ChecksumRFC, true
	}
	if src.Is4() && dst.Is4() && fold(pseudoHeaderSum(sum, src, dst, len(b))) == 0xffff {
		return ChecksumPseudoHeader, true
	}
	return 0, false
}

// pseudoHeaderSum adds the IPv4 pseudo-header to sum: addresses, protocol and
// length.
func pseudoHeaderSum(sum uint32, src, dst netip.Addr, length int) uint32 {
	sum = onesSum(sum, src.AsSlice())
	sum = onesSum(sum, dst.AsSlice())
	return sum + Protocol + uint32(length)
}

// onesSum adds b, an even number of bytes, to sum in 16-bit words. 1,028 bytes
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
