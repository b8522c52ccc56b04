package doctor

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strings"
)

// Unit is what the service manager says of a unit.
type Unit struct {
	Exists  bool
	Running bool   // its processes say so
	State   string // in one line
	AtBoot  bool   // its unit file is enabled
	LSB     bool   // made from a script in /etc/init.d
}

// ErrNoManager says that the service manager cannot be asked about any unit. The
// checks then leave out what they would have asked it: it is a finding of its own.
var ErrNoManager = errors.New("the service manager does not answer")

// Units looks at the units of this host.
type Units interface {
	Unit(ctx context.Context, name string) (Unit, error)
}

// AtBoot wants that the boot starts tanist.service and none of the units that the
// plans start and stop: a node that comes up would run what the other one runs.
func AtBoot(ctx context.Context, units Units, root fs.FS, planned []string) []Finding {
	var found []Finding
	for _, name := range planned {
		u, err := units.Unit(ctx, name)
		switch {
		case err != nil:
			found = append(found, failed(EnabledAtBoot, name, err)...)
		case !u.Exists: // `tanist check` says so
		case u.AtBoot || u.LSB && inRunlevel(root, name):
			f := wrong(EnabledAtBoot, name, "%s starts at boot, although the plans start and stop it", name).
				because("systemctl is-enabled %s: enabled", name)
			if u.Running {
				f = f.because("it runs now")
			}
			found = append(found, f.fix("systemctl disable "+name))
		default:
			found = append(found, fine(EnabledAtBoot, name, "%s does not start at boot", name))
		}
	}
	return append(found, ourselves(ctx, units)...)
}

const ownUnit = "tanist.service"

func ourselves(ctx context.Context, units Units) []Finding {
	u, err := units.Unit(ctx, ownUnit)
	switch {
	case err != nil:
		return failed(NotEnabledAtBoot, ownUnit, err)
	case !u.Exists:
		return nil // whoever runs the daemon otherwise knows
	case !u.AtBoot:
		return []Finding{warn(NotEnabledAtBoot, ownUnit, "%s does not start at boot", ownUnit).
			because("after a power cut this node has no heartbeat and cannot take over").fix("systemctl enable " + ownUnit)}
	}
	return []Finding{fine(NotEnabledAtBoot, ownUnit, "%s starts at boot", ownUnit)}
}

// inRunlevel reports whether a script of /etc/init.d is linked to start.
func inRunlevel(root fs.FS, unit string) bool {
	links, _ := fs.Glob(root, "etc/rc[2345].d/S[0-9][0-9]"+strings.TrimSuffix(unit, path.Ext(unit)))
	return len(links) > 0
}

func failed(code Code, about string, err error) []Finding {
	if errors.Is(err, ErrNoManager) {
		return nil
	}
	f := warn(CheckFailed, about, "%s of %s could not be looked at", strings.ReplaceAll(string(code), "_", " "), about)
	return []Finding{f.because("%v", err)}
}

// StoppedDaemon is the finding that no daemon runs here, with what systemd says.
func StoppedDaemon(ctx context.Context, units Units, socket string, err error) Finding {
	f := wrong(DaemonDown, ownUnit, "no daemon runs on this node: nothing of the pair was asked").because("%v", err)
	u, uerr := units.Unit(ctx, ownUnit)
	switch {
	case uerr != nil:
		return f.because("%s: %v", ownUnit, uerr).fix("systemctl status " + ownUnit)
	case !u.Exists:
		return f.because("%s: no such unit", ownUnit).fix("# start it as it was started before; it listens on " + socket)
	}
	f = f.because("%s: %s", ownUnit, u.State)
	if !u.Running {
		return f.fix("systemctl start "+ownUnit, "journalctl -u "+ownUnit+" -n 20   # if it does not stay up")
	}
	return f.fix("journalctl -u "+ownUnit+" -n 20", "# it runs and does not answer on "+socket+": is --socket the same?")
}
