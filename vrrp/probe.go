package vrrp

import (
	"encoding/binary"
	"net/netip"
)

// A probe goes the way of an advertisement and is none: its type makes every router
// discard it (RFC 9568 §7.1), and its VRID 0 is nobody's. It shows whether packets of
// the protocol get through.
//
//	version 3 and type 15, VRID 0, 4 bytes 0, checksum as of an advertisement, token

const (
	typeProbe = 15
	probeLen  = headerLen + 8
)

// AppendProbe appends a probe as it goes into a packet from src to dst. Its token
// tells it from the probes of others.
func AppendProbe(b []byte, token uint64, src, dst netip.Addr) []byte {
	start := len(b)
	b = append(b, byte(Version3)<<4|typeProbe, 0, 0, 0, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, token)
	sum := onesSum(0, b[start:])
	if withPseudoHeader(Version3, src, ChecksumRFC) {
		sum = pseudoHeaderSum(sum, src, dst, probeLen)
	}
	binary.BigEndian.PutUint16(b[start+6:], ^fold(sum))
	return b
}

// ParseProbe returns the token of a probe.
func ParseProbe(b []byte) (token uint64, ok bool) {
	if len(b) != probeLen || b[0] != byte(Version3)<<4|typeProbe || b[1] != 0 {
		return 0, false
	}
	return binary.BigEndian.Uint64(b[headerLen:]), true
}
