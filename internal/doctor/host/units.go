// Package host looks at this host for package doctor: its service manager, packet
// filters, clock and network interfaces. It changes nothing.
package host

import (
	"context"

	"github.com/tanist-ha/tanist/internal/doctor"
	"github.com/tanist-ha/tanist/systemd"
)

// Units looks at the units of the service manager.
type Units struct{ Manager *systemd.Units }

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
