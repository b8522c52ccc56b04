package systemd

// Readiness, status and watchdog, said to the manager without ever waiting for
// it: the caller is the loop whose punctuality the watchdog guards.

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// Notifier speaks sd_notify(3). Without a manager that listens (NOTIFY_SOCKET
// unset) every method does nothing. No method blocks: a message that the
// manager's queue has no room for is dropped, which is an error the caller may
// ignore, as the next one repeats it. Its methods but Close may be called
// concurrently. A nil Notifier is valid and silent.
type Notifier struct {
	fd       int
	to       string // the manager's socket
	interval time.Duration
}

// NewNotifier reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID.
func NewNotifier() (*Notifier, error) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return nil, fmt.Errorf("read the watchdog interval: %w", err)
	}
	n := &Notifier{fd: -1, interval: interval}
	address := os.Getenv("NOTIFY_SOCKET")
	if address == "" {
		n.interval = 0
		return n, nil
	}
	if address[0] != '/' && address[0] != '@' {
		return nil, fmt.Errorf("notification socket %q: neither a path nor an abstract name", address)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a socket to the service manager: %w", err)
	}
	n.fd, n.to = fd, address // "@" stands for the abstract namespace
	return n, nil
}

// Close closes the socket. No other method may be called afterwards.
func (n *Notifier) Close() error {
	if n == nil || n.fd < 0 {
		return nil
	}
	return unix.Close(n.fd)
}

// WatchdogInterval is how long the manager waits for a Watchdog before it kills
// the service; 0 when it does not wait. Call Watchdog at a third of it.
func (n *Notifier) WatchdogInterval() time.Duration {
	if n == nil {
		return 0
	}
	return n.interval
}

// Ready says that the service can serve, for the first time or after Reloading.
func (n *Notifier) Ready() error { return n.send(daemon.SdNotifyReady) }

// Status sets the line that systemctl status shows.
func (n *Notifier) Status(line string) error {
	return n.send("STATUS=" + strings.Map(oneLine, line))
}

// Stopping says that the service has begun to end.
func (n *Notifier) Stopping() error { return n.send(daemon.SdNotifyStopping) }

// Reloading says that the service reads its configuration again; Ready ends it.
func (n *Notifier) Reloading() error {
	return n.send(daemon.SdNotifyReloading + "\n" + strings.TrimSpace(daemon.SdNotifyMonotonicUsec()))
}

// Watchdog says that the service made progress. Only the loop that did may say so.
func (n *Notifier) Watchdog() error {
	if n == nil || n.interval == 0 {
		return nil
	}
	return n.send(daemon.SdNotifyWatchdog)
}

// ExtendTimeout asks for at least d more, from now on, for starting or stopping.
func (n *Notifier) ExtendTimeout(d time.Duration) error {
	return n.send(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", d.Microseconds()))
}

func oneLine(r rune) rune {
	if r < ' ' {
		return ' '
	}
	return r
}

func (n *Notifier) send(state string) error {
	if n == nil || n.fd < 0 {
		return nil
	}
	to := unix.SockaddrUnix{Name: n.to} // Sendto writes into it
	err := unix.Sendto(n.fd, []byte(state), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, &to)
	if errors.Is(err, unix.EINTR) {
		err = unix.Sendto(n.fd, []byte(state), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, &to)
	}
	if err != nil {
		word, _, _ := strings.Cut(state, "\n")
		return fmt.Errorf("notify the service manager of %s: %w", word, err)
	}
	return nil
}
