package main

// The attacker: a process of its own on one node's host, with its address.

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

type attack struct {
	name, title string
	here        bool // it is on the active node's host
	target      string
	do          func(context.Context, string, *atomic.Int64)
}

// back is the node that is attacked.
func (a attack) back() string {
	if a.target == standbyAddr {
		return "reserve"
	}
	return "primary"
}

func attacks() []attack {
	return []attack{
		{"burn", "nobody: two loops", false, "-", burn},
		{"aside", "a third host: connections that nobody accepts", false, asideAddr, connections},
		{"asideforged", "a third host: forged advertisements", false, asideAddr, forged},
		{"connections", "connections without end, 10,000 open", false, activeAddr, connections},
		{"strangers", "the same from a stranger's address", false, activeAddr, strangers},
		{"halfopen", "half-open connections without end", false, activeAddr, halfOpen},
		{"garbage", "TLS and noise on the link's port", false, activeAddr, garbage},
		{"slow", "1,000 connections to it that dribble and read nothing", false, activeAddr, slow},
		{"forged", "forged advertisements without end", false, activeAddr, forged},
		{"forgedstandby", "the same to the standby", true, standbyAddr, forged},
		{"replayed", "replayed advertisements without end", false, activeAddr, replayed},
		{"http", "1,000 slow readers of /metrics, /status, /events", false, activeAddr, slowReaders},
		{"httpflood", "20 that ask for them without end", false, activeAddr, askers},
		{"control", "200 slow readers of the control socket", true, "SOCKET", slowCallers},
	}
}

func names() (all []string) {
	for _, a := range attacks() {
		all = append(all, a.name)
	}
	return all
}

func attackAs(ctx context.Context, name, target string) error {
	for _, a := range attacks() {
		if a.name == name {
			var attempts atomic.Int64
			a.do(ctx, target, &attempts)
			fmt.Println(attempts.Load())
			return nil
		}
	}
	return fmt.Errorf("no attack is called %s", name)
}

// several runs something that ends with ctx in so many goroutines.
func several(n int, run func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { run(i) })
	}
	all.Wait()
}

// pause returns an error when ctx ended first.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func burn(ctx context.Context, _ string, attempts *atomic.Int64) {
	several(2, func(int) {
		for n := int64(0); ; n++ {
			if n&0xfffff == 0 && ctx.Err() != nil {
				attempts.Add(n)
				return
			}
		}
	})
}

// dial connects to the link's port of the target, from an address or any.
func dial(ctx context.Context, from, target string, attempts *atomic.Int64) (net.Conn, bool) {
	attempts.Add(1)
	d := net.Dialer{Timeout: impatience}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	conn, err := d.DialContext(ctx, "tcp4", fmt.Sprintf("%s:%d", target, linkPort))
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

// Of an attack by connections: so many are dialed at once, so many stay open, and one
// that is not answered is given up for another after so long.
const (
	dialers, opened = 200, 10_000
	impatience      = 20 * time.Millisecond
)

func connectionsFrom(ctx context.Context, from, target string, attempts *atomic.Int64) {
	several(dialers, func(int) {
		h := held{most: opened / dialers}
		defer h.close()
		for ctx.Err() == nil {
			if conn, ok := dial(ctx, from, target, attempts); ok {
				h.add(conn)
			}
		}
	})
}

func connections(ctx context.Context, target string, attempts *atomic.Int64) {
	connectionsFrom(ctx, "", target, attempts)
}

func strangers(ctx context.Context, target string, attempts *atomic.Int64) {
	connectionsFrom(ctx, strangerAddr, target, attempts)
}

func slow(ctx context.Context, target string, attempts *atomic.Int64) {
	several(1000, func(int) {
		for ctx.Err() == nil {
			conn, ok := dial(ctx, "", target, attempts)
			if !ok {
				_ = pause(ctx, time.Second)
				continue
			}
			for err := error(nil); err == nil && ctx.Err() == nil; _ = pause(ctx, time.Second) {
				_, err = conn.Write([]byte("t"))
			}
			_ = conn.Close()
		}
	})
}

func garbage(ctx context.Context, target string, attempts *atomic.Int64) {
	noise := make([]byte, 64<<10)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	prefixes := [][]byte{nil, []byte("tanist\x00\x03\x04\x00"), {0x16, 3, 1, 0x3f, 0xff, 1}}
	several(20, func(int) {
		for n := 0; ctx.Err() == nil; n++ {
			if conn, ok := dial(ctx, "", target, attempts); ok {
				_ = conn.SetDeadline(time.Now().Add(time.Second)) // a connection that is refused fails to write
				_, _ = conn.Write(append(append([]byte{}, prefixes[n%len(prefixes)]...), noise...))
				_ = conn.Close()
			}
		}
	})
}
