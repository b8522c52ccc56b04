package vrrp

import "fmt"

// DropReason says why a received packet was discarded. It is the error of
// Parse and the label of the counters; zero is no reason.
type DropReason uint8

// Why packets are dropped (RFC 9568 §7.1). The last three are for adapters.
const (
	DropShort    DropReason = iota + 1 // shorter than the fixed header
	DropVersion                        // not version 3
	DropType                           // not an ADVERTISEMENT
	DropCount                          // no address
	DropLength                         // length and address count disagree
	DropChecksum                       // neither form of the checksum fits
	DropVRID                           // VRID 0
	DropInterval                       // interval 0
	DropTTL                            // TTL other than 255: it crossed a router
	DropSource                         // not from the peer, or not to this address
	DropOverflow                       // the receive queue was full

	lastDropReason = DropOverflow
)

var dropNames = [...]string{
	DropShort:    "short",
	DropVersion:  "version",
	DropType:     "type",
	DropCount:    "count",
	DropLength:   "length",
	DropChecksum: "checksum",
	DropVRID:     "vrid",
	DropInterval: "interval",
	DropTTL:      "ttl",
	DropSource:   "source",
	DropOverflow: "overflow",
}

// String returns the reason as logs and metrics name it.
func (r DropReason) String() string {
	if r == 0 || r > lastDropReason {
		return fmt.Sprintf("DropReason(%d)", uint8(r))
	}
	return dropNames[r]
}

// Error makes the reason an error.
func (r DropReason) Error() string { return "advertisement dropped: " + r.String() }

// DropReasons returns every reason, for counters that must exist at zero.
func DropReasons() []DropReason {
	all := make([]DropReason, 0, lastDropReason)
	for r := DropShort; r <= lastDropReason; r++ {
		all = append(all, r)
	}
	return all
}
