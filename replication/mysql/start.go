package mysql

import (
	"context"
	"fmt"
	"time"

	"github.com/tanist-ha/tanist/replication"
)

// startPoll is the time between two looks at threads that are starting.
const startPoll = 20 * time.Millisecond

// ReplicationRuns reports whether the threads of every channel run, the IO
// thread at least on its way to the source. It is true of a database without
// channels.
func (d *Database) ReplicationRuns(ctx context.Context) (bool, error) {
	runs := false
	err := d.look(ctx, "read replica threads", func(ctx context.Context, s *session) (err error) {
		runs, err = s.replicationRuns(ctx)
		return err
	})
	return runs, err
}

func (s *session) replicationRuns(ctx context.Context) (bool, error) {
	channels, err := s.channels(ctx)
	if err != nil {
		return false, err
	}
	for _, c := range channels {
		if c.SQL != replication.ThreadRunning || c.IO == replication.ThreadStopped || c.IO == replication.ThreadUnknown {
			return false, nil
		}
	}
	return true, nil
}

// StartReplication starts the threads of every channel with the settings that
// StopReplication left: how a promotion that did not come about is taken back.
// A relay log with unapplied transactions would not survive it, so it refuses
// with an *UnappliedError where there is one. It returns when the threads run.
func (d *Database) StartReplication(ctx context.Context) error {
	return d.act(ctx, "start replication", func(ctx context.Context, s *session) error {
		channels, err := s.channels(ctx)
		if err != nil || len(channels) == 0 {
			return err
		}
		applied, err := s.applied(ctx)
		if err != nil {
			return err
		}
		for _, c := range channels {
			if c.IO != replication.ThreadStopped || c.SQL != replication.ThreadStopped {
				continue
			}
			if err := nothingUnapplied(c, applied); err != nil && !s.dialect.keepsRelayLog {
				return err
			}
		}
		if err := s.exec(ctx, s.dialect.startAll()); err != nil {
			return err
		}
		for {
			runs, err := s.replicationRuns(ctx)
			if err != nil || runs {
				return err
			}
			if err := pause(ctx, startPoll); err != nil {
				return fmt.Errorf("wait for the threads: %w", err)
			}
		}
	})
}
