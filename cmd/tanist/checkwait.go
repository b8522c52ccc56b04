package main

import (
	"context"
	"errors"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/hooks/step"
)

// lsyncdPatience is how long an lsyncd may take to write its status: twice as long
// makes a planned switchover at least as much longer.
const lsyncdPatience = 3 * time.Second

// wait looks at the lsyncd that a plan waits for. Where it does not run, as on a
// standby, there is nothing to look at.
func (h *hostCheck) wait(ctx context.Context, at string, a hooks.Wait) {
	if a.Lsyncd == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lsyncdPatience)
	defer cancel()
	err := step.AskLsyncd(ctx, a.Lsyncd)
	switch {
	case err == nil, errors.Is(err, step.ErrLsyncdDown):
	case ctx.Err() != nil:
		h.notice(at, "write statusInterval = 1 into the settings of lsyncd", "lsyncd does not write %s within %s: a switchover waits for two reports, or until the step's timeout", a.Lsyncd, lsyncdPatience)
	default:
		h.problem(at, "write statusFile = \""+a.Lsyncd+"\" into the settings of lsyncd", "lsyncd runs, and its status cannot be read: %v", err)
	}
}
