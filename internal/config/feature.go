package config

import "slices"

// Feature is something a valid file can ask for, as a message calls it.
type Feature string

// Features that came, or come, after the first release.
const (
	FeatureHTTP Feature = "the HTTP endpoints"
)

// notYet lists what this release reads but does not do. A feature leaves this
// list in the change that implements it.
func notYet() []Feature {
	return []Feature{
		FeatureHTTP,
	}
}

// supported reports whether this release does f.
func (f Feature) supported() bool { return !slices.Contains(notYet(), f) }
