package wire

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/vrrp/internal/netnstest"
)

// charged returns what the kernel charges c for what it has queued, in bytes.
func charged(t *testing.T, c *Conn) (n uint32) {
	t.Helper()
	err := c.raw.Control(func(fd uintptr) {
		all, err := unix.GetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_MEMINFO)
		if err != nil {
			t.Error(err)
		}
		n = uint32(all) // of a little-endian machine
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// fill has b send packets that a does not read, waits until all are queued, and
// returns what one is charged.
func fill(t *testing.T, a, b *Conn, packets []string) (each uint32) {
	t.Helper()
	send(t, b, packets[0])
	netnstest.Eventually(t, limit, "the first to be queued", func() bool { each = charged(t, a); return each > 0 })
	for _, p := range packets[1:] {
		send(t, b, p)
	}
	netnstest.Eventually(t, limit, "all to be queued", func() bool { return charged(t, a) == uint32(len(packets))*each })
	return each
}

func TestQueued(t *testing.T) {
	nsA, nsB := dualHosts(t)
	for _, tt := range []struct {
		name string
		a, b Config
	}{
		{"IPv4", Config{Local: addrA, Peer: addrB}, Config{Local: addrB, Peer: addrA}},
		{"IPv6", Config{Local: addrA6, Peer: addrB6}, Config{Local: addrB6, Peer: addrA6}},
	} {
		for _, size := range []int{0, 12, 40, 76, 300, 1400, 4000} {
			a, b := open(t, nsA, tt.a), open(t, nsB, tt.b)
			const packets = 50
			each := fill(t, a, b, slices.Repeat([]string{strings.Repeat("x", size)}, packets))
			if each < leastCharge {
				t.Errorf("%s, %d bytes: charged %d, less than %d", tt.name, size, each, leastCharge)
			}
			var n int
			_ = a.raw.Control(func(fd uintptr) { n = queued(int(fd)) })
			if most := packets*int(each)/leastCharge + 1; n < packets || n > most {
				t.Errorf("%s, %d bytes: %d queued, want %d to %d", tt.name, size, n, packets, most)
			}
			_ = a.Close()
			_ = b.Close()
		}
	}
}

// early fills the queue of a with packets that can be told apart.
func early(t *testing.T, a, b *Conn) (all []string) {
	t.Helper()
	for i := range 200 {
		all = append(all, fmt.Sprintf("early %3d", i))
	}
	fill(t, a, b, all)
	return all
}

// TestDrainEnds sends a packet for each that is read.
func TestDrainEnds(t *testing.T) {
	nsA, nsB := hosts(t)
	a, b := listen(t, nsA, addrA, addrB), listen(t, nsB, addrB, addrA)
	want := early(t, a, b)
	var got []string
	if err := a.start(func(p Packet) {
		got = append(got, string(p.Payload))
		send(t, b, "later")
	}); err != nil {
		t.Fatal(err)
	}
	a.Drain()
	if len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
		t.Fatalf("delivered %q", got)
	}
	if len(got) > 3*len(want) {
		t.Errorf("%d packets delivered, %d were queued", len(got), len(want))
	}
}

// TestDrainInAFlood drains while somebody sends as fast as he can.
func TestDrainInAFlood(t *testing.T) {
	nsA, nsB := hosts(t)
	a, b := listen(t, nsA, addrA, addrB), listen(t, nsB, addrB, addrA)
	flood := rawSender(t, nsB, addrB, 255)
	for range 20 {
		want := early(t, a, b)
		in := &inbox{}
		if err := a.start(in.deliver); err != nil {
			t.Fatal(err)
		}
		before := charged(t, a)
		var ended atomic.Bool
		var flooding sync.WaitGroup
		flooding.Go(func() {
			for !ended.Load() {
				flood([]byte("flood"))
			}
		})
		netnstest.Eventually(t, limit, "the flood", func() bool { return charged(t, a) > before })
		a.Drain()
		got := payloads(in)
		if len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
			t.Errorf("delivered %q", got)
		}
		if len(got) >= receiveLimit {
			t.Errorf("%d packets delivered", len(got))
		}
		ended.Store(true)
		flooding.Wait()
		for charged(t, a) > 0 {
			a.Drain()
		}
		a.stop()
	}
}
