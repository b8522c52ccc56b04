package systemd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// ErrNoStopTimeout says that the manager waits for the end of a service for ever.
var ErrNoStopTimeout = errors.New("without a time limit")

// StopTimeout returns how long the manager waits for the end of a service before it
// kills it (TimeoutStopSec=), ErrNoStopTimeout when there is no limit, and a
// *UnitError when there is no such unit.
func (u *Units) StopTimeout(ctx context.Context, unit string) (time.Duration, error) {
	st, err := u.Status(ctx, unit)
	if err != nil {
		return 0, err
	}
	if st.LoadState != Loaded {
		return 0, &UnitError{Unit: unit, Load: st.LoadState}
	}
	var limit uint64
	err = u.do(ctx, func(b *bus) error {
		p, err := b.GetUnitTypePropertyContext(ctx, unit, "Service", "TimeoutStopUSec")
		if err != nil {
			return err
		}
		var ok bool
		if limit, ok = p.Value.Value().(uint64); !ok {
			return fmt.Errorf("TimeoutStopUSec is %s", p.Value.String())
		}
		return nil
	})
	switch {
	case err != nil:
		return 0, unitError(unit, err)
	case limit == math.MaxUint64:
		return 0, fmt.Errorf("%s: %w", unit, ErrNoStopTimeout)
	}
	return time.Duration(min(limit, math.MaxInt64/1000)) * time.Microsecond, nil
}
