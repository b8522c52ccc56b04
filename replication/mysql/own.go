package mysql

// What a server wrote itself, apart from what it applied as a replica: the part
// that stands still once its writes are closed.

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tanist-ha/tanist/replication"
)

// written is what a server's own clients wrote, as text that is equal while
// nothing is written, and where that leaves the server.
type written struct {
	own      string
	position replication.Position
	readOnly bool
}

func (s *session) ownWrites(ctx context.Context) (written, error) {
	r, err := queryOne(ctx, s.conn, s.dialect.variables)
	if err != nil {
		return written{}, err
	}
	var f replication.Facts
	fillVariables(&f, r)
	position, ok := f.Position()
	readOnly, readOnlyOK := f.ReadOnly.Get()
	if !ok || !readOnlyOK {
		return written{}, fmt.Errorf("positions cannot be read: applied %s, executed %s, read_only %s", f.Applied, f.Executed, f.ReadOnly)
	}
	if s.dialect.family == familyMySQL {
		uuid := r["server_uuid"].String
		if uuid == "" {
			return written{}, errors.New("server_uuid cannot be read")
		}
		return written{own: intervalsOf(uuid, r["executed"].String), position: position, readOnly: readOnly}, nil
	}
	state, stateOK := f.BinlogState.Get()
	server, serverOK := f.ServerID.Get()
	if !stateOK || !serverOK {
		return written{}, fmt.Errorf("own writes cannot be read: state of the binary log %s, server_id %s", f.BinlogState, f.ServerID)
	}
	return written{own: state.WrittenBy(server).String(), position: position, readOnly: readOnly}, nil
}

// intervalsOf returns the part of a server's own GTID set that one server wrote,
// tags included, as the server writes it.
func intervalsOf(uuid, set string) string {
	var own []string
	for element := range strings.SplitSeq(set, ",") {
		if source, intervals, ok := strings.Cut(strings.TrimSpace(element), ":"); ok && strings.EqualFold(source, uuid) {
			own = append(own, intervals)
		}
	}
	return strings.Join(own, ":")
}
