package vip

import (
	"bytes"
	"encoding/binary"
	"iter"
	"net/netip"

	"golang.org/x/sys/unix"
)

// What the kernel says of links and addresses, parsed without allocating: on a
// busy host most of it is about somebody else's.

// attrType is without the flags that an attribute's type can carry.
const attrType = 0x3fff

// linkNote is one RTM_NEWLINK or RTM_DELLINK.
type linkNote struct {
	index int
	name  []byte // in the buffer that was parsed
	flags uint32 // IFF_
	gone  bool
}

// addressNote is one RTM_NEWADDR or RTM_DELADDR.
type addressNote struct {
	index int
	assigned
	presence
	gone bool
}

// presence is what matters of an address that is there.
type presence struct {
	permanent bool
	duplicate bool // IPv6 only: detection found another host with it
}

// messages are those of one datagram, as far as it is well formed.
func messages(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(kind uint16, body []byte) bool) {
		for len(b) >= netlinkHeader {
			n := binary.NativeEndian.Uint32(b)
			if n < netlinkHeader || uint64(n) > uint64(len(b)) {
				return
			}
			if !yield(binary.NativeEndian.Uint16(b[4:]), b[netlinkHeader:n]) {
				return
			}
			b = b[min(aligned(int(n)), len(b)):]
		}
	}
}

// attributes are those of one message, as far as it is well formed.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(kind uint16, value []byte) bool) {
		for len(b) >= attrHeader {
			n := int(binary.NativeEndian.Uint16(b))
			if n < attrHeader || n > len(b) {
				return
			}
			if !yield(binary.NativeEndian.Uint16(b[2:])&attrType, b[attrHeader:n]) {
				return
			}
			b = b[min(aligned(n), len(b)):]
		}
	}
}

func aligned(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// parseLink does not take what a bridge says of its ports in the same messages.
func parseLink(kind uint16, b []byte) (linkNote, bool) {
	if len(b) < unix.SizeofIfInfomsg || b[0] != unix.AF_UNSPEC {
		return linkNote{}, false
	}
	n := linkNote{
		index: int(int32(binary.NativeEndian.Uint32(b[4:]))),
		flags: binary.NativeEndian.Uint32(b[8:]),
		gone:  kind == unix.RTM_DELLINK,
	}
	for kind, value := range attributes(b[unix.SizeofIfInfomsg:]) {
		if kind == unix.IFLA_IFNAME {
			n.name, _, _ = bytes.Cut(value, []byte{0})
			break
		}
	}
	return n, n.index > 0 && len(n.name) > 0
}

func parseAddress(kind uint16, b []byte) (addressNote, bool) {
	index, ok := addressIndex(b)
	if !ok {
		return addressNote{}, false
	}
	n := addressNote{index: index, gone: kind == unix.RTM_DELADDR}
	flags, valid := uint32(b[2]), uint32(0)
	var local, far netip.Addr
	for kind, value := range attributes(b[unix.SizeofIfAddrmsg:]) {
		switch {
		case kind == unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(value)
		case kind == unix.IFA_ADDRESS:
			far, _ = netip.AddrFromSlice(value)
		case kind == unix.IFA_FLAGS && len(value) == 4:
			flags = binary.NativeEndian.Uint32(value)
		case kind == unix.IFA_CACHEINFO && len(value) == unix.SizeofIfaCacheinfo:
			valid = binary.NativeEndian.Uint32(value[4:])
		}
	}
	if !local.IsValid() { // IPv6 without a far end
		local = far
	}
	if !far.IsValid() {
		far = local
	}
	n.assigned = assigned{Prefix: netip.PrefixFrom(local, int(b[1])), far: far}
	n.permanent = flags&unix.IFA_F_PERMANENT != 0 || valid == forever
	n.duplicate = flags&unix.IFA_F_DADFAILED != 0
	return n, n.IsValid() && local.Is4() == far.Is4()
}

// addressIndex is the interface that a message about an address is about.
func addressIndex(b []byte) (index int, ok bool) {
	if len(b) < unix.SizeofIfAddrmsg {
		return 0, false
	}
	return int(binary.NativeEndian.Uint32(b[4:])), true
}
