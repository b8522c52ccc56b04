package control

import (
	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/mono"
)

// Drift is one thing that is not as the configuration or the role wants it.
type Drift struct {
	Step string `json:"step"` // what would put it right; discover: the rules' files say something wrong
	Kind string `json:"kind"` // of the step: unit, yaml
	// State is what the step's check says: would change, cannot, or ok while
	// somebody else keeps changing it.
	State  string `json:"state,omitempty"`
	Title  string `json:"title,omitempty"`
	Detail string `json:"detail"`
	// SinceSeconds is for how long. Null for what is not about a step.
	SinceSeconds *float64 `json:"since_seconds"`
	Repair       string   `json:"repair,omitempty"` // report, repair, waiting or contested
}

// newDrift makes the document of what a node found; now is by that node's clock.
func newDrift(found []failover.Drift, now mono.Instant) []Drift {
	all := []Drift{}
	for _, d := range found {
		since := max(0, now.Sub(d.Since)).Seconds()
		all = append(all, Drift{
			Step: d.Step, Kind: d.Kind, State: stateWord(d.Outcome), Title: d.Title, Detail: d.Detail,
			SinceSeconds: &since, Repair: d.Repair.String(),
		})
	}
	return all
}

// stateWord is what `tanist hooks plan` calls it.
func stateWord(o hooks.Outcome) string {
	switch o {
	case hooks.Unchanged:
		return "ok"
	case hooks.Changed:
		return "would change"
	default:
		return "cannot"
	}
}

func newLabels(known []failover.Label) []Label {
	all := []Label{}
	for _, l := range known {
		all = append(all, Label{File: l.File, Key: l.Key, Value: l.Value, Wanted: &l.Wanted, Error: l.Err})
	}
	return all
}
