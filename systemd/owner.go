package systemd

import (
	"context"
	"fmt"

	"github.com/godbus/dbus/v5"
)

const errNoUnitForPID = "org.freedesktop.systemd1.NoUnitForPID"

// UnitOf returns the name of the unit that a process belongs to, empty when it
// belongs to none. A process that ends meanwhile can give its id to another: who
// asks holds the process, and looks whether it is still there afterwards.
func (u *Units) UnitOf(ctx context.Context, pid int) (string, error) {
	var name string
	err := u.do(ctx, func(b *bus) error {
		var path dbus.ObjectPath
		if err := b.call(ctx, "GetUnitByPID", uint32(pid)).Store(&path); err != nil {
			return err
		}
		return b.property(ctx, path, "Id", &name)
	})
	if errorName(err) == errNoUnitForPID {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("unit of process %d: %w", pid, err)
	}
	return name, nil
}

// property reads one property that all units have.
func (b *bus) property(ctx context.Context, path dbus.ObjectPath, name string, into any) error {
	var v dbus.Variant
	err := b.calls.Object("org.freedesktop.systemd1", path).
		CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, "org.freedesktop.systemd1.Unit", name).Store(&v)
	if err != nil {
		return err
	}
	return v.Store(into)
}
