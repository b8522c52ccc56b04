package control

import (
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/replication"
)

// newDatabase keeps apart what is false and what is not known.
func newDatabase(d replication.Database, v replication.DatabaseVerdict, now mono.Instant) Database {
	f := d.Facts
	db := Database{
		Name: d.Name, Role: f.Role().String(), ReadOnly: known(f.ReadOnly),
		LagFrom: v.LagFrom.String(),
	}
	if f.Role() == replication.RoleReplica {
		// What counts is what was applied. One that follows nobody may have more, as
		// the former source of what it is compared with.
		db.MissingTransactions = known(v.Missing)
	}
	if f.MeasuredAt != 0 {
		age := now.Sub(f.MeasuredAt).Milliseconds()
		db.AgeMS = &age
	}
	if f.Reach != replication.Reachable {
		db.Error = f.Reach.String()
		if f.ReachDetail != "" {
			db.Error += ": " + f.ReachDetail
		}
	}
	if lag, ok := v.Lag.Get(); ok {
		s := lag.Seconds()
		db.LagSeconds = &s
	}
	if p, ok := f.Position(); ok {
		s := p.String()
		db.Position = &s
	}
	channels, _ := f.Channels.Get()
	for _, c := range channels {
		db.IORunning = both(db.IORunning, c.IO)
		db.SQLRunning = both(db.SQLRunning, c.SQL)
		for _, e := range []replication.Optional[replication.ServerError]{c.LastIOError, c.LastSQLError} {
			if err, ok := e.Get(); ok && err.Number != 0 && db.Error == "" {
				db.Error = err.String()
			}
		}
	}
	if db.Error == "" {
		db.Error = f.BeatDetail
	}
	return db
}

func known[T any](o replication.Optional[T]) *T {
	if v, ok := o.Get(); ok {
		return &v
	}
	return nil
}

// both is true only when the threads of all channels run.
func both(so *bool, t replication.ThreadState) *bool {
	if t == replication.ThreadUnknown {
		return so
	}
	runs := t == replication.ThreadRunning && (so == nil || *so)
	return &runs
}
