// Package auth proves that a VRRP advertisement comes from the peer: it appends
// a trailer with an HMAC-SHA256 over the advertisement and its addresses, and
// believes a received one once. docs/heartbeat-auth.md is the format, the replay
// rule, and what both do and do not protect against.
//
// The package is pure: time, randomness and what outlives the process come from
// the caller.
package auth

import "fmt"

// Mode says what happens to advertisements without proof.
type Mode uint8

// The modes, in the order in which a pair goes through them.
const (
	// None sends bare advertisements, and takes a trailer off without reading
	// it, so that the peer may be a step ahead.
	None Mode = iota
	// Permissive sends the trailer and accepts every advertisement, but says of
	// each why Enforce would not.
	Permissive
	// Enforce sends the trailer and accepts proved advertisements only.
	Enforce

	lastMode = Enforce
)

var modeNames = [...]string{None: "none", Permissive: "permissive", Enforce: "enforce"}

// String returns the mode as configurations and status name it.
func (m Mode) String() string {
	if m > lastMode {
		return fmt.Sprintf("Mode(%d)", uint8(m))
	}
	return modeNames[m]
}

// Reason says why an advertisement is not proved. It is the error of Open and
// the label of the counters; zero is no reason.
type Reason uint8

// Why advertisements are not believed, in the order of the checks.
const (
	ReasonMissing Reason = iota + 1 // no trailer
	ReasonVersion                   // a trailer of a version that this program does not know
	ReasonFamily                    // its two addresses are not of one family
	ReasonKey                       // sealed with a key that is not in the key file
	ReasonTag                       // forged, altered, or moved to other addresses
	ReasonOldBoot                   // of a daemon that has been restarted since
	ReasonReplay                    // heard before on this path, or overtaken by a later one
	ReasonStale                     // more than MaxLag behind what another path carried
	ReasonPaths                     // from more address pairs than one peer has

	lastReason = ReasonPaths
)

var reasonNames = [...]string{
	ReasonMissing: "auth_missing",
	ReasonVersion: "auth_version",
	ReasonFamily:  "auth_family",
	ReasonKey:     "auth_key",
	ReasonTag:     "auth_tag",
	ReasonOldBoot: "auth_old_boot",
	ReasonReplay:  "auth_replay",
	ReasonStale:   "auth_stale",
	ReasonPaths:   "auth_paths",
}

// String returns the reason as logs and metrics name it. The names differ from
// those of the other reasons to drop a packet.
func (r Reason) String() string {
	if r == 0 || r > lastReason {
		return fmt.Sprintf("Reason(%d)", uint8(r))
	}
	return reasonNames[r]
}

// Error makes the reason an error.
func (r Reason) Error() string { return "advertisement not proved: " + r.String() }

// Reasons returns every reason, for counters that must exist at zero.
func Reasons() []Reason {
	all := make([]Reason, 0, lastReason)
	for r := ReasonMissing; r <= lastReason; r++ {
		all = append(all, r)
	}
	return all
}
