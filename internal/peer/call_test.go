package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// serving starts both ends of a link, of which b serves.
func serving(t *testing.T, serve func(ctx context.Context, kind string, body []byte) ([]byte, error)) (a, b *end) {
	t.Helper()
	ap, bp := twoPaths()
	a = start(t, "primary", "reserve", ap)
	b = startServing(t, "reserve", "primary", bp, serve)
	a.connected(t, 0, 1)
	b.connected(t, 0, 1)
	return a, b
}

func patience(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

func TestACallIsAnswered(t *testing.T) {
	var served atomic.Int64
	a, b := serving(t, func(_ context.Context, kind string, body []byte) ([]byte, error) {
		served.Add(1)
		switch kind {
		case "double":
			return append(body, body...), nil
		case "busy":
			return nil, fmt.Errorf("not now: %w", ErrBusy)
		case "break":
			return nil, errors.New("disk on fire")
		}
		return nil, ErrUnknownCall
	})
	half := bytes.Repeat([]byte("x"), MaxCall/2)
	for _, test := range []struct {
		kind string
		body []byte
		want string
		err  error
	}{
		{kind: "double", body: []byte("ab"), want: "abab"},
		{kind: "double"},
		{kind: "double", body: half, want: string(half) + string(half)},
		{kind: "double", body: bytes.Repeat(half, 2), err: &RemoteError{"an answer of 131072 bytes, more than 65536"}},
		{kind: "busy", err: ErrBusy},
		{kind: "break", err: &RemoteError{"disk on fire"}},
		{kind: "what", err: ErrUnknownCall},
	} {
		got, err := a.Call(patience(t), test.kind, test.body)
		var remote, want *RemoteError
		switch {
		case errors.As(test.err, &want):
			if !errors.As(err, &remote) || *remote != *want {
				t.Errorf("%s: %v, want %v", test.kind, err, want)
			}
		case !errors.Is(err, test.err):
			t.Errorf("%s: %v, want %v", test.kind, err, test.err)
		}
		if string(got) != test.want {
			t.Errorf("%s: answered %d bytes, want %d", test.kind, len(got), len(test.want))
		}
	}
	if n := served.Load(); n != 7 {
		t.Errorf("%d calls were served, want each once", n)
	}
	for i := range 3 * remembered {
		if got, err := a.Call(patience(t), "double", fmt.Append(nil, i, " ")); err != nil || string(got) != fmt.Sprint(i, " ", i, " ") {
			t.Fatalf("call %d: %q, %v", i, got, err)
		}
	}
	// What is over is forgotten at both ends.
	for _, l := range []*end{a, b} {
		eventually(t, "no letter waits but of calls that are over", func() bool {
			l.letters.mu.Lock()
			defer l.letters.mu.Unlock()
			for _, it := range l.letters.waits {
				if it.kind != letterOver {
					return false
				}
			}
			return len(l.letters.waits) <= keptOvers
		})
	}
}

func TestWhatCannotBeAsked(t *testing.T) {
	a, _ := serving(t, nil)
	for name, err := range map[string]error{
		"no kind":     second(a.Call(patience(t), "", nil)),
		"a long kind": second(a.Call(patience(t), strings.Repeat("x", maxCallKind+1), nil)),
		"a long body": second(a.Call(patience(t), "x", make([]byte, MaxCall+1))),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := a.Call(patience(t), "x", nil); !errors.Is(err, ErrUnknownCall) {
		t.Errorf("a peer that serves nothing: %v", err)
	}
	ap, _ := twoPaths()
	alone := start(t, "primary", "reserve", ap)
	if _, err := alone.Call(patience(t), "x", nil); !errors.Is(err, ErrUnreachable) {
		t.Errorf("a peer that is not there: %v", err)
	}
	alone.stop()
	if _, err := alone.Call(patience(t), "x", nil); !errors.Is(err, ErrUnreachable) {
		t.Errorf("a link that has ended: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// A call that hangs holds up its own place and nothing else.
func TestCallsAreBoundedAtBothEnds(t *testing.T) {
	began, ended := make(chan struct{}, 100), make(chan error, 100)
	a, b := serving(t, func(ctx context.Context, kind string, _ []byte) ([]byte, error) {
		if kind != "hang" {
			return nil, nil
		}
		began <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithCancel(patience(t))
	defer cancel()
	over := make(chan error, maxCalls)
	for range maxCalls {
		go func() { over <- second(a.Call(ctx, "hang", nil)) }()
	}
	for range maxCalls {
		<-began
	}
	if _, err := a.Call(patience(t), "quick", nil); !errors.Is(err, ErrBusy) {
		t.Errorf("one call too many here: %v", err)
	}
	b.say("compass", state(7, 1))
	a.say("compass", state(8, 1))
	eventually(t, "gossip goes on", func() bool { return a.last("compass").Seq == 1 && b.last("compass").Seq == 1 })
	cancel()
	for range maxCalls {
		if err := <-over; !errors.Is(err, context.Canceled) {
			t.Errorf("a call that was given up: %v", err)
		}
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("its server's context: %v", err)
		}
	}
	eventually(t, "there is room again", func() bool { return second(a.Call(patience(t), "quick", nil)) == nil })
}

func TestTheServersContextEndsWithTheCallers(t *testing.T) {
	left := make(chan time.Duration, 1)
	ended := make(chan error, 1)
	a, _ := serving(t, func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
		by, _ := ctx.Deadline()
		left <- time.Until(by)
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := a.Call(ctx, "hang", nil); !errors.Is(err, ErrTimedOut) {
		t.Errorf("%v, want %v", err, ErrTimedOut)
	}
	if d := <-left; d <= 0 || d > 300*time.Millisecond {
		t.Errorf("the server has %v of 300 ms", d)
	}
	if err := <-ended; err == nil {
		t.Error("the server's context did not end")
	}
}

// The end of a link ends what it asks and what it serves.
func TestCallsEndWithTheLink(t *testing.T) {
	for _, who := range []string{"caller", "server"} {
		t.Run(who, func(t *testing.T) {
			began, ended := make(chan struct{}), make(chan struct{})
			a, b := serving(t, func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
				close(began)
				<-ctx.Done()
				close(ended)
				return nil, ctx.Err()
			})
			over := make(chan error, 1)
			// A server that is gone may come back: the caller waits for its time.
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			go func() { over <- second(a.Call(ctx, "hang", nil)) }()
			<-began
			map[string]*end{"caller": a, "server": b}[who].stop()
			if err := <-over; !errors.Is(err, ErrUnreachable) {
				t.Errorf("%v, want %v", err, ErrUnreachable)
			}
			<-ended
		})
	}
}

// A daemon that was started again is not asked what the one before it was asked.
func TestACallIsNotCarriedOutTwice(t *testing.T) {
	ap, bp := twoPaths()
	var served atomic.Int64
	began := make(chan struct{}, 2)
	serve := func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
		served.Add(1)
		began <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	a := start(t, "primary", "reserve", ap)
	b := startServing(t, "reserve", "primary", bp, serve)
	a.connected(t, 0, 1)
	over := make(chan error, 1)
	go func() { over <- second(a.Call(patience(t), "hang", nil)) }()
	<-began
	b.stop()
	b = startServing(t, "reserve", "primary", bp, serve)
	if err := <-over; !errors.Is(err, ErrUnreachable) {
		t.Errorf("%v, want %v", err, ErrUnreachable)
	}
	b.connected(t, 0, 1)
	if n := served.Load(); n != 1 {
		t.Errorf("served %d times", n)
	}
}

func TestTheClockIsAsked(t *testing.T) {
	a, _ := serving(t, nil)
	offset, uncertainty, err := a.ClockOffset(patience(t))
	if err != nil || uncertainty < 0 || offset.Abs() > uncertainty+time.Millisecond {
		t.Errorf("two links of one host are %v ± %v apart: %v", offset, uncertainty, err)
	}
}
