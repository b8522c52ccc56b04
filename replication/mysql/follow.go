package mysql

// Following is the way back of a database that was the source, and the way in of
// a new one. Everything that speaks against it is looked for first; then as little
// is changed as possible, because a change drops the relay log.

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tanist-ha/tanist/replication"
)

const (
	// followPoll is the time between two looks at threads that are starting.
	followPoll = 20 * time.Millisecond
	// errorPatience is how long an IO thread may be connecting with an error before
	// that counts: one attempt may still be that of an earlier life.
	errorPatience = 1500 * time.Millisecond
	// refusalTime is for how long both threads must have run: a source refuses a
	// position only after the IO thread counts as running.
	refusalTime = 300 * time.Millisecond
)

// ErrWritesOpen says that a database takes writes and so follows nobody.
var ErrWritesOpen = errors.New("writes are open: only a read-only database may follow")

// IOThreadError says that an IO thread does not come to run.
type IOThreadError struct {
	Channel string // empty for the unnamed one
	Last    replication.ServerError
}

func (e *IOThreadError) Error() string {
	return fmt.Sprintf("IO thread%s does not run: %s", channelLabel(e.Channel), e.Last)
}

// Following reports whether the database follows the source with GTIDs and both
// threads run. When it does not, the error says what would keep Follow from making
// it so. On a database that takes writes only the source is looked at: whether the
// two fit is known when writes are closed. It changes nothing.
func (d *Database) Following(ctx context.Context, src Source) (bool, error) {
	following := false
	err := d.act(ctx, "compare with "+src.String(), func(ctx context.Context, s *session) error {
		open, err := s.writesOpen(ctx)
		if err != nil {
			return err
		}
		if open {
			mine, err := s.examine(ctx)
			if err != nil {
				return err
			}
			theirs, err := src.look(ctx)
			if err != nil {
				return err
			}
			return notSelf(mine, theirs, src)
		}
		v, err := s.compare(ctx, src)
		if err != nil {
			return err
		}
		if following = v.follows(); following {
			return nil
		}
		return v.mayFollow(src)
	})
	return following && err == nil, err
}

// Follow makes the database a replica of the source and returns when both threads
// run. It refuses, before it changes anything, with
//   - a *SourceError when the source does not answer to the account, or cannot be followed;
//   - a *SelfError when it is this server;
//   - ErrWritesOpen when this database takes writes;
//   - a *RejoinError when the source purged what is missing here, GTIDs are off, or
//     it cannot be told whether the source lacks anything;
//   - an *ErrantError when this database has transactions that the source lacks;
//   - an *UnappliedError or a *SQLThreadError when received transactions would be lost.
//
// A channel that points at the source already is not changed, and what runs is not
// stopped. Replication goes on from what the database has, its own writes as the
// former source included. An *IOThreadError after the change says why the channel
// stands; the settings are then in place.
func (d *Database) Follow(ctx context.Context, src Source) error {
	return d.act(ctx, "follow "+src.String(), func(ctx context.Context, s *session) error {
		return s.follow(ctx, src, s.compare)
	})
}

// follow asks look what both servers say, each time anew.
func (s *session) follow(ctx context.Context, src Source, look func(context.Context, Source) (view, error)) error {
	v, err := look(ctx, src)
	if err != nil {
		return err
	}
	if v.follows() {
		return nil
	}
	if err := v.mayFollow(src); err != nil {
		return err
	}
	change := !v.sameSource || v.refused
	if change && (v.anyRuns() || s.dialect.keepsRelayLog && v.unapplied() != nil) {
		if err := s.stopDrained(ctx); err != nil {
			return err
		}
		// What was applied since may be what the source does not have.
		if v, err = look(ctx, src); err != nil {
			return err
		}
		if err := v.mayFollow(src); err != nil {
			return err
		}
	}
	if !v.anyRuns() {
		if err := s.goOnFrom(ctx, v.mine.facts); err != nil {
			return err
		}
	}
	if change {
		if err := s.changeSource(ctx, v.channel, src); err != nil {
			return err
		}
	}
	return s.startFollowing(ctx, v.channel)
}

// view is what both servers said before one follows the other.
type view struct {
	mine, theirs end
	channels     []replication.Channel
	channel      string // the one that follows, or is to
	sameSource   bool   // it points at the source, with GTIDs
	refused      bool   // and the source refuses the account that it has
	writesOpen   bool
	keeps        bool // a start applies what was received
	refetch      bool // what was received and not applied is to be fetched again
	judgement
}

// compare looks at both servers and refuses what no statement could mend. This
// server is read first: the other way round, a transaction on its way here would
// look as if only this server had it.
func (s *session) compare(ctx context.Context, src Source) (view, error) {
	var v view
	rows, err := query(ctx, s.conn, s.dialect.channels)
	if err != nil {
		return v, err
	}
	for _, r := range rows {
		v.channels = append(v.channels, channelOf(r, s.dialect.columns))
	}
	if v.mine, err = s.examine(ctx); err != nil {
		return v, err
	}
	if len(rows) > 1 {
		return v, fmt.Errorf("there are %d channels: which of them follows the source is for the operator to say: reset the others", len(rows))
	}
	if v.theirs, err = src.look(ctx); err != nil {
		return v, err
	}
	if len(rows) == 1 {
		c := v.channels[0]
		v.channel = c.Name
		v.sameSource = settingsOf(rows[0]).pointAt(src)
		last, _ := c.LastIOError.Get()
		v.refused = c.IO != replication.ThreadRunning && (last.Number == errAccessDenied || last.Number == errSecureNeeded)
	}
	v.writesOpen, v.keeps = !v.mine.readOnly, s.dialect.keepsRelayLog
	if err := notSelf(v.mine, v.theirs, src); err != nil {
		return v, err
	}
	if v.mine.family == v.theirs.family {
		v.judgement = judge(v.mine.facts, v.theirs.facts, src.String())
	}
	return v, nil
}

func notSelf(mine, theirs end, src Source) error {
	a, okA := mine.facts.ServerID.Get()
	b, okB := theirs.facts.ServerID.Get()
	if !okA || !okB {
		return errors.New("server_id cannot be read")
	}
	same := mine.host == theirs.host && mine.port == theirs.port && mine.dataDir == theirs.dataDir
	uuid, okA := mine.facts.ServerUUID.Get()
	other, okB := theirs.facts.ServerUUID.Get()
	if okA && okB && strings.EqualFold(uuid, other) {
		return &SelfError{Source: src.String(), ServerID: a, UUID: uuid, Same: same}
	}
	if a == b {
		return &SelfError{Source: src.String(), ServerID: a, Same: same}
	}
	return nil
}

// follows reports whether nothing is left to do.
func (v view) follows() bool {
	if len(v.channels) != 1 || !v.sameSource || v.writesOpen {
		return false
	}
	c := v.channels[0]
	return c.IO == replication.ThreadRunning && c.SQL == replication.ThreadRunning && v.judgement == (judgement{})
}

func (v view) anyRuns() bool {
	for _, c := range v.channels {
		if c.IO != replication.ThreadStopped || c.SQL != replication.ThreadStopped {
			return true
		}
	}
	return false
}

// mayFollow refuses what would lose or hide transactions.
func (v view) mayFollow(src Source) error {
	switch {
	case v.writesOpen:
		return ErrWritesOpen
	case v.mine.family != v.theirs.family:
		return &SourceError{src.String(), errors.New("it is of another family of servers")}
	case !v.theirs.hasLog:
		return &SourceError{src.String(), errors.New("it writes no binary log: nobody can follow it")}
	case !v.mine.hasLog:
		return errors.New("this server writes no binary log: what it wrote alone cannot be told, and nobody could follow it")
	case v.theirs.readOnly:
		// Two that follow each other pass the same transactions round.
		return &SourceError{src.String(), errors.New("it is read-only, so it is not the active one")}
	}
	switch {
	case v.rest != nil:
		return v.rest
	case v.errant != nil:
		return v.errant
	case v.doubt != nil:
		return v.doubt
	case v.keeps, v.refetch:
		return nil
	}
	return v.unapplied()
}

// unapplied refuses where a channel whose threads are both stopped has a relay log
// that its start would drop.
func (v view) unapplied() error {
	applied, ok := v.mine.facts.Applied.Get()
	if !ok {
		return errors.New("applied position cannot be read")
	}
	for _, c := range v.channels {
		if c.IO == replication.ThreadStopped && c.SQL == replication.ThreadStopped {
			if err := nothingUnapplied(c, applied); err != nil {
				return err
			}
		}
	}
	return nil
}

// goOnFrom makes the position from which replication goes on the one that the
// database has. A server that was the source has its own writes in its binary log
// only. Without any position it starts where the source's binary log does.
func (s *session) goOnFrom(ctx context.Context, mine replication.Facts) error {
	has, ok := mine.Position()
	if !ok {
		return errors.New("position cannot be read")
	}
	applied, _ := mine.Applied.Get() // part of Position
	if has.Empty() || has.Equal(applied) {
		return nil
	}
	if err := s.exec(ctx, s.dialect.setApplied(has)); err != nil {
		return fmt.Errorf("set the position to %s: %w", has, err)
	}
	return nil
}

// changeSource points the channel at the source. Each server is told the password
// in the way that keeps it out of its logs.
func (s *session) changeSource(ctx context.Context, channel string, src Source) error {
	password, err := src.password()
	if err != nil {
		return err
	}
	for _, q := range s.dialect.quiet {
		if err := s.exec(ctx, q); err != nil {
			return fmt.Errorf("keep the password out of the slow query log: %w", err)
		}
	}
	s.changed = true
	statement, parameters := s.dialect.follow(channel, src, password)
	_, err = s.conn.ExecContext(ctx, statement, parameters...)
	if err != nil {
		if ctx.Err() == nil && !isLost(err) && !isTimeout(err) {
			err = scrub(err, password)
		}
		return fmt.Errorf("point the channel at %s: %w", src, err)
	}
	return nil
}

// startFollowing starts the channel's threads and waits until both run, and the source
// had time to refuse.
func (s *session) startFollowing(ctx context.Context, channel string) error {
	if err := s.exec(ctx, s.dialect.startChannel(channel)); err != nil {
		return fmt.Errorf("start the threads: %w", err)
	}
	began, run := time.Now(), time.Time{}
	for {
		channels, err := s.channels(ctx)
		if err != nil {
			return err
		}
		if len(channels) != 1 {
			return fmt.Errorf("there are %d channels after starting one", len(channels))
		}
		c := channels[0]
		last, _ := c.LastIOError.Get()
		failed := last.Number != 0 && (c.IO == replication.ThreadStopped || time.Since(began) > errorPatience)
		switch {
		case c.SQL == replication.ThreadStopped:
			e, _ := c.LastSQLError.Get()
			if e.Number != 0 || time.Since(began) > errorPatience {
				return &SQLThreadError{Channel: channel, Last: e}
			}
		case c.IO == replication.ThreadRunning && c.SQL == replication.ThreadRunning:
			if run.IsZero() {
				run = time.Now()
			}
			if time.Since(run) >= refusalTime {
				return nil
			}
		case failed:
			return &IOThreadError{Channel: channel, Last: last}
		default:
			run = time.Time{}
		}
		if err := pause(ctx, followPoll); err != nil {
			if last.Number != 0 {
				return fmt.Errorf("%w: %w", &IOThreadError{Channel: channel, Last: last}, err)
			}
			return fmt.Errorf("wait for the threads: %w", err)
		}
	}
}
