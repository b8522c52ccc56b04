package vrrp

import "fmt"

// DropReason says why a received packet was discarded. It is the error of
// Parse and the label of the counters; zero is no reason.
type DropReason uint8

// Why packets are dropped (RFC 9568 §7.1, RFC 3768 §7.1). Parse returns those up
// to DropFamily, Config.Check adds DropUnknownVRID; the rest are for adapters.
const (
	DropShort       DropReason = iota + 1 // shorter than the fixed header
	DropVersion                           // neither version 2 nor 3, or not the virtual router's
	DropType                              // not an ADVERTISEMENT
	DropCount                             // no address
	DropLength                            // length and address count disagree
	DropAuth                              // version 2 with an authentication type
	DropChecksum                          // no form of the checksum fits
	DropVRID                              // VRID 0
	DropInterval                          // interval 0, or one that the version cannot carry
	DropFamily                            // addresses of another family than the packet's or the virtual router's
	DropUnknownVRID                       // no virtual router here has that VRID
	DropTTL                               // TTL or hop limit other than 255: it crossed a router
	DropSource                            // not from the peer, or not to this host or the group
	DropOwn                               // this host's own packet came back
	DropOverflow                          // the receive queue was full

	lastDropReason = DropOverflow
)

var dropNames = [...]string{
	DropShort:       "short",
	DropVersion:     "version",
	DropType:        "type",
	DropCount:       "count",
	DropLength:      "length",
	DropAuth:        "auth",
	DropChecksum:    "checksum",
	DropVRID:        "vrid",
	DropInterval:    "interval",
	DropFamily:      "family",
	DropUnknownVRID: "unknown_vrid",
	DropTTL:         "ttl",
	DropSource:      "source",
	DropOwn:         "own",
	DropOverflow:    "overflow",
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
