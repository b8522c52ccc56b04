package lab_test

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/test/lab"
)

// place is a node or the switch.
type place interface {
	lab.End
	Do(func() error) error
	Addr(lab.Path) netip.Addr
}

// mailbox is a UDP socket of a place on one path.
type mailbox struct {
	t    *testing.T
	conn *net.UDPConn
	addr netip.AddrPort
}

func openMailbox(t *testing.T, p place, path lab.Path) mailbox {
	t.Helper()
	m := mailbox{t: t}
	must(t, p.Do(func() error {
		var err error
		m.conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(p.Addr(path), 0)))
		return err
	}))
	t.Cleanup(func() { m.conn.Close() })
	m.addr = m.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return m
}

func (m mailbox) send(to mailbox, text string) {
	m.t.Helper()
	_, err := m.conn.WriteToUDPAddrPort([]byte(text), to.addr)
	must(m.t, err)
}

// next returns the next message that arrives.
func (m mailbox) next() string {
	m.t.Helper()
	must(m.t, m.conn.SetReadDeadline(time.Now().Add(patience)))
	buf := make([]byte, 64)
	n, err := m.conn.Read(buf)
	must(m.t, err)
	return string(buf[:n])
}

// carries fails unless a message gets through, and was not preceded by another.
func carries(from, to mailbox, text string) {
	from.t.Helper()
	from.send(to, text)
	if got := to.next(); got != text {
		from.t.Errorf("%v to %v: got %q, want %q", from.addr, to.addr, got, text)
	}
}

func TestCutOneWay(t *testing.T) {
	l := sharedLab(t)
	for _, tt := range []struct {
		name     string
		from, to place
	}{
		{"a to b", l.A, l.B},
		{"b to switch", l.B, l.Switch},
		{"switch to a", l.Switch, l.A},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx := withPatience(t)
			defer func() { must(t, l.Heal(context.WithoutCancel(ctx))) }()
			from, to := openMailbox(t, tt.from, lab.Eth0), openMailbox(t, tt.to, lab.Eth0)
			from1, to1 := openMailbox(t, tt.from, lab.Eth1), openMailbox(t, tt.to, lab.Eth1)
			// The kernels learn each other's hardware address while ARP works both ways.
			for _, pair := range [][2]mailbox{{from, to}, {from1, to1}} {
				carries(pair[0], pair[1], "before")
				carries(pair[1], pair[0], "before")
			}

			must(t, l.CutOneWay(ctx, tt.from, tt.to, lab.Eth0))
			from.send(to, "lost")
			carries(to, from, "the other direction")
			carries(from1, to1, "the other path")
			must(t, l.CutOneWay(ctx, tt.from, tt.to))
			from1.send(to1, "lost")
			carries(to1, from1, "the other direction")

			must(t, l.Heal(ctx))
			carries(from, to, "healed")
			carries(from1, to1, "healed")
		})
	}
	if err := l.CutOneWay(t.Context(), l.A, l.A); err == nil {
		t.Error("cut a node from itself")
	}
}

func TestCutOutlivesPowerCycle(t *testing.T) {
	l, ctx := sharedLab(t), withPatience(t)
	must(t, l.CutOneWay(ctx, l.Switch, l.B, lab.Eth1))
	defer func() { must(t, l.Heal(ctx)) }()
	must(t, l.B.PowerOff(ctx))
	must(t, l.B.PowerOn(ctx))
	if pings(ctx, l, l.B.Addr(lab.Eth1)) {
		t.Error("the cut path answers")
	}
	if !pings(ctx, l, l.B.Addr(lab.Eth0)) {
		t.Error("the other path does not answer")
	}
}

// A neighbour that learned the switch's hardware address can go on using it
// whichever nodes come and go.
func TestSwitchKeepsItsAddress(t *testing.T) {
	l, ctx := sharedLab(t), withPatience(t)
	address := func() string {
		out, err := l.Switch.Exec(ctx, "ip", "-br", "link", "show", "br0")
		must(t, err)
		return out
	}
	must(t, l.A.PowerOff(ctx))
	if got := address(); !strings.Contains(got, l.Switch.MAC(lab.Eth0).String()) {
		t.Errorf("with a off: %s", got)
	}
	must(t, l.A.PowerOn(ctx))
	if got := address(); !strings.Contains(got, l.Switch.MAC(lab.Eth0).String()) {
		t.Errorf("with a on: %s", got)
	}
}

func TestLose(t *testing.T) {
	l, ctx := sharedLab(t), withPatience(t)
	for _, percent := range []int{0, 100} {
		if err := l.Lose(ctx, l.A, l.B, percent); err == nil {
			t.Errorf("took %d %%", percent)
		}
	}
	from, to := openMailbox(t, l.A, lab.Eth0), openMailbox(t, l.B, lab.Eth0)
	carries(from, to, "before")
	must(t, l.Lose(ctx, l.A, l.B, 50, lab.Eth0))
	const sent = 200
	for i := range sent {
		from.send(to, strconv.Itoa(i))
	}
	must(t, l.Heal(ctx))
	from.send(to, "end")
	got := 0
	for to.next() != "end" {
		got++
	}
	// 200 fair coins fall outside 50 to 150 once in 10^12 runs.
	if got < 50 || got > 150 {
		t.Errorf("%d of %d arrived at 50 %% loss", got, sent)
	}
}

func TestCable(t *testing.T) {
	l, ctx := sharedLab(t), withPatience(t)
	link := func(n *lab.Node, p lab.Path) string { return sh(t, ctx, n, "ip link show "+p.String()) }
	plugged := func(p lab.Path) func() bool {
		return func() bool { return strings.Contains(link(l.A, p), ",LOWER_UP") }
	}
	must(t, l.CableDown(l.A, lab.Eth0))
	eventually(t, ctx, "carrier lost", func() bool { return strings.Contains(link(l.A, lab.Eth0), "NO-CARRIER") })
	if !plugged(lab.Eth1)() {
		t.Error("the other cable went too")
	}
	if pings(ctx, l, l.A.Addr(lab.Eth0)) {
		t.Error("an unplugged interface answers")
	}
	must(t, l.A.Reboot(ctx))
	if plugged(lab.Eth0)() {
		t.Error("a reboot plugged the cable in")
	}
	must(t, l.CableUp(l.A, lab.Eth0))
	eventually(t, ctx, "carrier back", plugged(lab.Eth0))
	eventually(t, ctx, "answers", func() bool { return pings(ctx, l, l.A.Addr(lab.Eth0)) })
}

// Names would be looked up on another thread, outside the lab.
func TestDialTakesAddressesOnly(t *testing.T) {
	l := sharedLab(t)
	if _, err := l.Switch.DialContext(context.Background(), "tcp", "localhost:22"); err == nil {
		t.Error("dialled a name")
	}
}
