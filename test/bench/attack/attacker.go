package main

// The attacker: a process of its own on the standby's host, with its address and
// the lowest priority, since a real one has a processor of its own.

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/vrrp"
	"github.com/tanist-ha/tanist/vrrp/auth"
)

type attack struct {
	name, title string
	do          func(context.Context, *atomic.Int64)
}

func attacks() []attack {
	return []attack{
		{"connections", "connections without end, 10,000 open", connections},
		{"forged", "forged advertisements without end", forged},
		{"slow", "1,000 connections that dribble and read nothing", slow},
		{"garbage", "TLS and noise on the link's port", garbage},
	}
}

func names() (all []string) {
	for _, a := range attacks() {
		all = append(all, a.name)
	}
	return all
}

func title(name string) string {
	for _, a := range attacks() {
		if a.name == name {
			return a.title
		}
	}
	return name
}

func attackAs(ctx context.Context, name string) error {
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, 19); err != nil {
		return fmt.Errorf("lower the priority: %w", err)
	}
	for _, a := range attacks() {
		if a.name == name {
			var attempts atomic.Int64
			a.do(ctx, &attempts)
			fmt.Println(attempts.Load())
			return nil
		}
	}
	return fmt.Errorf("no attack is called %s", name)
}

// several runs something that ends with ctx in so many goroutines.
func several(n int, run func()) {
	var all sync.WaitGroup
	for range n {
		all.Go(run)
	}
	all.Wait()
}

func dial(ctx context.Context, attempts *atomic.Int64) (net.Conn, bool) {
	attempts.Add(1)
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp4", fmt.Sprintf("%s:%d", activeAddr, linkPort))
	return conn, err == nil
}

// held keeps the youngest connections open.
type held struct {
	conns []net.Conn
	most  int
}

func (h *held) add(conn net.Conn) {
	if h.conns = append(h.conns, conn); len(h.conns) > h.most {
		_ = h.conns[0].Close()
		h.conns = h.conns[1:]
	}
}

func (h *held) close() {
	for _, conn := range h.conns {
		_ = conn.Close()
	}
}

func connections(ctx context.Context, attempts *atomic.Int64) {
	const dialers, open = 50, 10_000
	several(dialers, func() {
		h := held{most: open / dialers}
		defer h.close()
		for ctx.Err() == nil {
			if conn, ok := dial(ctx, attempts); ok {
				h.add(conn)
			}
		}
	})
}

func slow(ctx context.Context, attempts *atomic.Int64) {
	several(1000, func() {
		for ctx.Err() == nil {
			conn, ok := dial(ctx, attempts)
			if !ok {
				pause(ctx, time.Second)
				continue
			}
			for err := error(nil); err == nil && ctx.Err() == nil; pause(ctx, time.Second) {
				_, err = conn.Write([]byte("t"))
			}
			_ = conn.Close()
		}
	})
}

func garbage(ctx context.Context, attempts *atomic.Int64) {
	noise := make([]byte, 64<<10)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	prefixes := [][]byte{nil, []byte("tanist\x00\x03\x04\x00"), {0x16, 3, 1, 0x3f, 0xff, 1}}
	several(20, func() {
		for n := 0; ctx.Err() == nil; n++ {
			if conn, ok := dial(ctx, attempts); ok {
				_ = conn.SetDeadline(time.Now().Add(time.Second)) // a connection that is refused fails to write
				_, _ = conn.Write(append(append([]byte{}, prefixes[n%len(prefixes)]...), noise...))
				_ = conn.Close()
			}
		}
	})
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// forged are claims and goodbyes, bare and sealed with another key, with every bit
// of the address and the VRID right.
func forged(ctx context.Context, attempts *atomic.Int64) {
	payloads, err := forgeries()
	if err != nil {
		fmt.Println(err)
		return
	}
	to := netip.MustParseAddr(activeAddr).As4()
	several(2, func() {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, vrrp.Protocol)
		if err != nil {
			return
		}
		defer func() { _ = unix.Close(fd) }()
		if unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, vrrp.TTL) != nil {
			return
		}
		for n := 0; ctx.Err() == nil; n++ {
			if err := unix.Sendto(fd, payloads[n%len(payloads)], 0, &unix.SockaddrInet4{Addr: to}); err == nil {
				attempts.Add(1)
			} else if !errors.Is(err, unix.ENOBUFS) {
				return
			}
		}
	})
}

func forgeries() (all [][]byte, err error) {
	from, to := netip.MustParseAddr(standbyAddr), netip.MustParseAddr(activeAddr)
	keys, err := auth.ParseKeys([]byte(fmt.Sprintf("%064x\n", 7)))
	if err != nil {
		return nil, err
	}
	sealer, err := auth.NewSealer(auth.SealerConfig{
		Mode: auth.Enforce, Keys: keys, Boot: 1, Instance: auth.Instance{VRID: 51, Name: "attacked"},
	})
	if err != nil {
		return nil, err
	}
	for _, priority := range []uint8{0, 255} {
		a := vrrp.Advertisement{VRID: 51, Priority: priority, MaxAdvertInterval: 10, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.100")}}
		bare, err := a.AppendTo(nil, from, to, vrrp.ChecksumRFC)
		if err != nil {
			return nil, err
		}
		sealed, err := sealer.Seal(append([]byte{}, bare...), from, to, 1, 99)
		if err != nil {
			return nil, err
		}
		all = append(all, bare, sealed)
	}
	return all, nil
}
