package systemd

// One connection to the manager. It does not outlive the manager's socket: a
// daemon-reexec or the end of the bus ends it, and Units makes a new one.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	manager "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// PrivateSocket is the manager's own socket: root only, and it needs no bus.
const PrivateSocket = "/run/systemd/private"

// SystemBus is the socket of the system bus.
const SystemBus = "/run/dbus/system_bus_socket"

// bus is a connection through go-systemd, with the connection below it for the
// calls that go-systemd does not offer.
type bus struct {
	*manager.Conn
	calls *dbus.Conn
}

// dial connects to the first socket that answers. ctx bounds the dialling, not
// the life of the connection.
func dial(ctx context.Context, sockets []string) (*bus, error) {
	var errs error
	for _, path := range sockets {
		b, err := dialSocket(ctx, path)
		if err == nil {
			return b, nil
		}
		errs = errors.Join(errs, fmt.Errorf("connect to %s: %w", path, err))
	}
	return nil, errs
}

func dialSocket(ctx context.Context, path string) (*bus, error) {
	b := new(bus)
	// Neither authentication nor go-systemd's first call takes a context. A
	// manager that hangs must not hang us: when ctx ends, reads and writes fail.
	var release []func() bool
	conn, err := manager.NewConnection(func() (*dbus.Conn, error) {
		raw, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		if err != nil {
			return nil, err
		}
		release = append(release, context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) }))
		c, err := dbus.NewConn(raw)
		if err != nil {
			raw.Close()
			return nil, err
		}
		if err := greet(c, path); err != nil {
			c.Close()
			return nil, err
		}
		if b.calls == nil {
			b.calls = c // the first carries the calls, the second the signals
		}
		return c, nil
	})
	late := false
	for _, inTime := range release {
		late = !inTime() || late
	}
	if err != nil {
		return nil, err
	}
	if late {
		conn.Close()
		return nil, context.Cause(ctx)
	}
	b.Conn = conn
	return b, nil
}

func greet(c *dbus.Conn, path string) error {
	if err := c.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err != nil {
		return err
	}
	if path == PrivateSocket {
		return nil // no bus, so nobody to say hello to
	}
	return c.Hello()
}

func (b *bus) call(ctx context.Context, method string, args ...any) *dbus.Call {
	return b.calls.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1").
		CallWithContext(ctx, "org.freedesktop.systemd1.Manager."+method, 0, args...)
}

// Names of D-Bus errors that callers branch on.
const (
	errNoSuchUnit   = "org.freedesktop.systemd1.NoSuchUnit"
	errLoadFailed   = "org.freedesktop.systemd1.LoadFailed"
	errUnitMasked   = "org.freedesktop.systemd1.UnitMasked"
	errFileNotFound = "org.freedesktop.DBus.Error.FileNotFound"
)

func errorName(err error) string {
	if e := (dbus.Error{}); errors.As(err, &e) {
		return e.Name
	}
	if e := (*dbus.Error)(nil); errors.As(err, &e) {
		return e.Name
	}
	return ""
}

// lost reports an error that says nothing about the unit: the connection or the
// manager's end of it went away.
func (b *bus) lost(err error) bool {
	if err == nil {
		return false
	}
	if errors.Is(err, dbus.ErrClosed) || broken(err) || !b.Connected() {
		return true
	}
	switch name := errorName(err); name {
	case "org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.ServiceUnknown",
		"org.freedesktop.DBus.Error.NameHasNoOwner", "org.freedesktop.DBus.Error.Disconnected":
		return true
	default:
		return strings.HasPrefix(name, "org.freedesktop.DBus.Error.Spawn")
	}
}

// broken reports an error of the socket itself. Who writes can meet it before the
// connection has noticed that the manager is gone.
func broken(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed)
}
