package main

import (
	"context"
	"errors"
	"regexp"
	"time"

	"github.com/tanist-ha/tanist/hooks/notify"
	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/node"
	"github.com/tanist-ha/tanist/systemd"
	"github.com/tanist-ha/tanist/systemd/units"
)

// How long a planned leave may take, and what the service manager is told of it.

// programTime is what a program of a notice has to end when nobody waits any more.
const programTime = 3 * time.Second

// leaveTime bounds the time from SIGTERM to the end of the process. The instances
// leave side by side; then the node ends, the notices, the other parts and the log.
func leaveTime(file *config.File, self int) time.Duration {
	var longest time.Duration
	for _, in := range file.Instances {
		longest = max(longest, failover.LeaveTime(failover.Config{
			Lease: in.Lease, Promote: in.Promote, Demote: in.Demote, Node: file.Nodes[self].Label,
		}))
	}
	return longest + endTime
}

// endTime is what the process takes once all instances have left.
const endTime = node.EndTime + notify.LeaveTime + programTime + partTime + logTime

// askAgainFor is how often the manager is asked for what is left: a message can get
// lost.
const askAgainFor = 10 * time.Second

// askForTime asks the service manager for what is left of the time that a leave may
// take. After that it may do as its unit says.
func (d *daemon) askForTime(ctx context.Context) error {
	d.mu.Lock()
	left := leaveTime(d.file, d.self)
	d.mu.Unlock()
	// A loop that does not answer has nothing to add: the plans bound it.
	if longest, err := d.node.LeaveTime(ctx); err == nil {
		left = max(left, longest+endTime)
	}
	for ; left > 0; left -= askAgainFor {
		d.said("needs its time", d.notifier.ExtendTimeout(left))
		if !sleep(ctx, askAgainFor) {
			return nil
		}
	}
	<-ctx.Done()
	return nil
}

// managerPatience bounds the question: without an answer the shipped unit counts.
const managerPatience = time.Second

// daemonUnit is the unit of the daemon.
const daemonUnit = "tanist.service"

// stopTimeout notes a unit that lets the daemon too little time for its leave. It is
// a note: the daemon asks for what it needs, and a manager that hears it waits.
func (h *hostCheck) stopTimeout(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, managerPatience)
	defer cancel()
	need := leaveTime(h.file, h.self)
	has, err := h.units.StopTimeout(ctx, daemonUnit)
	switch {
	case err == nil:
	case errors.Is(err, systemd.ErrNoStopTimeout):
		return // the manager waits for ever
	default: // no manager, or no such unit on this host
		has, err = shippedStopTimeout()
	}
	if err != nil || has >= need {
		return
	}
	h.notice("instances", "put TimeoutStopSec="+need.Round(time.Second).String()+" into a drop-in of "+daemonUnit+", or shorten the timeouts of the plans",
		"a planned leave may take %s with these plans, and %s gives it %s", need.Round(time.Second), daemonUnit, has)
}

// shippedStopTimeout reads the TimeoutStopSec of the unit file that packages install.
func shippedStopTimeout() (time.Duration, error) {
	m := regexp.MustCompile(`(?m)^TimeoutStopSec=(\S+)$`).FindStringSubmatch(units.Tanist)
	if m == nil {
		return 0, errors.New("the shipped unit has no TimeoutStopSec")
	}
	return time.ParseDuration(m[1])
}
