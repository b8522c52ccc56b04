package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/internal/doctor"
)

// keepers are the services that keep a clock.
func keepers() []string {
	return []string{"chrony.service", "chronyd.service", "systemd-timesyncd.service", "ntpsec.service", "ntp.service", "ntpd.service", "openntpd.service"}
}

// Clock asks the kernel how its clock is kept, and the service manager by what.
func Clock(ctx context.Context, units doctor.Units) (doctor.Clock, error) {
	var t unix.Timex // Modes 0 only reads
	state, err := unix.Adjtimex(&t)
	if errors.Is(err, unix.EPERM) {
		return doctor.Clock{Foreign: true}, nil // reading needs no privilege where the clock is one's own
	}
	if err != nil {
		return doctor.Clock{}, fmt.Errorf("read the state of the clock: %w", err)
	}
	c := doctor.Clock{
		Synchronised: state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0,
		MaxError:     time.Duration(t.Maxerror) * time.Microsecond,
	}
	for _, name := range keepers() {
		if runs(ctx, units, name) {
			c.Service = name
			break
		}
	}
	return c, nil
}
