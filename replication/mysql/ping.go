package mysql

// A ping asks no more than whether the server answers.

import (
	"context"
	"errors"
	"fmt"

	"github.com/tanist-ha/tanist/replication"
)

// Ping asks the server for an answer over the probe connection, which a measurement
// under way has first. A server that refuses a connection because it has too many is
// alive.
func (d *Database) Ping(ctx context.Context) error {
	err := d.pingOnce(ctx)
	if err != nil && isLost(err) && ctx.Err() == nil {
		err = d.pingOnce(ctx) // the idle connection is gone, the server perhaps is not
	}
	switch {
	case err == nil || reachOf(err) == replication.ReachTooManyConnections:
		return nil
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("database %s does not answer in time", d.name)
	}
	return fmt.Errorf("database %s: %w", d.name, err)
}

func (d *Database) pingOnce(ctx context.Context) error {
	c, err := d.probe.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	// COM_PING is answered also by a server that can run no statement any more.
	_, err = queryOne(ctx, c, "SELECT 1")
	return err
}
