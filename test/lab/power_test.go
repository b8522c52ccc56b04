package lab_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/test/lab"
)

// pings reports whether an address answers the switch.
func pings(ctx context.Context, l *lab.Lab, to netip.Addr) bool {
	_, err := l.Switch.Exec(ctx, "ping", "-n", "-c1", "-W1", to.String())
	return err == nil
}

// greeted opens a connection to the node's sshd and reads its greeting.
func greeted(t *testing.T, ctx context.Context, l *lab.Lab, n *lab.Node) net.Conn {
	t.Helper()
	conn, err := l.Switch.DialContext(ctx, "tcp", netip.AddrPortFrom(n.Addr(lab.Eth0), 22).String())
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, len("SSH-2.0-"))); err != nil {
		t.Fatal(err)
	}
	return conn
}

// silent reads what is left of the greeting and fails if the connection ends.
func silent(t *testing.T, conn net.Conn) {
	t.Helper()
	must(t, conn.SetReadDeadline(time.Now().Add(500*time.Millisecond)))
	if _, err := io.Copy(io.Discard, conn); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection ended: %v", err)
	}
}

func TestPowerCutAndReturn(t *testing.T) {
	l, ctx := sharedLab(t), withPatience(t)
	n := l.B
	must(t, n.WriteFile("/srv/before", []byte("written before"), 0o600))
	long, err := n.Start(ctx, lab.Command{Argv: []string{"sleep", "infinity"}})
	must(t, err)
	conn, boots := greeted(t, ctx, l, n), n.Boots()

	must(t, n.PowerOff(ctx))
	silent(t, conn)
	if err := long.Wait(); err == nil {
		t.Error("a command survived its node")
	}
	if n.On() {
		t.Error("the node says that it is on")
	}
	if pings(ctx, l, n.Addr(lab.Eth0)) {
		t.Error("a node without power answers ping")
	}
	for what, err := range map[string]error{
		"Exec":   ignore(n.Exec(ctx, "true")),
		"Do":     n.Do(func() error { return nil }),
		"Freeze": n.Freeze(ctx),
		"SQL":    ignore(n.SQL(ctx, "SELECT 1")),
	} {
		if !errors.Is(err, lab.ErrOff) {
			t.Errorf("%s on a node that is off: %v", what, err)
		}
	}
	must(t, n.PowerOff(ctx))
	must(t, n.WriteFile("/srv/meanwhile", nil, 0o600))

	must(t, n.PowerOn(ctx))
	if err := n.PowerOn(ctx); !errors.Is(err, lab.ErrOn) {
		t.Errorf("power on twice: %v", err)
	}
	if got := n.Boots(); got != boots+1 {
		t.Errorf("boots went from %d to %d", boots, got)
	}
	if got := sh(t, ctx, n, "cat /srv/before; ls /srv/meanwhile; systemctl is-system-running; hostname"); got !=
		"written before/srv/meanwhile\nrunning\nreserve" {
		t.Errorf("after its return:\n%s", got)
	}
	if !pings(ctx, l, n.Addr(lab.Eth1)) {
		t.Error("the returned node does not answer")
	}
}

func ignore[T any](_ T, err error) error { return err }

func TestShutdownAndReboot(t *testing.T) {
	l, ctx := sharedLab(t), withPatience(t)
	n := l.A
	sh(t, ctx, n, "systemd-run --quiet --unit=clean --property=ExecStop='/bin/touch /srv/stopped-cleanly' sleep infinity")
	boots := n.Boots()
	must(t, n.Reboot(ctx))
	if got := n.Boots(); got != boots+1 {
		t.Errorf("boots went from %d to %d", boots, got)
	}
	must(t, n.Remove("/srv/stopped-cleanly"))
	sh(t, ctx, n, "systemd-run --quiet --unit=clean --property=ExecStop='/bin/touch /srv/stopped-cleanly' sleep infinity")
	must(t, n.Shutdown(ctx))
	if n.On() {
		t.Error("the node says that it is on")
	}
	if _, err := n.ReadFile("/srv/stopped-cleanly"); err != nil {
		t.Errorf("units were not stopped: %v", err)
	}
	if _, err := n.Journal(ctx, "clean"); err != nil {
		t.Errorf("journal of a node that is off: %v", err)
	}
	must(t, n.Shutdown(ctx))
	must(t, n.PowerOn(ctx))
}

func TestFreezeAndThaw(t *testing.T) {
	l, ctx := sharedLab(t), withPatience(t)
	n := l.A
	const file = "/srv/ticks"
	p, err := n.Start(ctx, lab.Command{Argv: []string{"sh", "-c", "while :; do echo >>" + file + "; sleep 0.02; done"}})
	must(t, err)
	ticks := func() int {
		data, err := n.ReadFile(file)
		if err != nil {
			return 0
		}
		return strings.Count(string(data), "\n")
	}
	eventually(t, ctx, "it ticks", func() bool { return ticks() > 0 })
	conn := greeted(t, ctx, l, n)

	must(t, n.Freeze(ctx))
	before := ticks()
	silent(t, conn)
	for _, a := range []netip.Addr{n.Addr(lab.Eth0), n.Addr6(lab.Eth1)} {
		if pings(ctx, l, a) {
			t.Errorf("the frozen node's kernel answers at %s", a)
		}
	}
	if after := ticks(); after != before {
		t.Errorf("a frozen process went on from %d to %d", before, after)
	}
	if _, err := n.Exec(ctx, "true"); !errors.Is(err, lab.ErrFrozen) {
		t.Errorf("Exec on a frozen node: %v", err)
	}
	if err := n.Shutdown(ctx); !errors.Is(err, lab.ErrFrozen) {
		t.Errorf("Shutdown of a frozen node: %v", err)
	}

	must(t, n.Thaw(ctx))
	eventually(t, ctx, "it ticks again", func() bool { return ticks() > before })
	eventually(t, ctx, "it answers again", func() bool { return pings(ctx, l, n.Addr(lab.Eth0)) })
	if _, err := fmt.Fprint(conn, "SSH-2.0-lab\r\n"); err != nil {
		t.Errorf("the connection did not outlive the pause: %v", err)
	}
	must(t, n.Freeze(ctx))
	must(t, n.PowerOff(ctx))
	if err := p.Wait(); err == nil {
		t.Error("a frozen process survived the power cut")
	}
	must(t, n.PowerOn(ctx))
	if !pings(ctx, l, n.Addr(lab.Eth0)) {
		t.Error("a node that lost power while frozen came back mute")
	}
}
