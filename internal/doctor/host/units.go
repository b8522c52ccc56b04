// Package host looks at this host for package doctor: its service manager, packet
// filters, clock and network interfaces. It changes nothing.
package host

import (
	"context"
	"fmt"
	"time"

	"github.com/tanist-ha/tanist/internal/doctor"
	"github.com/tanist-ha/tanist/systemd"
)

// Units looks at the units of the service manager.
type Units struct{ Manager *systemd.Units }

// managerTime bounds the first question to the service manager.
const managerTime = 2 * time.Second

// Reach asks the service manager whether it is there. On a host without one the
// Units that it returns say so at once.
func (u Units) Reach(ctx context.Context) (doctor.Units, error) {
	ctx, cancel := context.WithTimeout(ctx, managerTime)
	defer cancel()
	if _, err := u.Manager.Status(ctx, "-.slice"); err != nil {
		return none{}, fmt.Errorf("%w: %w", doctor.ErrNoManager, err)
	}
	return u, nil
}

// none is where no service manager answers.
type none struct{}

func (none) Unit(context.Context, string) (doctor.Unit, error) {
	return doctor.Unit{}, doctor.ErrNoManager
}

// Unit returns what is known of a unit.
func (u Units) Unit(ctx context.Context, name string) (doctor.Unit, error) {
	s, err := u.Manager.Status(ctx, name)
	if err != nil {
		return doctor.Unit{}, err
	}
	file, err := u.Manager.FileState(ctx, name)
	if err != nil {
		return doctor.Unit{}, err
	}
	return doctor.Unit{
		Exists: s.LoadState != systemd.NotFound, Running: s.Running() || len(s.Processes) > 0, State: s.String(),
		AtBoot: file == systemd.FileEnabled, LSB: file == systemd.FileGenerated,
	}, nil
}
