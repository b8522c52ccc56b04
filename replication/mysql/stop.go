package mysql

// STOP waits for the threads, and behind a client's lock it waits, on MySQL, for
// a year unless the server is told otherwise.

import (
	"context"
	"strconv"

	"github.com/tanist-ha/tanist/replication"
)

// stopSeconds is how long the server may wait in one STOP; its least is 2.
const stopSeconds = 5

// boundStops makes every STOP of the server end in time, and returns what puts
// its setting back. A setting that stays, because the server was lost, is short
// and does no harm.
func (s *session) boundStops(ctx context.Context) (loosen func(), err error) {
	variable := s.dialect.stopTimeout
	if variable == "" {
		return func() {}, nil
	}
	r, err := queryOne(ctx, s.conn, "SELECT @@GLOBAL."+variable+" AS seconds")
	if err != nil {
		return nil, err
	}
	before, err := strconv.Atoi(r["seconds"].String)
	if err != nil || before <= stopSeconds {
		return func() {}, err
	}
	if err := s.exec(ctx, "SET GLOBAL "+variable+" = "+strconv.Itoa(stopSeconds)); err != nil {
		return nil, err
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
		defer cancel()
		_ = s.exec(ctx, "SET GLOBAL "+variable+" = "+strconv.Itoa(before))
	}, nil
}

// stop runs a STOP. When the server gives up waiting, its threads go on stopping
// by themselves: then it is waited for them here.
func (s *session) stop(ctx context.Context, statement string, stopped func(replication.Channel) bool) error {
	err := s.exec(ctx, statement)
	if serverErrorNumber(err) != errStopTimeout {
		return err
	}
	for {
		channels, err := s.channels(ctx)
		if err != nil || all(channels, stopped) {
			return err
		}
		if err := pause(ctx, startPoll); err != nil {
			return err
		}
	}
}

func all(channels []replication.Channel, good func(replication.Channel) bool) bool {
	for _, c := range channels {
		if !good(c) {
			return false
		}
	}
	return true
}

func bothStopped(c replication.Channel) bool {
	return c.IO == replication.ThreadStopped && c.SQL == replication.ThreadStopped
}

func fetchesNot(name string) func(replication.Channel) bool {
	return func(c replication.Channel) bool { return c.Name != name || c.IO == replication.ThreadStopped }
}
