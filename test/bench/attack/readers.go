package main

// Attackers who ask and do not read, or read and ask for ever.

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

const nobody = 65534

var pages = []string{"/metrics", "/status", "/events?from=1"}

// slowReaders ask in one write and take a byte a second.
func slowReaders(ctx context.Context, target string, attempts *atomic.Int64) {
	several(1000, func(i int) {
		readSlowly(ctx, "tcp4", fmt.Sprintf("%s:%d", target, webPort), pages[i%len(pages)], attempts)
	})
}

// slowCallers are an ordinary user: root could do worse.
func slowCallers(ctx context.Context, socket string, attempts *atomic.Int64) {
	if err := syscall.Setuid(nobody); err != nil {
		fmt.Fprintln(os.Stderr, "become nobody:", err)
		return
	}
	several(200, func(i int) {
		readSlowly(ctx, "unix", socket, []string{"/v1/status", "/v1/events?from=1"}[i%2], attempts)
	})
}

func readSlowly(ctx context.Context, network, address, page string, attempts *atomic.Int64) {
	d := net.Dialer{Timeout: 5 * time.Second}
	for ctx.Err() == nil {
		attempts.Add(1)
		conn, err := d.DialContext(ctx, network, address)
		if err != nil {
			_ = pause(ctx, 100*time.Millisecond)
			continue
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetReadBuffer(2048)
		}
		_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: tanist\r\n\r\n", page)
		for b := make([]byte, 1); err == nil && ctx.Err() == nil; _ = pause(ctx, time.Second) {
			_ = conn.SetReadDeadline(time.Now().Add(time.Second))
			if _, readErr := conn.Read(b); readErr != nil && !isTimeout(readErr) {
				err = readErr
			}
		}
		_ = conn.Close()
	}
}

func isTimeout(err error) bool {
	t, ok := err.(net.Error) //nolint:errorlint // as it comes from a connection
	return ok && t.Timeout()
}

// askers read everything and ask again; of the endless stream, a second of it.
func askers(ctx context.Context, target string, attempts *atomic.Int64) {
	several(20, func(i int) {
		client := http.Client{Transport: &http.Transport{}, Timeout: time.Second}
		for n := i; ctx.Err() == nil; n++ {
			attempts.Add(1)
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:%d%s", target, webPort, pages[n%2]), nil)
			if err != nil {
				return
			}
			answer, err := client.Do(r)
			if err != nil {
				_ = pause(ctx, 10*time.Millisecond)
				continue
			}
			_, _ = io.Copy(io.Discard, answer.Body)
			_ = answer.Body.Close()
		}
	})
}
