package probe

// What the tests of the probes have in common.

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

const patience = 30 * time.Second

// well wants a probe to find that all is well.
func well(t *testing.T, p Probe) {
	t.Helper()
	if err := Once(t.Context(), p, patience); err != nil {
		t.Errorf("%+v: %v", p, err)
	}
}

// bad wants a probe to say what is wrong, and not that it cannot be asked.
func bad(t *testing.T, p Probe, why ...string) {
	t.Helper()
	wrong(t, p, false, why...)
}

// unusable wants a probe to say that it cannot be asked here.
func unusable(t *testing.T, p Probe, why ...string) {
	t.Helper()
	wrong(t, p, true, why...)
}

func wrong(t *testing.T, p Probe, cannot bool, why ...string) {
	t.Helper()
	err := Once(t.Context(), p, patience)
	if err == nil {
		t.Errorf("%+v is well", p)
		return
	}
	for _, w := range why {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%+v: %q lacks %q", p, err, w)
		}
	}
	if u := (*UnusableError)(nil); errors.As(err, &u) != cannot {
		t.Errorf("%+v: %v: is %T", p, err, err)
	}
}

// silent wants a probe not to be answered, and to end soon after its time.
func silent(t *testing.T, p Probe) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- p.Probe(ctx) }()
	select {
	case err := <-ended:
		if end, _ := ctx.Deadline(); err == nil || time.Now().Before(end) {
			t.Errorf("%+v: %v, before its time is over", p, err)
		}
	case <-time.After(patience):
		t.Fatalf("%+v does not end", p)
	}
}

func needRoot(t *testing.T, what string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: " + what)
	}
}

// listen serves each connection until the test is over.
func listen(t *testing.T, network, address string, serve func(net.Conn)) net.Addr {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Skipf("cannot listen on %s: %v", address, err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
			go serve(c)
		}
	}()
	return l.Addr()
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}
