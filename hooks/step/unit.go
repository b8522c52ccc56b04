package step

// The unit step. A unit is where it should be when its processes are: the
// manager's word alone is not enough, see systemd.Status.

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/systemd"
)

// Units is what a unit step needs of the service manager. *systemd.Units has it.
type Units interface {
	Status(ctx context.Context, unit string) (systemd.Status, error)
	FileState(ctx context.Context, unit string) (systemd.FileState, error)
	Start(ctx context.Context, unit string) error
	Stop(ctx context.Context, unit string) error
	Restart(ctx context.Context, unit string) error
	Reload(ctx context.Context, unit string) error
	Enable(ctx context.Context, unit string) error
	Disable(ctx context.Context, unit string) error
	Kill(ctx context.Context, unit string, sig syscall.Signal) error
}

const (
	unitPoll      = 50 * time.Millisecond
	startPatience = 2 * time.Second // for the first process after a start job is done
	leftoverGrace = 5 * time.Second // between SIGTERM and SIGKILL for what a stop left over
	undoWait      = 5 * time.Second // for stopping what a cancelled start had begun
)

type unit struct {
	verb  hooks.UnitVerb
	name  string
	units Units
	done  string // invocation that the last restart or reload left, empty before one
}

// NewUnit returns the step that brings one unit to where its verb says.
//
//   - start: active and, but for Type=oneshot and units that are no services, at
//     least one process lives. A service that is active without a process (the
//     LSB script whose daemon died) is restarted.
//   - stop: inactive or failed, and no process is left in its control group.
//     What the manager leaves gets SIGTERM and then SIGKILL; a stop that takes
//     three quarters of the time it has gets SIGKILL as well.
//   - restart, reload: never already so, until this step's own Apply succeeded
//     and as long as that run of the unit lasts.
//   - enable, disable: the unit file state; nothing is started or stopped.
//
// A unit that does not exist or is masked is Cannot, but a masked unit counts as
// stopped or disabled when it is, and one whose file is gone can be stopped
// while it runs.
func NewUnit(a hooks.Unit, units Units) Step {
	return &unit{verb: a.Verb, name: a.Name, units: units}
}

func (u *unit) Check(ctx context.Context) (State, error) {
	state, err := u.check(ctx)
	if err != nil {
		return cannot(u.explain(err))
	}
	return state, nil
}

func (u *unit) check(ctx context.Context) (State, error) {
	if u.verb == hooks.EnableUnit || u.verb == hooks.DisableUnit {
		return u.checkFile(ctx)
	}
	s, err := u.units.Status(ctx, u.name)
	if err != nil {
		return Cannot, err
	}
	if err := u.usable(s); err != nil {
		return Cannot, err
	}
	if u.reached(s) {
		return Ok, nil
	}
	return WouldChange, nil
}

// reached reports whether s is where the verb leads.
func (u *unit) reached(s systemd.Status) bool {
	switch u.verb {
	case hooks.StartUnit:
		return s.Running()
	case hooks.StopUnit:
		return s.Stopped()
	case hooks.RestartUnit, hooks.ReloadUnit:
		return u.done != "" && s.Running() && s.InvocationID == u.done
	case hooks.EnableUnit, hooks.DisableUnit: // the unit file's state says, see checkFile
	}
	return false
}

// usable says what rules the verb out.
func (u *unit) usable(s systemd.Status) error {
	stop := u.verb == hooks.StopUnit
	switch {
	case s.LoadState == systemd.NotFound && (!stop || s.Stopped()):
		return &systemd.UnitError{Unit: u.name, Load: systemd.NotFound}
	case s.LoadState == systemd.Masked && !stop:
		return &systemd.UnitError{Unit: u.name, Load: systemd.Masked}
	case u.verb == hooks.ReloadUnit && !s.Running():
		return fmt.Errorf("it does not run: %v", s)
	case u.verb == hooks.ReloadUnit && !s.CanReload:
		return errors.New("it cannot reload")
	}
	return nil
}

func (u *unit) checkFile(ctx context.Context) (State, error) {
	f, err := u.units.FileState(ctx, u.name)
	if err != nil {
		return Cannot, err
	}
	enable := u.verb == hooks.EnableUnit
	switch {
	case f == systemd.FileMissing:
		return Cannot, &systemd.UnitError{Unit: u.name, Load: systemd.NotFound}
	case f == systemd.FileGenerated:
		return Cannot, errors.New("it is generated, from a script in /etc/init.d for example, and has no unit file to " + u.verb.String())
	case f == systemd.FileMasked && enable:
		return Cannot, &systemd.UnitError{Unit: u.name, Load: systemd.Masked}
	case f == systemd.FileStatic && enable:
		return Cannot, errors.New("its unit file has no [Install] section")
	case enable == (f == systemd.FileEnabled):
		return Ok, nil
	}
	return WouldChange, nil
}

func (u *unit) Apply(ctx context.Context) error {
	state, err := u.check(ctx)
	if err != nil {
		return u.explain(err)
	}
	if state == Ok && u.verb != hooks.RestartUnit && u.verb != hooks.ReloadUnit {
		return nil
	}
	switch u.verb {
	case hooks.StartUnit:
		err = u.start(ctx)
	case hooks.StopUnit:
		err = u.stop(ctx)
	case hooks.RestartUnit:
		err = u.remember(ctx, u.bringUp(ctx, u.units.Restart))
	case hooks.ReloadUnit:
		err = u.remember(ctx, u.units.Reload(ctx, u.name))
	case hooks.EnableUnit:
		err = u.units.Enable(ctx, u.name)
	case hooks.DisableUnit:
		err = u.units.Disable(ctx, u.name)
	default:
		err = errors.New("unknown verb")
	}
	return u.explain(err)
}

func (u *unit) explain(err error) error {
	if err == nil {
		return nil
	}
	if strings.HasPrefix(err.Error(), u.name+":") { // the manager's refusals name the unit themselves
		return fmt.Errorf("%v %w", u.verb, err)
	}
	return fmt.Errorf("%v %s: %w", u.verb, u.name, err)
}

func (u *unit) start(ctx context.Context) error {
	s, err := u.units.Status(ctx, u.name)
	if err != nil {
		return err
	}
	if s.ActiveState == systemd.Active {
		return u.bringUp(ctx, u.units.Restart) // active without a process: a start would do nothing
	}
	return u.bringUp(ctx, u.units.Start)
}

// bringUp gives the order and waits until the unit runs. An order whose time ran
// out leaves the unit as it is and says so: a process that runs while its start
// script hangs is worth more than none. A cancelled one is undone.
func (u *unit) bringUp(ctx context.Context, give func(context.Context, string) error) error {
	if err := give(ctx, u.name); err != nil {
		if errors.Is(ctx.Err(), context.Canceled) {
			return errors.Join(err, u.undo(ctx))
		}
		return u.withState(ctx, err)
	}
	patience, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	s, err := u.poll(patience, func(s systemd.Status) bool {
		return s.Running() || s.ActiveState == systemd.Failed || s.ActiveState == systemd.Inactive
	})
	switch {
	case err == nil && s.Running():
		return nil
	case err != nil && ctx.Err() != nil:
		return err
	}
	return fmt.Errorf("it does not run: %v", s)
}

// withState adds to err what the unit looks like now.
func (u *unit) withState(ctx context.Context, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoWait)
	defer cancel()
	s, statusErr := u.units.Status(ctx, u.name)
	if statusErr != nil {
		return err
	}
	return fmt.Errorf("%w; it is %v", err, s)
}

// undo stops a unit that was on its way up when its plan was cancelled. One that
// has arrived stays for the next plan to judge.
func (u *unit) undo(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoWait)
	defer cancel()
	s, err := u.units.Status(ctx, u.name)
	if err != nil || s.ActiveState != systemd.Activating {
		return err
	}
	return u.stop(ctx)
}

func (u *unit) stop(ctx context.Context) error {
	ordered, cancel := context.WithDeadline(ctx, patienceOf(ctx))
	defer cancel()
	err := u.units.Stop(ordered, u.name)
	switch {
	case ctx.Err() != nil:
		return u.withState(ctx, context.Cause(ctx))
	case err != nil && ordered.Err() == nil && !jobOver(err):
		return err
	case ordered.Err() != nil:
		if err := u.units.Kill(ctx, u.name, syscall.SIGKILL); err != nil {
			return err
		}
	}
	return u.clear(ctx)
}

// patienceOf is when a stop is no longer waited for.
func patienceOf(ctx context.Context) time.Time {
	now := time.Now()
	deadline, ok := ctx.Deadline()
	if !ok {
		return now.Add(hooks.DefaultTimeout)
	}
	return now.Add(deadline.Sub(now) * 3 / 4)
}

// jobOver reports a stop job that ended badly: the processes still decide.
func jobOver(err error) bool {
	refused := (*systemd.UnitError)(nil)
	return errors.As(err, &refused) && refused.Result != systemd.JobOther
}

// clear waits until the unit is at rest and ends what is left in its control group.
func (u *unit) clear(ctx context.Context) error {
	grace := leftoverGrace
	if deadline, ok := ctx.Deadline(); ok {
		grace = min(grace, time.Until(deadline)/2)
	}
	kill := time.Now().Add(grace)
	var sent syscall.Signal
	s, err := u.poll(ctx, func(s systemd.Status) bool {
		if s.Stopped() {
			return true
		}
		sig := syscall.SIGTERM
		if time.Now().After(kill) {
			sig = syscall.SIGKILL
		}
		atRest := s.ActiveState == systemd.Inactive || s.ActiveState == systemd.Failed
		if sig != sent && (atRest || sig == syscall.SIGKILL) && u.units.Kill(ctx, u.name, sig) == nil {
			sent = sig
		}
		return false
	})
	if err != nil {
		return fmt.Errorf("it is %v, processes %v: %w", s, s.Processes, err)
	}
	return nil
}

// remember notes which run of the unit this step left behind.
func (u *unit) remember(ctx context.Context, err error) error {
	u.done = ""
	if err != nil {
		return err
	}
	s, err := u.units.Status(ctx, u.name)
	if err != nil {
		return err
	}
	u.done = s.InvocationID
	return nil
}

// poll reads the unit until enough says so or ctx ends, and returns the last
// reading.
func (u *unit) poll(ctx context.Context, enough func(systemd.Status) bool) (systemd.Status, error) {
	var last systemd.Status
	for {
		s, err := u.units.Status(ctx, u.name)
		if err == nil {
			if last = s; enough(s) {
				return s, nil
			}
		} else if ctx.Err() == nil {
			return last, err
		}
		select {
		case <-ctx.Done():
			return last, context.Cause(ctx)
		case <-time.After(unitPoll):
		}
	}
}
