package main

import (
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/mono"
)

// watcher tells of the steps of both nodes that ended since it was made.
type watcher struct {
	news        func(control.Line)
	here, there seenSteps
	progress    progress
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
	if p := w.progress.look(s); p != nil {
		w.news(control.Line{Waiting: p})
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

// progressEvery is the time between two lines about the same wait.
const progressEvery = time.Second

// progress tells for what a transition waits, and how fast that gets less.
type progress struct {
	what  string
	told  mono.Instant
	first mono.Instant // of the reading that the rate is taken from
	most  uint64       // left at first
}

func (p *progress) look(s failover.Status) *control.Waiting {
	now, w := s.Now, control.NewWaiting(s.Waiting)
	if w == nil {
		*p = progress{}
		return nil
	}
	if w.For != p.what || w.Left > p.most {
		told := p.told
		if w.For != p.what {
			told = 0
		}
		*p = progress{what: w.For, told: told, first: now, most: w.Left}
	}
	if p.told != 0 && now.Sub(p.told) < progressEvery {
		return nil
	}
	p.told = now
	if span := now.Sub(p.first).Seconds(); span > 0 && p.most > w.Left {
		rate := float64(p.most-w.Left) / span
		left := float64(w.Left) / rate
		w.PerSecond, w.SecondsLeft = &rate, &left
	}
	return w
}
