package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"net/netip"
)

// Layout of the trailer. Its length is a multiple of an IPv4 and of an IPv6
// address, so what it could be taken for in a bare advertisement is a whole
// address that starts with the magic, and neither family has such a host
// address: it is class E in one and multicast in the other.
const (
	// TrailerLen is how much longer a sealed advertisement is, in bytes.
	TrailerLen = 64

	offMagic    = 0
	offVersion  = 4
	offReserved = 5
	offKeyID    = 6
	offBoot     = 8
	offSequence = 16
	offEpoch    = 24
	offTag      = 32

	magic          = "\xffTAN"
	trailerVersion = 1
)

// trailer is the content of one, but for magic, version and tag.
type trailer struct {
	keyID                 uint16
	boot, sequence, epoch uint64
}

// appendTo appends everything in front of the tag.
func (t trailer) appendTo(b []byte) []byte {
	b = append(b, magic...)
	b = append(b, trailerVersion, 0)
	b = binary.BigEndian.AppendUint16(b, t.keyID)
	b = binary.BigEndian.AppendUint64(b, t.boot)
	b = binary.BigEndian.AppendUint64(b, t.sequence)
	return binary.BigEndian.AppendUint64(b, t.epoch)
}

// split cuts b into the advertisement and its trailer, if it has one.
func split(b []byte) (payload, tail []byte, ok bool) {
	n := len(b) - TrailerLen
	if n < 0 || string(b[n:n+len(magic)]) != magic {
		return b, nil, false
	}
	return b[:n:n], b[n:], true
}

// Strip takes a trailer off a packet's payload, unread: for what is addressed to
// nobody who could open it.
func Strip(b []byte) []byte {
	payload, _, _ := split(b)
	return payload
}

func readTrailer(tail []byte) trailer {
	return trailer{
		keyID:    binary.BigEndian.Uint16(tail[offKeyID:]),
		boot:     binary.BigEndian.Uint64(tail[offBoot:]),
		sequence: binary.BigEndian.Uint64(tail[offSequence:]),
		epoch:    binary.BigEndian.Uint64(tail[offEpoch:]),
	}
}

// signer computes tags with one key. It is reused, so that a tag costs no
// allocation.
type signer struct {
	id    uint16
	mac   hash.Hash
	ends  [1 + 2*16]byte
	space [sha256.Size]byte
}

func newSigner(d derived) *signer { return &signer{id: d.id, mac: hmac.New(sha256.New, d.secret[:])} }

// tag returns the HMAC of the path, the advertisement and the trailer before
// its tag, valid until the next call. The family byte gives the addresses'
// length and the trailer's part has a fixed one, so no two packets have the
// same input.
func (s *signer) tag(p path, message []byte) []byte {
	ends := append(s.ends[:0], p.family())
	ends = appendAddr(ends, p.src)
	ends = appendAddr(ends, p.dst)
	s.mac.Reset()
	_, _ = s.mac.Write(ends) // a hash returns no errors
	_, _ = s.mac.Write(message)
	return s.mac.Sum(s.space[:0])
}

func appendAddr(b []byte, a netip.Addr) []byte {
	if a.Is4() {
		four := a.As4()
		return append(b, four[:]...)
	}
	sixteen := a.As16()
	return append(b, sixteen[:]...)
}

// path is the two addresses of a packet, without zones: the other host has other ones.
type path struct{ src, dst netip.Addr }

func newPath(src, dst netip.Addr) (path, bool) {
	p := path{src: src.Unmap().WithZone(""), dst: dst.Unmap().WithZone("")}
	return p, p.src.IsValid() && p.dst.IsValid() && p.src.BitLen() == p.dst.BitLen()
}

func (p path) family() byte {
	if p.src.Is4() {
		return 4
	}
	return 6
}
