package auth

import "encoding/binary"

// What tells a trailer from other bytes without a key, for a filter in the kernel. All
// that Open proves ends in TrailerLen bytes that begin with TrailerMagic, and whose next
// four, under TrailerMask, are one of the Verifier's marks; numbers are big endian. So
// does what somebody copied.
const (
	TrailerMagic = 0xff54414e
	TrailerMask  = 0xff00ffff // all but what is reserved
)

// Marks returns the marks of the keys: version and key id. There are none in mode None.
func (v *Verifier) Marks() []uint32 {
	var all []uint32
	for _, k := range v.keys {
		head := trailer{keyID: k.id}.appendTo(nil)
		all = append(all, binary.BigEndian.Uint32(head[offVersion:])&TrailerMask)
	}
	return all
}
