package vrrp

import (
	"slices"
	"strings"
)

// Mismatch is a set of differences between an advertisement and the
// configuration of the router that heard it. None is a reason to drop it: the
// election goes on and status shows it (RFC 9568 §7.1 lets the receiver
// check). RFC 3768 §7.1 wants version 2 to discard for an interval, which makes
// two Actives of one typing error.
type Mismatch uint8

// The differences that are looked for.
const (
	// MismatchInterval: the other router's advertisement interval differs.
	MismatchInterval Mismatch = 1 << iota
	// MismatchAddresses: it advertises other addresses, in whatever order.
	MismatchAddresses
	// MismatchLinkLocal: its first IPv6 address is not link-local (RFC 9568
	// §5.2.9, erratum 8300).
	MismatchLinkLocal
	// MismatchOwner: this router owns the addresses and hears another router
	// (RFC 9568 §7.1, erratum 8298).
	MismatchOwner
	// MismatchPriority: it has this router's priority, so that their addresses
	// decide.
	MismatchPriority

	lastMismatch = MismatchPriority
)

// Has reports whether every difference of o is in m.
func (m Mismatch) Has(o Mismatch) bool { return m&o == o }

// String returns the names of the differences as status and metrics show them,
// with commas between, and "none" for the empty set.
func (m Mismatch) String() string {
	var names []string
	for one := MismatchInterval; one <= lastMismatch; one <<= 1 {
		if m.Has(one) {
			names = append(names, one.name())
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ",")
}

// name returns the name of one difference.
func (m Mismatch) name() string {
	switch m {
	case MismatchInterval:
		return "interval"
	case MismatchAddresses:
		return "addresses"
	case MismatchLinkLocal:
		return "link_local"
	case MismatchOwner:
		return "owner"
	case MismatchPriority:
		return "priority"
	}
	return "unknown"
}

// Compare returns in what a differs from what c would advertise. A goodbye
// (priority 0) says nothing about its sender's priority.
func (c Config) Compare(a Advertisement) Mismatch {
	var m Mismatch
	if a.MaxAdvertInterval != c.Interval {
		m |= MismatchInterval
	}
	if !sameSet(a.Addresses, c.Carried()) {
		m |= MismatchAddresses
	}
	if len(a.Addresses) > 0 && !a.Addresses[0].Is4() && !a.Addresses[0].IsLinkLocalUnicast() {
		m |= MismatchLinkLocal
	}
	if c.Priority == OwnerPriority && a.Priority != 0 {
		m |= MismatchOwner
	}
	if c.Priority == a.Priority {
		m |= MismatchPriority
	}
	return m
}

func sameSet[T comparable](a, b []T) bool {
	if slices.Equal(a, b) {
		return true
	}
	if len(a) != len(b) {
		return false
	}
	counts := make(map[T]int, len(a))
	for _, v := range a {
		counts[v]++
	}
	for _, v := range b {
		counts[v]--
		if counts[v] < 0 {
			return false
		}
	}
	return true
}
