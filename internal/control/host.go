package control

import (
	"slices"
	"time"
)

// Host is what this node says of its host and of what it runs, so that the two nodes can
// be held against each other.
type Host struct {
	Hostname string    `json:"hostname"`
	Clock    time.Time `json:"clock"`   // its wall clock when the document was made, to the millisecond
	Started  time.Time `json:"started"` // the daemon, by the same clock
	// KeyIDs tell cluster keys apart and nothing about them, in the order of the key
	// file; empty where nothing authenticates.
	KeyIDs        []string      `json:"key_ids"`
	Configuration Configuration `json:"configuration"`
	Protocols     Protocols     `json:"protocols"`
}

// Configuration are digests of what a daemon runs. Digests of two releases need not be
// equal for the same file; equal ones always mean the same.
type Configuration struct {
	Global    string           `json:"global"` // of what belongs to no instance
	Instances []InstanceDigest `json:"instances"`
}

// InstanceDigest is the digest of one instance.
type InstanceDigest struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
}

// Protocols are the versions that a daemon speaks.
type Protocols struct {
	Link      int `json:"link"`
	LinkItems int `json:"link_items"` // up to which kind of item of the link it reads
	Heartbeat int `json:"heartbeat"`  // of the proof in advertisements
}

// Difference says in what the configurations of the two nodes differ. Both false and
// empty means that they do not.
type Difference struct {
	Global    bool     `json:"global"`    // what belongs to no instance
	Instances []string `json:"instances"` // those that both have, and that differ
	OnlyHere  []string `json:"only_here"`
	OnlyThere []string `json:"only_there"`
	Keys      bool     `json:"keys"` // the key files differ, be it in their order
	// OtherRelease: digests differ, and so do the releases, which may be all there is to
	// it. Global is false then and Instances empty.
	OtherRelease bool `json:"other_release"`
}

// Any reports whether there is a difference.
func (d Difference) Any() bool {
	return d.Global || d.Keys || len(d.Instances)+len(d.OnlyHere)+len(d.OnlyThere) > 0
}

// ClockTolerance is how far the clocks of the two nodes may be apart before status says
// so.
const ClockTolerance = time.Second

// Compare returns in what the configurations of two nodes differ, nil when the other one
// has not said.
func Compare(here, there *Document) *Difference {
	if here.Host == nil || there == nil || there.Host == nil {
		return nil
	}
	one, other := here.Host, there.Host
	d := Difference{
		Global:    one.Configuration.Global != other.Configuration.Global,
		Instances: []string{}, OnlyHere: []string{}, OnlyThere: []string{},
		Keys: !slices.Equal(one.KeyIDs, other.KeyIDs),
	}
	digests := map[string]string{}
	for _, in := range other.Configuration.Instances {
		digests[in.Name] = in.Digest
	}
	for _, in := range one.Configuration.Instances {
		switch digest, known := digests[in.Name]; {
		case !known:
			d.OnlyHere = append(d.OnlyHere, in.Name)
		case digest != in.Digest:
			d.Instances = append(d.Instances, in.Name)
		}
		delete(digests, in.Name)
	}
	for _, in := range other.Configuration.Instances {
		if _, left := digests[in.Name]; left {
			d.OnlyThere = append(d.OnlyThere, in.Name)
		}
	}
	if here.Version != there.Version && (d.Global || len(d.Instances) > 0) {
		d.Global, d.Instances, d.OtherRelease = false, []string{}, true
	}
	return &d
}
