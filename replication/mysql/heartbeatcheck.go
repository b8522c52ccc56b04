package mysql

// What keeps heartbeats from being written is to be found by a check.

import (
	"context"
	"errors"
	"fmt"
)

// HeartbeatAdvice returns what keeps heartbeats from being written or read, nil
// for nothing. It writes nothing: the server only explains how it would.
func (d *Database) HeartbeatAdvice(ctx context.Context) (*Advice, error) {
	if d.beats.db == nil {
		return nil, nil
	}
	var advice *Advice
	err := d.look(ctx, "look at the heartbeat table", func(ctx context.Context, s *session) error {
		me, err := queryOne(ctx, s.conn, "SELECT CURRENT_USER() AS account")
		if err != nil {
			return err
		}
		user, host, _ := cutLast(me["account"].String, "@")
		if err = s.tryBeat(ctx, d.beats.table); err != nil {
			advice, err = s.dialect.adviseBeat(d.beats.table, quoteName(user)+"@"+quoteName(host), err)
		}
		return err
	})
	return advice, err
}

// tryBeat does all of a heartbeat but the write: explaining a statement takes the
// privileges and the columns that executing it does.
func (s *session) tryBeat(ctx context.Context, t Table) error {
	if err := s.logsRows(ctx); err != nil {
		return err
	}
	if _, err := query(ctx, s.conn, "SELECT server_id, epoch, beat FROM "+t.String()+" LIMIT 0"); err != nil {
		return err
	}
	_, err := query(ctx, s.conn, "EXPLAIN "+s.dialect.insertBeat(t, 0, "0"))
	return err
}

// adviseBeat says what to do about an error of tryBeat, or returns it.
func (d *dialect) adviseBeat(t Table, account string, err error) (*Advice, error) {
	if f, ok := errors.AsType[*formatError](err); ok {
		return &Advice{
			What: f.Error(),
			Fix:  "write binlog_format=ROW below [" + d.section + "] in the server's own configuration, on both nodes",
		}, nil
	}
	const where = "on the active node: "
	switch serverErrorNumber(err) {
	case errTableAccessDenied:
		// Who may not look is not told whether there is a table.
		return &Advice{
			What: fmt.Sprintf("heartbeat table %s is not there, or the account may not use it: %v", t, err),
			Fix:  where + t.Definition() + "; GRANT SELECT, INSERT, UPDATE ON " + t.String() + " TO " + account,
		}, nil
	case errNoSuchTable, errNoSuchDatabase:
		return &Advice{What: fmt.Sprintf("there is no heartbeat table %s", t), Fix: where + t.Definition()}, nil
	case errNoSuchColumn:
		return &Advice{What: fmt.Sprintf("%s is no heartbeat table: %v", t, err), Fix: "name another table, and make it: " + t.Definition()}, nil
	case errReadOnly: // of a closed server that does not explain a write either
		return nil, nil
	default:
		return nil, err
	}
}
