package main

// The labels: keys of other people's files that steps set.

import (
	"context"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/hooks/step"
	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/failover"
)

// labelled is one key of a file, and how it is read.
type labelled struct {
	file, key, wanted string
	read              func(file, key string) (string, error)
}

// labelsOf returns the keys that an action sets.
func labelsOf(a hooks.Action) []labelled {
	switch a := a.(type) {
	case hooks.YAML:
		return []labelled{{a.File, a.Key, a.Value, step.ReadYAML}}
	case hooks.JSON:
		labels := make([]labelled, len(a.Set))
		for i, k := range a.Set {
			labels[i] = labelled{a.File, k.Key, k.Value, step.ReadJSON}
		}
		return labels
	case hooks.VIP, hooks.Writes, hooks.Replication, hooks.Unit, hooks.Exec, hooks.Line, hooks.Link, hooks.Notify, hooks.Wait:
	}
	return nil
}

// Labels reads the keys that an action sets.
func (s steps) Labels(_ context.Context, a hooks.Action) []failover.Label {
	var labels []failover.Label
	for _, l := range labelsOf(a) {
		is := failover.Label{File: l.file, Key: l.key, Wanted: l.wanted}
		value, err := l.read(l.file, l.key)
		if is.Value = value; err != nil {
			is.Err = err.Error()
		}
		labels = append(labels, is)
	}
	return labels
}

// wanted adds to what the files of this host say what the role wants there. While a
// transition changes role and files, nothing is wanted that they could lack.
func wanted(labels []control.Label, known []failover.Label, state failover.State) []control.Label {
	out := append([]control.Label{}, labels...)
	if state == failover.Promoting || state == failover.Demoting {
		return out
	}
	for i := range out {
		for _, l := range known {
			if l.File == out[i].File && l.Key == out[i].Key {
				out[i].Wanted = &l.Wanted
			}
		}
	}
	return out
}
