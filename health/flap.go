package health

import (
	"time"

	"github.com/tanist-ha/tanist/internal/mono"
)

// A check that fails, recovers and fails again would move the service each time.
// That it fails is believed at once, every time; that it is well again is believed
// ever later.
//
// RFC 2439 damps flapping routes in the same spirit: a penalty for each change, two
// thresholds, a decay by half-lives and a bound. Its numbers suit routers that see
// thousands of routes. For a few checks a person has to be able to say in advance
// when one counts as well again, so here the penalty is that time itself: it
// doubles with each failure, is bounded, and is forgiven at once after a quiet
// time. keepalived has only rise and fall, which bound how fast a check changes and
// not for how long it goes on.

// When a check flaps, and for how long it is held back.
const (
	// FlapFalls is how many times a check has to fail within FlapWindow to be taken
	// for one that flaps. With two falls it may be a service that was restarted twice.
	FlapFalls = 3
	// FlapWindow is five minutes: slower changes are an operator's matter, and each
	// costs one handover at most.
	FlapWindow = 5 * time.Minute
	// HoldFirst is for how long a check that flaps has to be well before it counts as
	// well.
	HoldFirst = time.Minute
	// HoldMost bounds it: each further failure doubles it.
	HoldMost = 10 * time.Minute
	// FlapForgiven is for how long a check has to count as well for all of it to be
	// forgotten.
	FlapForgiven = 10 * time.Minute
)

// flap is the memory of one check.
type flap struct {
	falls [FlapFalls - 1]mono.Instant // the latest, newest first; 0: none
	hold  time.Duration               // of the latest fall, 0: it does not flap
	well  mono.Instant                // since when it counts as well, 0: it does not
}

// fell notes that the check fails from now on and returns for how long it will
// have to be well.
func (f *flap) fell(now mono.Instant) time.Duration {
	if f.well != 0 && now.Sub(f.well) >= FlapForgiven {
		*f = flap{}
	}
	oldest := f.falls[len(f.falls)-1]
	switch {
	case f.hold > 0:
		f.hold = min(2*f.hold, HoldMost)
	case oldest != 0 && now.Sub(oldest) < FlapWindow:
		f.hold = HoldFirst
	}
	copy(f.falls[1:], f.falls[:])
	f.falls[0], f.well = now, 0
	return f.hold
}

// rose notes that the check counts as well from now on.
func (f *flap) rose(now mono.Instant) { f.well = now }
