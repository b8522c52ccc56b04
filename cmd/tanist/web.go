package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"syscall"
	"time"

	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/heartbeat"
	"github.com/tanist-ha/tanist/internal/web"
)

// surveyAge is how old units and labels in an answer over HTTP may be before they are
// looked at again, for the next one.
const surveyAge = time.Second

// openWeb opens what the file names for HTTP, nil if that is nothing. was is what the
// daemon has open, nil for nothing. The error is config.Problems.
func openWeb(file *config.File, was *config.HTTP) (*web.Listener, error) {
	if file.HTTP == nil {
		return nil, nil
	}
	at := file.HTTP.Listen
	l, err := web.Listen(at)
	if err == nil {
		return l, nil
	}
	hint := ""
	switch {
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		hint = "both nodes have the same file: write 127.0.0.1, or 0.0.0.0 for every address"
	case errors.Is(err, syscall.EADDRINUSE) && was != nil && was.Listen.Port() == at.Port():
		hint = fmt.Sprintf("the daemon itself has %s: write another port, or restart it", was.Listen)
	case errors.Is(err, syscall.EADDRINUSE):
		hint = fmt.Sprintf("`ss -ltnp sport = %d` says who has it", at.Port())
	}
	return nil, config.Problems{file.Problem("http.listen", err.Error(), hint)}
}

// newWeb makes the server of the daemon.
func (d *daemon) newWeb() *web.Server {
	return web.New(web.Config{
		Facts: d.facts,
		Events: func(w http.ResponseWriter, r *http.Request, state func(context.Context) (control.Document, error)) {
			d.feed.ServePublic(w, r, state)
		},
		Trouble: func(doing string, err error) { d.log.Trouble("", doing, err) },
	})
}

// facts are what the answers over HTTP are made of. Nothing is asked for them that can
// hang.
func (d *daemon) facts(ctx context.Context) (web.Facts, error) {
	doc, err := d.document(ctx, extent{look: (*survey).known, peers: true, verdict: true})
	if err != nil {
		return web.Facts{}, err
	}
	answer, err := d.both(doc, control.Question{})
	if err != nil {
		return web.Facts{}, err
	}
	f := web.Facts{StatusAnswer: answer, Dropped: map[string]map[string]uint64{}}
	if f.Counters, err = d.counters(ctx); err != nil {
		return f, err
	}
	advertisements := d.heartbeat.Status()
	for _, in := range advertisements.Instances {
		f.Dropped[in.Name] = in.Dropped.ByName()
	}
	f.Process = web.Process{Paths: webPaths(advertisements), Events: d.node.Dropped(), LogLines: d.log.dropped.Load(), Refused: d.link.Refusals().ByName()}
	f.Process.Readers, f.Process.Cut = d.feed.Readers()
	f.Process.Notices = d.notices.counts()
	return f, nil
}

func webPaths(s heartbeat.Status) []web.Path {
	var paths []web.Path
	for _, p := range s.Paths {
		paths = append(paths, web.Path{Interface: p.Interface, Peer: p.Peer.String(), Up: p.Up, Flooded: p.Sieved, Dropped: p.Dropped})
	}
	return paths
}

// known returns what was seen last, and has it looked at again if that is old.
func (s *survey) known(ctx context.Context) sighting {
	is := s.last()
	if is.unitsAt.IsZero() && is.labelsAt.IsZero() {
		return s.latest(ctx)
	}
	if len(s.names) > 0 && time.Since(is.unitsAt) > surveyAge {
		s.units.remind()
	}
	if len(s.keys) > 0 && time.Since(is.labelsAt) > surveyAge {
		s.labels.remind()
	}
	return is
}
