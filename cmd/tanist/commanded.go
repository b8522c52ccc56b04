package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/control"
)

// commandPatience bounds how long a command waits for its record: as long as the
// disk may take before it counts as failing.
const commandPatience = 5 * time.Second

// doingRefuse is what the log says of a change that somebody may not make.
const doingRefuse = "refuse a change over the control socket"

var errUnrecorded = errors.New("the disk does not take the journal's records in time")

// Commanded journals what somebody told this node to do, before it is done.
func (d *daemon) Commanded(ctx context.Context, c control.Command) error {
	instance := c.Instance
	if names := d.node.Names(); instance == "" && len(names) == 1 {
		instance = names[0]
	} else if instance != "" {
		if _, err := d.instanceName(instance); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, commandPatience, errUnrecorded)
	defer cancel()
	r := hooks.Record{Command: c.Verb, Arguments: c.Arguments, Reason: c.Reason, UID: c.UID}
	if err := d.node.Command(ctx, instance, r, !c.Safer); err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, errUnrecorded) {
			err = cause
		}
		return fmt.Errorf("journal who wants it: %w", err)
	}
	d.log.event(kindCommand, zapcore.InfoLevel, "told by an operator", zap.String("instance", instance), zap.String("command", c.Verb),
		zap.String("arguments", c.Arguments), zap.String("by", account(c.UID)), zap.Uint32("uid", c.UID), zap.String("why", c.Reason))
	return nil
}

// Refused notes who wanted to change something and may not, once in a while.
func (d *daemon) Refused(r control.Refusal) {
	d.log.Trouble("", doingRefuse,
		fmt.Errorf("%s, for uid %s: %w", r.Verb, strconv.FormatUint(uint64(r.UID), 10), r.Why))
}
