package main

import (
	"context"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/hooks/step"
)

// steps makes the steps of one instance and carries them out.
type steps struct {
	databases databases
	units     step.Units
	turn      *turn
	cgroup    string // where programs get control groups of their own, empty: none
}

func (s steps) step(a hooks.Action) step.Step {
	switch a := a.(type) {
	case hooks.Unit:
		return step.NewUnit(a, s.units)
	case hooks.YAML:
		return step.NewYAML(a)
	case hooks.JSON:
		return step.NewJSON(a)
	case hooks.Line:
		return step.NewLine(a)
	case hooks.Exec:
		return step.NewExec(a, s.cgroup)
	case hooks.Writes:
		return s.databases.step(a)
	case hooks.Replication:
		switch a.Verb {
		case hooks.FollowPeer:
			return followStep{s.databases}
		case hooks.ResetReplication:
			return &resetStep{databases: s.databases}
		case hooks.StopReplication, hooks.StartReplication, hooks.NoReplication:
		}
		return s.databases.step(a)
	case hooks.VIP:
	}
	return nil
}

// Run makes the world as the action wants it.
func (s steps) Run(ctx context.Context, a hooks.Action) (hooks.Outcome, string) {
	st := s.step(a)
	if st == nil {
		return hooks.Failed, "nobody carries out a step of kind " + a.Kind()
	}
	if onDatabases(a) {
		// What an operator began gives way to the plan.
		done, err := s.turn.step(ctx)
		if err != nil {
			return hooks.TimedOut, err.Error()
		}
		defer done()
	}
	return step.Execute(ctx, st)
}

// Check says what Run would do.
func (s steps) Check(ctx context.Context, a hooks.Action) (hooks.Outcome, string) {
	st := s.step(a)
	if st == nil {
		return hooks.Failed, "nobody carries out a step of kind " + a.Kind()
	}
	return step.DryRun(ctx, st)
}
