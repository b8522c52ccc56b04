package hooks

import "time"

// An operator can hold a node back from the role, and a pair in its place. Both
// outlive the daemon and the host, so the journal has them.

// Hold is a block or a maintenance as it became with a record.
type Hold struct {
	On      bool
	Expired bool // off, because its time was over
	// For is how long it lasts from the record on, 0: until it is taken back. Until is
	// when that is by the wall clock, zero while nobody has looked at one.
	For   time.Duration
	Until time.Time

	// Of a maintenance: the one with the higher Version holds on both nodes.
	Version uint64
	By      string        // label of the node where it was switched
	Lease   time.Duration // of the address while it holds
	Forced  bool          // By lengthens its lease though the peer does not know of it

	// Of Leasing.
	Promised bool // the peer waits for the lease of this version
	Settled  bool // the peer's addresses have the configured lease again
}

// Dated returns the hold with the date of its end, now being that of its record.
func (h Hold) Dated(now time.Time) Hold {
	if h.On && h.For > 0 {
		h.Until = now.UTC().Add(h.For)
	}
	return h
}

// Left returns how much of the hold is left at now, 0 for none, and whether it
// ends by itself at all. A wall clock that was set back does not lengthen it.
func (h Hold) Left(now time.Time) (left time.Duration, ends bool) {
	if h.Until.IsZero() {
		return h.For, h.For > 0
	}
	return max(0, min(h.Until.Sub(now), h.For)), true
}

// Holding is what a node remembers of a hold.
type Holding struct {
	Hold
	Reason string
	UID    uint32
}

func (m Memory) hold(r Record) Memory {
	h := Holding{Hold: r.Hold, Reason: r.Reason, UID: r.UID}
	switch r.Kind {
	case Blocking:
		m.Block = h
	case Maintaining:
		m.Maintenance = h
		if h.On {
			m.PeerLease = max(m.PeerLease, h.Lease)
		} else {
			m.Promised = false
		}
	case Leasing:
		if h.Version != m.Maintenance.Version || h.By != m.Maintenance.By {
			break // it is about one that something else has replaced
		}
		m.Promised = m.Promised || h.Promised
		if h.Settled && !m.Maintenance.On {
			m.PeerLease = 0
		}
	default: // no hold
	}
	return m
}
