package step

// The exec step: a program of the operator's, whose exit status decides.

import (
	"context"
	"errors"
	"fmt"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/program"
)

// ExitError is a program that ended otherwise than with exit status 0.
type ExitError = program.ExitError

// OutputLimit bounds what is kept of a program's output, in bytes: the first
// half says what it began with, the last half how it ended.
const OutputLimit = program.OutputLimit

type execution struct {
	action hooks.Exec
	cgroup string
	output *program.Output
	done   bool // the last Apply succeeded
}

// NewExec returns the step that runs a program: argument vector, no shell,
// process group of its own, standard input /dev/null, working directory /, umask 022,
// no other open file, no signal blocked or ignored, none of the daemon's precedence, and
// an environment of PATH, LANG=C.UTF-8, with an account HOME, USER and LOGNAME,
// and what the action adds. The account must be one that os/user can look up.
//
// When the program ends, what is left in its process group is killed, so a
// service that is to stay belongs in a unit. When ctx ends first, the group gets
// SIGTERM and 2 s later SIGKILL. A process that left the group (setsid) is out
// of reach unless cgroup names a delegated control group (see program.DelegatedCgroup):
// then each run has a group of its own below it, and all of that is killed.
// Empty means none.
//
// With a verify program Check is Ok when that exits with 0. Without one there is
// nothing to look at: Check is Ok once Apply succeeded, WouldChange before. As long as
// the kernel holds on to a verify program that got SIGKILL, Check starts no other.
//
// The step is an Outputter.
func NewExec(a hooks.Exec, cgroup string) Step {
	return &execution{action: a, cgroup: cgroup, output: new(program.Output)}
}

func (e *execution) Output() []byte { return e.output.Bytes() }

func (e *execution) Check(ctx context.Context) (State, error) {
	if _, err := program.Find(ctx, e.command(e.action.Command)); err != nil {
		return cannot(err)
	}
	if len(e.action.Verify) == 0 {
		if e.done {
			return Ok, nil
		}
		return WouldChange, nil
	}
	verify := e.command(e.action.Verify)
	verify.Alone = true // a role that lasts is checked every few seconds
	p, err := program.Find(ctx, verify)
	if err != nil {
		return cannot(fmt.Errorf("verify: %w", err))
	}
	err = p.Run(ctx, new(program.Output))
	if exit := (*ExitError)(nil); errors.As(err, &exit) {
		return WouldChange, nil
	}
	if err != nil {
		return cannot(fmt.Errorf("verify: %w", err))
	}
	return Ok, nil
}

func (e *execution) Apply(ctx context.Context) error {
	e.output, e.done = new(program.Output), false
	p, err := program.Find(ctx, e.command(e.action.Command))
	if err != nil {
		return err
	}
	if err := p.Run(ctx, e.output); err != nil {
		return err
	}
	e.done = true
	return nil
}

func (e *execution) command(argv []string) program.Command {
	return program.Command{Argv: argv, User: e.action.User, Env: e.action.Env, Cgroup: e.cgroup}
}
