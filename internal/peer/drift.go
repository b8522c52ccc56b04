package peer

// What a node says of its drift and its labels, at most told entries of each.

import (
	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/internal/words"
)

// told bounds the lists that are read, whatever the other end sends.
const told = 64

type drift struct {
	Step    string       `json:"step"`
	Kind    string       `json:"kind,omitempty"`
	Title   string       `json:"title,omitempty"`
	Outcome string       `json:"outcome"`
	Detail  string       `json:"detail,omitempty"`
	Since   mono.Instant `json:"since_ns"`
	Repair  string       `json:"repair,omitempty"`
}

type label struct {
	Step   string `json:"step"`
	File   string `json:"file"`
	Key    string `json:"key"`
	Value  string `json:"value"`
	Wanted string `json:"wanted"`
	Err    string `json:"error,omitempty"`
}

func toDrift(d failover.Drift) drift {
	return drift{
		Step: d.Step, Kind: d.Kind, Title: d.Title, Outcome: words.Of(hooks.Pending, d.Outcome), Detail: d.Detail,
		Since: d.Since, Repair: words.Of(failover.ReportOnly, d.Repair),
	}
}

func (d drift) core() failover.Drift {
	return failover.Drift{
		Step: brief(d.Step), Kind: brief(d.Kind), Title: brief(d.Title), Outcome: words.Value(hooks.Pending, d.Outcome), Detail: brief(d.Detail),
		Since: d.Since, Repair: words.Value(failover.ReportOnly, d.Repair),
	}
}

func toLabel(l failover.Label) label { return label(l) }

func (l label) core() failover.Label {
	return failover.Label{
		Step: brief(l.Step), File: brief(l.File), Key: brief(l.Key), Value: brief(l.Value), Wanted: brief(l.Wanted), Err: brief(l.Err),
	}
}

func atMost[T any](list []T, most int) []T { return list[:min(len(list), most)] }
