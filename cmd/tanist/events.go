package main

import (
	"context"
	"net/http"
	"path/filepath"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/hooks/journal"
	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/events"
)

// eventHeartbeat is how often a reader of events hears that there is nothing new.
const eventHeartbeat = 15 * time.Second

// newFeed makes the stream of what the journal takes.
func (d *daemon) newFeed() *events.Feed {
	next, skipped := d.journal.Next()
	return events.New(events.Config{
		Held: func() ([]hooks.Entry, error) {
			c, err := journal.Read(filepath.Join(d.common.stateDir, "journal"))
			return c.Entries, err
		},
		State: func(ctx context.Context) (control.Document, error) {
			return d.document(ctx, extent{look: (*survey).known, peers: true})
		},
		Next: next, Skipped: skipped, Heartbeat: eventHeartbeat,
	})
}

// Events is the stream on the control socket.
func (d *daemon) Events(w http.ResponseWriter, r *http.Request) { d.feed.ServeHTTP(w, r) }
