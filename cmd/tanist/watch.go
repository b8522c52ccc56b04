package main

import (
	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/failover"
)

// watcher tells of the steps of both nodes that ended since it was made.
type watcher struct {
	news        func(control.Line)
	here, there seenSteps
}

// seenSteps are the results of one node's transition that were told already. The
// next transition can have steps of the same names and outcomes, but not of the
// same durations.
type seenSteps struct{ told map[string]hooks.Result }

func newWatcher(before failover.Status, news func(control.Line)) *watcher {
	w := &watcher{news: func(control.Line) {}}
	w.look(before)
	w.news = news
	return w
}

func (w *watcher) look(s failover.Status) {
	if s.Last != nil {
		w.here.look(s.Node, s.Last.Steps, w.news)
	}
	if s.PeerFresh {
		w.there.look(s.Peer, s.PeerState.Steps, w.news)
	}
}

func (seen *seenSteps) look(node string, results []hooks.Result, news func(control.Line)) {
	now := make(map[string]hooks.Result, len(results))
	for _, r := range results {
		now[r.Name] = r
		if r.Outcome == hooks.Pending || r == seen.told[r.Name] {
			continue
		}
		s := control.Step{
			Name: r.Name, Result: r.Outcome.String(), Detail: r.Detail,
			DurationMS: float64(r.Duration.Microseconds()) / 1000,
		}
		news(control.Line{Node: node, Step: &s})
	}
	seen.told = now
}
