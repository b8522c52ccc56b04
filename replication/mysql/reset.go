package mysql

// A channel that only stands still comes back with the next restart of a server
// that starts its channels. One that is reset does not.

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// ResetReplication stops every channel as StopReplication does and then removes
// its settings, so that no thread comes back when the server restarts. It returns
// the settings that the channels had, for the way back, without the password,
// which no server shows; empty when there was no channel. Beside an error they are
// those of the channels that are gone. It refuses with what
// StopReplication refuses with, because a reset drops what was received and not
// applied, and where the account lacks what ResetGrants names.
func (d *Database) ResetReplication(ctx context.Context) (settings string, err error) {
	err = d.act(ctx, "reset replication", func(ctx context.Context, s *session) error {
		rows, err := query(ctx, s.conn, s.dialect.channels)
		if err != nil || len(rows) == 0 {
			return err
		}
		// Before the threads stop for nothing.
		missing, err := s.missingGrants(ctx, s.dialect.resetPrivileges)
		if err != nil {
			return err
		}
		if len(missing) > 0 {
			return fmt.Errorf("account %s lacks the privilege %s: %s", d.user, missing[0].Privilege, missing[0].Fix)
		}
		if err := s.stopDrained(ctx); err != nil {
			return err
		}
		var texts []string
		for _, r := range rows {
			was := settingsOf(r)
			if err := s.exec(ctx, s.dialect.resetChannel(was.channel)); err != nil {
				return fmt.Errorf("reset the channel%s: %w", channelLabel(was.channel), err)
			}
			texts = append(texts, was.String())
			slices.Sort(texts)
			settings = strings.Join(texts, "; ") // also when the next one fails
		}
		left, err := s.channels(ctx)
		if err != nil {
			return err
		}
		if len(left) > 0 {
			return fmt.Errorf("there are still %d channels after a reset", len(left))
		}
		return nil
	})
	return settings, err
}

// HasChannels reports whether the database has any channel, running or not.
func (d *Database) HasChannels(ctx context.Context) (bool, error) {
	has := false
	err := d.look(ctx, "read channels", func(ctx context.Context, s *session) error {
		channels, err := s.channels(ctx)
		has = len(channels) > 0
		return err
	})
	return has, err
}
