package systemd

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func listen(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func receive(t *testing.T, l *net.UnixConn) string {
	t.Helper()
	buf := make([]byte, 1<<16)
	if err := l.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, err := l.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestNotifierMessages(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), "@tanist-notify-" + strconv.Itoa(os.Getpid())} {
		l := listen(t, name)
		t.Setenv("NOTIFY_SOCKET", name)
		t.Setenv("WATCHDOG_USEC", "3000000")
		t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
		n, err := NewNotifier()
		if err != nil {
			t.Fatal(err)
		}
		if n.WatchdogInterval() != 3*time.Second {
			t.Errorf("interval %v", n.WatchdogInterval())
		}
		var got []string
		for _, say := range []func() error{
			n.Ready, n.Stopping, n.Watchdog, func() error { return n.Status("active,\nREADY=0") },
			func() error { return n.ExtendTimeout(time.Minute) },
		} {
			if err := say(); err != nil {
				t.Error(err)
			}
			got = append(got, receive(t, l))
		}
		want := []string{"READY=1", "STOPPING=1", "WATCHDOG=1", "STATUS=active, READY=0", "EXTEND_TIMEOUT_USEC=60000000"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if err := n.Reloading(); err != nil {
			t.Error(err)
		}
		if m := receive(t, l); !regexp.MustCompile(`^RELOADING=1\nMONOTONIC_USEC=[0-9]+$`).MatchString(m) {
			t.Errorf("got %q", m)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestNotifierWithoutManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "3000000")
	n, err := NewNotifier()
	if err != nil || n.WatchdogInterval() != 0 {
		t.Fatal(n, err)
	}
	for _, n := range []*Notifier{n, nil} {
		if err := errors.Join(n.Ready(), n.Watchdog(), n.Status("x"), n.Stopping(), n.Reloading(), n.Close()); err != nil {
			t.Error(err)
		}
	}
}

// A manager that does not read must not stop the loop it watches.
func TestNotifierNeverBlocks(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	listen(t, name)
	t.Setenv("NOTIFY_SOCKET", name)
	n, err := NewNotifier()
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for range 100000 {
		if err = n.Ready(); err != nil {
			break
		}
	}
	if !errors.Is(err, unix.EAGAIN) {
		t.Errorf("a full queue: %v", err)
	}
}
