package systemd

// Units are started and stopped by jobs. A job's result comes as a signal, and
// signals get lost: with the bus, with the manager's re-execution. So whoever
// waits for one looks at the unit as well, and the unit's state decides.

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	manager "github.com/coreos/go-systemd/v22/dbus"
)

const (
	reconnectPatience = 5 * time.Second // a daemon-reexec takes well under one
	busyPatience      = 60 * time.Second
	reconnectFirst    = 20 * time.Millisecond
	reconnectMost     = 500 * time.Millisecond
	jobPoll           = 250 * time.Millisecond // between two looks at a unit with a job
	jobTries          = 3                      // orders given again after their result was lost
	cancelWait        = 2 * time.Second        // for taking back a job whose ctx has ended
)

// UnitsConfig names the sockets to try, in their order. Empty means
// PrivateSocket, then SystemBus.
type UnitsConfig struct{ Sockets []string }

// Units acts on the units of the local service manager and looks at them. It
// connects when it is first used and again when the connection is lost: calls
// then wait up to 5 s for the manager to come back, and up to 60 s for one that is
// there and busy, within their ctx. All
// methods may be called at the same time.
type Units struct {
	sockets []string

	mu     sync.Mutex // guards the fields below
	shared *bus
	closed bool
}

// NewUnits returns Units that are not connected yet.
func NewUnits(cfg UnitsConfig) *Units {
	if len(cfg.Sockets) == 0 {
		cfg.Sockets = []string{PrivateSocket, SystemBus}
	}
	return &Units{sockets: cfg.Sockets}
}

// ErrClosed is what every call returns after Close.
var ErrClosed = errors.New("the connection to the service manager is closed")

// Close ends the connection. It does not wait for calls in progress.
func (u *Units) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	if u.shared != nil {
		u.shared.Close()
		u.shared = nil
	}
	return nil
}

// UnitError is the manager's refusal to do something with a unit.
type UnitError struct {
	Unit   string
	Load   LoadState // NotFound or Masked when that is the reason
	Result JobResult // of the job, JobOther when there was none
	Err    error     // what the manager said; may be nil
}

func (e *UnitError) Error() string {
	switch {
	case e.Load == NotFound:
		return e.Unit + ": no such unit"
	case e.Load == Masked:
		return e.Unit + ": the unit is masked"
	case e.Result != JobOther:
		return e.Unit + ": the job ended as " + e.Result.String()
	}
	return fmt.Sprintf("%s: %v", e.Unit, e.Err)
}

func (e *UnitError) Unwrap() error { return e.Err }

func unitError(unit string, err error) error {
	if err == nil {
		return nil
	}
	e := &UnitError{Unit: unit, Err: err}
	switch errorName(err) {
	case "":
		return fmt.Errorf("%s: %w", unit, err)
	case errNoSuchUnit, errFileNotFound:
		e.Load = NotFound
	case errUnitMasked:
		e.Load = Masked
	}
	return e
}

// Start starts a unit and waits for the job. An active unit stays as it is. Its start
// limit is reset first: a unit that crashed, or was started and stopped, too often is
// otherwise refused until the interval is over.
func (u *Units) Start(ctx context.Context, unit string) error {
	u.resetLimit(ctx, unit)
	return u.work(ctx, unit, (*manager.Conn).StartUnitContext,
		func(_, now Status) bool { return now.ActiveState == Active })
}

// Stop stops a unit and waits for the job. Processes may be left (KillMode=process).
func (u *Units) Stop(ctx context.Context, unit string) error {
	return u.work(ctx, unit, (*manager.Conn).StopUnitContext,
		func(_, now Status) bool { return now.ActiveState == Inactive || now.ActiveState == Failed })
}

func (u *Units) resetLimit(ctx context.Context, unit string) {
	_ = u.do(ctx, func(b *bus) error { return b.ResetFailedUnitContext(ctx, unit) }) // the start will say what is wrong
}

// Restart stops and starts a unit and waits for the job. Its start limit is reset first.
func (u *Units) Restart(ctx context.Context, unit string) error {
	u.resetLimit(ctx, unit)
	return u.work(ctx, unit, (*manager.Conn).RestartUnitContext,
		func(before, now Status) bool {
			return now.ActiveState == Active && now.InvocationID != before.InvocationID
		})
}

// Reload asks a unit to read its configuration again and waits for the job.
func (u *Units) Reload(ctx context.Context, unit string) error {
	return u.work(ctx, unit, (*manager.Conn).ReloadUnitContext,
		func(_, _ Status) bool { return false })
}

type order func(c *manager.Conn, ctx context.Context, name, mode string, ch chan<- string) (int, error)

// work gives an order and waits until its job is over. When the result got lost,
// reached decides from the states before and after; without an answer the order
// is given again, which is harmless.
func (u *Units) work(ctx context.Context, unit string, give order, reached func(before, now Status) bool) error {
	before, err := u.Status(ctx, unit)
	if err != nil {
		return err
	}
	for range jobTries {
		result, known, err := u.job(ctx, unit, give)
		if err != nil {
			return unitError(unit, err)
		}
		if known {
			if result == JobDone || result == JobSkipped {
				return nil
			}
			return &UnitError{Unit: unit, Result: result}
		}
		now, err := u.settle(ctx, unit)
		switch {
		case err != nil:
			return err
		case reached(before, now):
			return nil
		case now.ActiveState == Failed && now.InvocationID != before.InvocationID:
			return &UnitError{Unit: unit, Result: JobFailed}
		}
	}
	return fmt.Errorf("%s: the result of %d jobs was lost", unit, jobTries)
}

// settle waits until a unit has no pending job.
func (u *Units) settle(ctx context.Context, unit string) (Status, error) {
	for {
		s, err := u.Status(ctx, unit)
		if err != nil || s.Job == 0 {
			return s, err
		}
		select {
		case <-ctx.Done():
			return s, fmt.Errorf("%s: %w", unit, context.Cause(ctx))
		case <-time.After(jobPoll):
		}
	}
}

// job gives one order and waits for its result; known is false when that was
// lost. Each job has a connection of its own: go-systemd holds a lock over the
// call, under which one slow order would hold up all others. When ctx ends, the
// job is taken back, so that it cannot run later.
func (u *Units) job(ctx context.Context, unit string, give order) (result JobResult, known bool, err error) {
	b, err := u.connect(ctx)
	if err != nil {
		return JobOther, false, err
	}
	defer b.Close()
	done := make(chan string, 1) // one job, one result: the dispatcher never blocks
	id, err := give(b.Conn, ctx, unit, "replace", done)
	if err != nil {
		if ctx.Err() == nil && b.lost(err) {
			return JobOther, false, nil
		}
		if ctx.Err() != nil { // the manager may have taken the order without telling us
			u.takeBack(ctx, unit, 0)
			err = context.Cause(ctx)
		}
		return JobOther, false, err
	}
	result, known, err = u.awaitJob(ctx, b, unit, uint32(id), done)
	if err != nil {
		u.takeBack(ctx, unit, uint32(id))
	}
	return result, known, err
}

func (u *Units) awaitJob(ctx context.Context, b *bus, unit string, id uint32, done <-chan string) (JobResult, bool, error) {
	poll := time.NewTicker(jobPoll)
	defer poll.Stop()
	for gone := false; ; {
		select {
		case r := <-done:
			return jobResults[r], true, nil
		case <-ctx.Done():
			return JobOther, false, context.Cause(ctx)
		case <-poll.C:
		}
		if !b.Connected() {
			return JobOther, false, nil
		}
		s, err := u.Status(ctx, unit)
		if err != nil && ctx.Err() == nil {
			return JobOther, false, err
		}
		if err == nil && s.Job != id {
			if gone { // since the last look, and still no signal: it is lost
				return JobOther, false, nil
			}
			gone = true
		}
	}
}

// takeBack cancels a job, by its id or, when that is 0, whichever the unit has.
// One that is over already is not there any more.
func (u *Units) takeBack(ctx context.Context, unit string, id uint32) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelWait)
	defer cancel()
	if id == 0 {
		s, err := u.Status(ctx, unit)
		if err != nil || s.Job == 0 {
			return
		}
		id = s.Job
	}
	_ = u.do(ctx, func(b *bus) error { return b.call(ctx, "CancelJob", id).Err })
}

// Status reads a unit. A unit that does not exist is no error: its LoadState
// says so.
func (u *Units) Status(ctx context.Context, unit string) (Status, error) {
	var s Status
	err := u.do(ctx, func(b *bus) error {
		p, err := b.GetAllPropertiesContext(ctx, unit)
		if err == nil {
			s = newStatus(unit, p)
		}
		return err
	})
	if err != nil {
		return Status{Unit: unit}, fmt.Errorf("status of %w", unitError(unit, err))
	}
	if s.Processes, err = processesIn(groupRoot(), s.ControlGroup); err != nil {
		return s, fmt.Errorf("processes of %s: %w", unit, err)
	}
	return s, nil
}

// Kill sends a signal to every process in the control group of a unit: through
// the manager and, as that may have forgotten the group of a unit at rest,
// directly to what such a unit left.
func (u *Units) Kill(ctx context.Context, unit string, sig syscall.Signal) error {
	err := u.do(ctx, func(b *bus) error {
		return b.KillUnitWithTarget(ctx, unit, manager.All, int32(sig))
	})
	s, statusErr := u.Status(ctx, unit)
	if statusErr != nil {
		return errors.Join(unitError(unit, err), statusErr)
	}
	atRest := s.ActiveState == Inactive || s.ActiveState == Failed
	if len(s.Processes) == 0 || (err == nil && !atRest) {
		return nil
	}
	if err := signalGroup(groupRoot(), s.ControlGroup, sig); err != nil {
		return fmt.Errorf("send %v to %s: %w", sig, unit, err)
	}
	return nil
}

// FileState reads whether a unit starts at boot.
func (u *Units) FileState(ctx context.Context, unit string) (FileState, error) {
	var word string
	err := u.do(ctx, func(b *bus) error { return b.call(ctx, "GetUnitFileState", unit).Store(&word) })
	switch errorName(err) {
	case errNoSuchUnit, errFileNotFound, errLoadFailed:
		return FileMissing, nil
	}
	if err != nil {
		return FileOther, fmt.Errorf("unit file state of %w", unitError(unit, err))
	}
	if word == "enabled-runtime" { // gone after the next boot
		return FileDisabled, nil
	}
	return fileStates[word], nil
}

// Enable makes a unit start at boot. It starts nothing.
func (u *Units) Enable(ctx context.Context, unit string) error {
	err := u.do(ctx, func(b *bus) error {
		_, changes, err := b.EnableUnitFilesContext(ctx, []string{unit}, false, false)
		if err != nil || len(changes) == 0 {
			return err
		}
		return b.ReloadContext(ctx)
	})
	return unitError(unit, err)
}

// Disable makes a unit not start at boot. It stops nothing.
func (u *Units) Disable(ctx context.Context, unit string) error {
	err := u.do(ctx, func(b *bus) error {
		changes, err := b.DisableUnitFilesContext(ctx, []string{unit}, false)
		if err != nil || len(changes) == 0 {
			return err
		}
		return b.ReloadContext(ctx)
	})
	return unitError(unit, err)
}

// do runs f on the shared connection, on a new one when that is lost. What f
// does must bear repeating.
func (u *Units) do(ctx context.Context, f func(*bus) error) error {
	limit := time.Now().Add(reconnectPatience)
	for {
		b, err := u.sharedBus(ctx)
		if err != nil {
			return err
		}
		err = f(b)
		if ctx.Err() != nil || !b.lost(err) || time.Now().After(limit) {
			return err
		}
		u.drop(b)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(reconnectFirst):
		}
	}
}

func (u *Units) sharedBus(ctx context.Context) (*bus, error) {
	u.mu.Lock()
	b, closed := u.shared, u.closed
	u.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	if b != nil && b.Connected() {
		return b, nil
	}
	fresh, err := u.connect(ctx)
	if err != nil {
		return nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.closed:
		fresh.Close()
		return nil, ErrClosed
	case u.shared != nil && u.shared != b && u.shared.Connected(): // somebody else was faster
		fresh.Close()
		return u.shared, nil
	}
	if u.shared != nil {
		u.shared.Close()
	}
	u.shared = fresh
	return fresh, nil
}

func (u *Units) drop(b *bus) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.shared == b {
		u.shared = nil
	}
	b.Close()
}

// connect dials until the manager answers. One that is not there gets its patience, one
// that takes the connection and has no time yet, as while it reads thousands of units,
// busyPatience; ctx ends both.
func (u *Units) connect(ctx context.Context) (*bus, error) {
	patience, cancel := context.WithTimeout(ctx, busyPatience)
	defer cancel()
	limit := time.Now().Add(reconnectPatience)
	for pause := reconnectFirst; ; pause = min(2*pause, reconnectMost) {
		b, err := dial(patience, u.sockets)
		if err == nil {
			return b, nil
		}
		if time.Now().After(limit) {
			return nil, fmt.Errorf("reach the service manager: %w", err)
		}
		select {
		case <-patience.Done():
			return nil, fmt.Errorf("reach the service manager: %w", err)
		case <-time.After(pause):
		}
	}
}
