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
	notices   *notices
}

// step makes the step of s's expanded action; say hears how far it is.
func (s steps) step(of hooks.Step, say func(string)) step.Step {
	switch a := of.Action.(type) {
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
	case hooks.Link:
		return step.NewLink(a)
	case hooks.Wait:
		return step.NewWait(a, say)
	case hooks.Notify:
		return step.NewNotify(a, func(a hooks.Notify) { s.notices.post(of, a) })
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

// Run makes the world as the step's action wants it.
func (s steps) Run(ctx context.Context, of hooks.Step, say func(string)) hooks.Result {
	st := s.step(of, say)
	if st == nil {
		return hooks.Result{Outcome: hooks.Failed, Detail: "nobody carries out a step of kind " + of.Action.Kind()}
	}
	if onDatabases(of.Action) {
		// What an operator began gives way to the plan.
		done, err := s.turn.step(ctx)
		if err != nil {
			return hooks.Result{Outcome: hooks.TimedOut, Detail: err.Error()}
		}
		defer done()
	}
	res := hooks.Result{}
	res.Outcome, res.Detail = step.Execute(ctx, st)
	res.Output = step.Printed(st)
	return res
}

// Check says what Run would do.
func (s steps) Check(ctx context.Context, a hooks.Action) (hooks.Outcome, string) {
	st := s.step(hooks.Step{Action: a}, nil)
	if st == nil {
		return hooks.Failed, "nobody carries out a step of kind " + a.Kind()
	}
	return step.DryRun(ctx, st)
}
