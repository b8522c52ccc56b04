package site

// What an operator does by hand with the databases of a site, and how far they
// are, asked of the servers.

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/tanist-ha/tanist/test/lab"
)

// Follow points a database of a host at the other host and starts it. What it
// wrote itself counts as received.
func (s *Site) Follow(ctx context.Context, d Database, n *lab.Node) error {
	for _, statement := range []string{
		"STOP SLAVE",
		changeMaster(s.Peer(n), d) + ", MASTER_DEMOTE_TO_SLAVE=1",
		"START SLAVE",
	} {
		if _, err := d.SQL(ctx, n, statement); err != nil {
			return fmt.Errorf("follow: %w", err)
		}
	}
	return nil
}

func changeMaster(source *lab.Node, d Database) string {
	return fmt.Sprintf("CHANGE MASTER TO MASTER_HOST='%s', MASTER_PORT=%d, MASTER_USER='%s', MASTER_PASSWORD='%s', "+
		"MASTER_CONNECT_RETRY=1, MASTER_USE_GTID=slave_pos", source.Addr(lab.Eth0), d.Port(), lab.ReplUser, lab.ReplPassword)
}

// Truncate empties the tables, by the host that takes writes.
func (s *Site) Truncate(ctx context.Context, active *lab.Node) error {
	return s.eachDatabase(ctx, func(ctx context.Context, d Database) error {
		_, err := d.SQL(ctx, active, "TRUNCATE TABLE app.writes")
		return err
	})
}

// HoldTable keeps a database of a host from applying rows until it is released.
func (s *Site) HoldTable(ctx context.Context, d Database, n *lab.Node) (release func(), err error) {
	db, err := n.DBAt(d.Socket())
	if err != nil {
		return nil, err
	}
	conn, err := db.Conn(ctx)
	if err == nil {
		_, err = conn.ExecContext(ctx, "LOCK TABLES app.writes READ")
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return sync.OnceFunc(func() {
		// A session that ends gives up its locks.
		_ = conn.Raw(func(any) error { return errBad })
		_ = conn.Close()
		_ = db.Close()
	}), nil
}

// Applied is all that a database of a host has, by whichever way it came.
func (d Database) Applied(ctx context.Context, n *lab.Node) (Position, error) {
	text, err := d.value(ctx, n, "SELECT @@GLOBAL.gtid_current_pos")
	if err != nil {
		return nil, err
	}
	return ParsePosition(text)
}

// History is the last transaction of each server that a database of a host has
// in its binary log.
func (d Database) History(ctx context.Context, n *lab.Node) (map[[2]uint32]uint64, error) {
	text, err := d.value(ctx, n, "SELECT @@GLOBAL.gtid_binlog_state")
	if err != nil {
		return nil, err
	}
	state := map[[2]uint32]uint64{}
	for word := range strings.SplitSeq(text, ",") {
		if word == "" {
			continue
		}
		g, err := ParseGTID(word)
		if err != nil {
			return nil, err
		}
		state[[2]uint32{g.Domain, g.Server}] = g.Seq
	}
	return state, nil
}

// Errant lists what a database of a standby has and the active host's has not: of
// each server the first and the last such transaction are not known, only the
// last one that either has.
func (s *Site) Errant(ctx context.Context, d Database, standby *lab.Node) ([]string, error) {
	// The standby first: what the active host adds meanwhile is no error.
	own, err := d.History(ctx, standby)
	if err != nil {
		return nil, err
	}
	has, err := d.History(ctx, s.Peer(standby))
	if err != nil {
		return nil, err
	}
	var errant []string
	for of, seq := range own {
		if seq > has[of] {
			errant = append(errant, fmt.Sprintf("%d-%d-%d (the active host: %d)", of[0], of[1], seq, has[of]))
		}
	}
	return errant, nil
}

// replicaState is what SHOW SLAVE STATUS says, as far as it matters.
type replicaState struct {
	io, sql           string
	ioError, sqlError string
	received, applied Position
}

// Channel returns the state of a database's only channel.
func (d Database) channel(ctx context.Context, n *lab.Node) (replicaState, error) {
	db, err := n.DBAt(d.Socket())
	if err != nil {
		return replicaState{}, err
	}
	defer db.Close()
	return readReplica(ctx, db)
}

// AwaitEqual waits until every database of the standby follows the active host
// and has all that this has written so far.
func (s *Site) AwaitEqual(ctx context.Context, active *lab.Node) error {
	standby := s.Peer(active)
	return s.eachDatabase(ctx, func(ctx context.Context, d Database) error {
		want, err := d.Applied(ctx, active)
		if err != nil {
			return err
		}
		return Await(ctx, d.Name()+" of "+standby.Hostname+" has caught up", func(ctx context.Context) error {
			st, err := d.channel(ctx, standby)
			switch {
			case err != nil:
				return err
			case st.io != "Yes" || st.sql != "Yes":
				return fmt.Errorf("IO thread %s %s, SQL thread %s %s", st.io, st.ioError, st.sql, st.sqlError)
			case !st.applied.Covers(want):
				return fmt.Errorf("%d transactions are missing", st.applied.Lacks(want))
			}
			return nil
		})
	})
}
