package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/vrrp"
	"github.com/tanist-ha/tanist/vrrp/internal/netnstest"
)

const (
	heart = "heart0"
	limit = 10 * time.Second
)

var (
	addrA = netip.MustParseAddr("192.0.2.11")
	addrB = netip.MustParseAddr("192.0.2.12")
	addrC = netip.MustParseAddr("192.0.2.13")
)

func hosts(t *testing.T) (a, b *netnstest.Namespace) {
	t.Helper()
	a, b = netnstest.New(t), netnstest.New(t)
	netnstest.Connect(t, a, b, heart)
	a.AddAddr(t, heart, "192.0.2.11/24")
	b.AddAddr(t, heart, "192.0.2.12/24")
	b.AddAddr(t, heart, "192.0.2.13/24")
	return a, b
}

func listen(t *testing.T, ns *netnstest.Namespace, local, peer netip.Addr) *Conn {
	t.Helper()
	var c *Conn
	err := ns.Do(func() (err error) {
		c, err = Listen(Config{Local: local, Peer: peer})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
	return c
}

// inbox keeps what a Conn delivers.
type inbox struct {
	mu      sync.Mutex
	packets []Packet
}

// deliver gives other goroutines a chance between recvmsg and delivery, where
// a Drain without the lock would return too early.
func (in *inbox) deliver(p Packet) {
	runtime.Gosched()
	p.Payload = bytes.Clone(p.Payload)
	in.mu.Lock()
	defer in.mu.Unlock()
	in.packets = append(in.packets, p)
}

func (in *inbox) all() []Packet {
	in.mu.Lock()
	defer in.mu.Unlock()
	return append([]Packet(nil), in.packets...)
}

// run runs c until the test ends and requires that nothing ended it before.
func run(t *testing.T, c *Conn) *inbox {
	t.Helper()
	in := &inbox{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx, in.deliver) }()
	netnstest.Eventually(t, limit, "Run to start", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.deliver != nil
	})
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return in
}

func send(t testing.TB, c *Conn, payload string) {
	t.Helper()
	if err := c.Send([]byte(payload)); err != nil {
		t.Fatal(err)
	}
}

func TestTwoEndsTalk(t *testing.T) {
	nsA, nsB := hosts(t)
	a, b := listen(t, nsA, addrA, addrB), listen(t, nsB, addrB, addrA)
	inA, inB := run(t, a), run(t, b)
	send(t, a, "from a")
	send(t, b, "from b")
	send(t, a, "second")
	netnstest.Eventually(t, limit, "three packets", func() bool { return len(inA.all()) == 1 && len(inB.all()) == 2 })
	want := []Packet{
		{Source: addrA, Destination: addrB, TTL: 255, Payload: []byte("from a")},
		{Source: addrA, Destination: addrB, TTL: 255, Payload: []byte("second")},
	}
	if diff := cmp.Diff(want, inB.all(), cmp.Comparer(func(x, y netip.Addr) bool { return x == y })); diff != "" {
		t.Errorf("packets (-want +got):\n%s", diff)
	}
}

// rawSender sends protocol 112 from one of b's addresses to a with any TTL.
func rawSender(t *testing.T, ns *netnstest.Namespace, from netip.Addr, ttl int) func(payload []byte) {
	t.Helper()
	var fd int
	err := ns.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, vrrp.Protocol); err != nil {
			return err
		}
		return errors.Join(
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, ttl),
			unix.Bind(fd, &unix.SockaddrInet4{Addr: from.As4()}),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return func(payload []byte) {
		t.Helper()
		if err := unix.Sendto(fd, payload, 0, &unix.SockaddrInet4{Addr: addrA.As4()}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTTLOtherThan255IsDropped(t *testing.T) {
	nsA, nsB := hosts(t)
	a, b := listen(t, nsA, addrA, addrB), listen(t, nsB, addrB, addrA)
	in := run(t, a)
	routed := rawSender(t, nsB, addrB, 254)
	routed([]byte("routed"))
	routed([]byte("routed again"))
	send(t, b, "direct")
	netnstest.Eventually(t, limit, "the direct packet", func() bool { return len(in.all()) > 0 })
	if got := in.all(); len(got) != 1 || string(got[0].Payload) != "direct" {
		t.Errorf("delivered %v, want the direct packet alone", got)
	}
	if got := a.Dropped(vrrp.DropTTL); got != 2 {
		t.Errorf("%d packets dropped for their TTL, want 2", got)
	}
}

// TestOtherSourceIsDropped sends from another address of the peer's host: the
// kernel keeps it away from a connected socket, and accept is asked directly
// for what arrives before connect.
func TestOtherSourceIsDropped(t *testing.T) {
	nsA, nsB := hosts(t)
	a, b := listen(t, nsA, addrA, addrB), listen(t, nsB, addrB, addrA)
	in := run(t, a)
	rawSender(t, nsB, addrC, 255)([]byte("stranger"))
	send(t, b, "peer")
	netnstest.Eventually(t, limit, "the peer's packet", func() bool { return len(in.all()) > 0 })
	if got := in.all(); len(got) != 1 || got[0].Source != addrB {
		t.Errorf("delivered %v, want the peer's packet alone", got)
	}
}

func ipv4Packet(src, dst netip.Addr, ttl byte, payload ...byte) []byte {
	b := make([]byte, ipv4MinHeader, ipv4MinHeader+len(payload))
	b[0], b[ipv4TTL] = 0x45, ttl
	copy(b[ipv4Source:], src.AsSlice())
	copy(b[ipv4Dest:], dst.AsSlice())
	return append(b, payload...)
}

func TestAccept(t *testing.T) {
	c := &Conn{cfg: Config{Local: addrA, Peer: addrB}, local: addrA, peer: addrB}
	withOptions := append(ipv4Packet(addrB, addrA, 255), 1, 1, 1, 0, 'x')
	withOptions[0] = 0x46
	shortHeader := ipv4Packet(addrB, addrA, 255)
	shortHeader[0] = 0x44
	longHeader := ipv4Packet(addrB, addrA, 255)
	longHeader[0] = 0x4f
	for _, tt := range []struct {
		name    string
		b       []byte
		flags   int32
		payload string
		want    vrrp.DropReason
	}{
		{name: "good", b: ipv4Packet(addrB, addrA, 255, 'x'), payload: "x"},
		{name: "options are skipped", b: withOptions, payload: "x"},
		{name: "ttl 254", b: ipv4Packet(addrB, addrA, 254, 'x'), want: vrrp.DropTTL},
		{name: "source", b: ipv4Packet(addrC, addrA, 255, 'x'), want: vrrp.DropSource},
		{name: "destination", b: ipv4Packet(addrB, addrC, 255, 'x'), want: vrrp.DropSource},
		{name: "truncated", b: ipv4Packet(addrB, addrA, 255, 'x'), flags: unix.MSG_TRUNC, want: vrrp.DropLength},
		{name: "empty", want: vrrp.DropLength},
		{name: "header too short", b: shortHeader, want: vrrp.DropLength},
		{name: "header longer than packet", b: longHeader, want: vrrp.DropLength},
	} {
		p, reason := c.accept(received{b: tt.b, flags: tt.flags}, nil)
		if reason != tt.want || string(p.Payload) != tt.payload {
			t.Errorf("%s: payload %q, %v; want %q, %v", tt.name, p.Payload, reason, tt.payload, tt.want)
		}
	}
}

// TestDrain requires that a packet which the kernel has queued is delivered
// when Drain returns, whether Run or Drain reads it. A second socket that was
// opened earlier tells when the kernel has queued it: the newest is served first.
func TestDrain(t *testing.T) {
	nsA, nsB := hosts(t)
	witness := listen(t, nsA, addrA, addrB)
	a, b := listen(t, nsA, addrA, addrB), listen(t, nsB, addrB, addrA)
	in, seen := run(t, a), run(t, witness)
	var buf [4]byte
	for i := uint32(1); i <= 2000; i++ {
		binary.BigEndian.PutUint32(buf[:], i)
		send(t, b, string(buf[:]))
		netnstest.Eventually(t, limit, "the witness", func() bool {
			witness.Drain()
			return len(seen.all()) == int(i)
		})
		a.Drain()
		if got := len(in.all()); got != int(i) {
			t.Fatalf("%d packets delivered after Drain, %d arrived", got, i)
		}
	}
}

func TestDrainWithoutRunKeepsPackets(t *testing.T) {
	nsA, nsB := hosts(t)
	a, b := listen(t, nsA, addrA, addrB), listen(t, nsB, addrB, addrA)
	send(t, b, "early")
	a.Drain()
	in := run(t, a)
	netnstest.Eventually(t, limit, "the early packet", func() bool { return len(in.all()) == 1 })
}

func TestLinkDownAndUpIsSurvived(t *testing.T) {
	nsA, nsB := hosts(t)
	a, b := listen(t, nsA, addrA, addrB), listen(t, nsB, addrB, addrA)
	inA, inB := run(t, a), run(t, b)
	send(t, a, "before")
	netnstest.Eventually(t, limit, "a packet before", func() bool { return len(inB.all()) == 1 })
	nsA.Down(t, heart)
	if err := a.Send([]byte("down")); err == nil {
		t.Error("Send over a link that is down: no error")
	}
	nsA.Up(t, heart)
	netnstest.Eventually(t, limit, "packets both ways after", func() bool {
		if errA, errB := a.Send([]byte("after")), b.Send([]byte("after")); errA != nil || errB != nil {
			return false
		}
		return len(inA.all()) > 0 && len(inB.all()) > 1
	})
}

// TestProtocolUnreachableIsSurvived counts what leaves towards a peer without a
// VRRP socket, whose ICMP answers become errors of our socket.
func TestProtocolUnreachableIsSurvived(t *testing.T) {
	nsA, nsB := hosts(t)
	a := listen(t, nsA, addrA, addrB)
	inA := run(t, a)
	sniffer := sniff(t, nsB)
	const count = 20
	for i := range count {
		// ICMP about a payload shorter than 8 bytes does not reach the socket.
		if err := a.Send([]byte{byte(i), 11: 0}); err != nil {
			t.Fatalf("send %d: %v", i, err)
		}
		if err := sniffer(byte(i)); err != nil {
			t.Fatalf("packet %d did not leave: %v", i, err)
		}
	}
	b := listen(t, nsB, addrB, addrA)
	in := run(t, b)
	netnstest.Eventually(t, limit, "a packet once the peer listens", func() bool {
		send(t, a, "hello")
		send(t, b, "hello")
		return len(in.all()) > 0 && len(inA.all()) > 0
	})
}

// sniff returns a function that waits for the VRRP packet with one given byte.
func sniff(t *testing.T, ns *netnstest.Namespace) func(want byte) error {
	t.Helper()
	var conn *packet.Conn
	err := ns.Do(func() error {
		ifi, err := net.InterfaceByName(heart)
		if err != nil {
			return err
		}
		conn, err = packet.Listen(ifi, packet.Datagram, unix.ETH_P_IP, nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return func(want byte) error {
		if err := conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
			return err
		}
		var buf [256]byte
		for {
			n, _, err := conn.ReadFrom(buf[:])
			if err != nil {
				return err
			}
			if n > ipv4MinHeader && buf[9] == vrrp.Protocol && buf[ipv4MinHeader] == want {
				return nil
			}
		}
	}
}

func TestListenErrors(t *testing.T) {
	nsA, _ := hosts(t)
	for _, tt := range []struct {
		name string
		cfg  Config
		want error
	}{
		{"no such local address", Config{Local: netip.MustParseAddr("192.0.2.99"), Peer: addrB}, unix.EADDRNOTAVAIL},
		{"no route", Config{Local: addrA, Peer: netip.MustParseAddr("198.51.100.1")}, unix.ENETUNREACH},
		{"IPv6", Config{Local: netip.MustParseAddr("2001:db8::1"), Peer: netip.MustParseAddr("2001:db8::2")}, nil},
		{"itself", Config{Local: addrA, Peer: addrA}, nil},
	} {
		err := nsA.Do(func() error {
			_, err := Listen(tt.cfg)
			return err
		})
		if err == nil || (tt.want != nil && !errors.Is(err, tt.want)) {
			t.Errorf("%s: error %v, want %v", tt.name, err, tt.want)
		}
	}
}

// TestOverflowIsCounted fills the queue of a path that nobody reads.
func TestOverflowIsCounted(t *testing.T) {
	nsA, nsB := hosts(t)
	a := listen(t, nsA, addrA, addrB)
	flood := rawSender(t, nsB, addrB, 255)
	for range 6000 {
		flood([]byte("flood"))
	}
	in := run(t, a)
	netnstest.Eventually(t, limit, "the overflow to be counted", func() bool {
		flood([]byte("one more"))
		return a.Dropped(vrrp.DropOverflow) > 0
	})
	if got := len(in.all()); got == 0 || got >= receiveLimit {
		t.Errorf("%d packets were queued, want fewer than receiveLimit %d", got, receiveLimit)
	}
}

func TestCloseEndsRun(t *testing.T) {
	nsA, _ := hosts(t)
	a := listen(t, nsA, addrA, addrB)
	done := make(chan error, 1)
	go func() { done <- a.Run(context.Background(), func(Packet) {}) }()
	netnstest.Eventually(t, limit, "Run to start", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.deliver != nil
	})
	if err := a.Run(context.Background(), func(Packet) {}); err == nil {
		t.Error("second Run: no error")
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Run: %v, want %v", err, os.ErrClosed)
	}
	if err := a.Send([]byte("x")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Send: %v, want %v", err, os.ErrClosed)
	}
	a.Drain()
}

func TestRunAgain(t *testing.T) {
	nsA, nsB := hosts(t)
	a, b := listen(t, nsA, addrA, addrB), listen(t, nsB, addrB, addrA)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := a.Run(ctx, func(Packet) {}); err != nil {
		t.Fatal(err)
	}
	in := run(t, a)
	send(t, b, "again")
	netnstest.Eventually(t, limit, "a packet in the second Run", func() bool { return len(in.all()) == 1 })
}
