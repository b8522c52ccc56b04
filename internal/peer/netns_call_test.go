package peer

// Calls and reports while cables are pulled. Each end is a process, as in
// netns_test.go.

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"github.com/tanist-ha/tanist/internal/failover"
)

const (
	callsMode   = "calls"
	callBody    = 20 << 10
	callTime    = 10 * time.Second
	reportBody  = 100 << 10
	callsApart  = 20 * time.Millisecond
	reportApart = 200 * time.Millisecond
)

// callChild runs a link until its input ends. a asks b all the time, and b reports;
// each prints what it learns.
func callChild(cfg Config, a bool) error {
	var mu sync.Mutex
	served := map[string]bool{}
	if !a {
		cfg.Serve = func(_ context.Context, _ string, body []byte) ([]byte, error) {
			number, _, _ := strings.Cut(string(body[:32]), " ")
			mu.Lock()
			defer mu.Unlock()
			if served[number] {
				fmt.Println("twice", number)
			}
			served[number] = true
			return body, nil
		}
	}
	l, err := New(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	every := func(d time.Duration, f func(n uint64)) {
		tick := time.NewTicker(d)
		defer tick.Stop()
		for n := uint64(1); ctx.Err() == nil; n++ {
			f(n)
			<-tick.C
		}
	}
	go every(failover.TellInterval, func(n uint64) {
		l.Send("compass", failover.PeerState{Boot: 1, Seq: n, Stamp: now()})
		l.Flush()
	})
	if a {
		go every(callsApart, func(n uint64) { callOnce(ctx, l, n) })
		go every(reportApart, func(uint64) {
			if body, at, ok := l.PeerReport(); ok {
				number, _, _ := bytes.Cut(body[:32], []byte(" "))
				fmt.Println("report", string(number), now().Sub(at).Milliseconds())
			}
		})
	} else {
		go every(reportApart, func(n uint64) { _ = l.Report(padded(n, reportBody)) })
	}
	return l.Run(ctx, func([]Said) {})
}

// padded is a body that begins with its number.
func padded(n uint64, size int) []byte {
	b := bytes.Repeat([]byte(" "), size)
	copy(b, fmt.Sprint(n))
	return b
}

func callOnce(ctx context.Context, l *Link, n uint64) {
	body := padded(n, callBody)
	patience, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	began := time.Now()
	got, err := l.Call(patience, "echo", body)
	took := time.Since(began).Milliseconds()
	switch {
	case err == nil && bytes.Equal(got, body):
		fmt.Println("answered", n, took)
	case errors.Is(err, ErrUnreachable):
		fmt.Println("unreachable", n, took)
	default:
		fmt.Println("failed", n, took, err)
	}
}

func TestCallsAndReportsWhileCablesArePulled(t *testing.T) {
	hosts := twoHosts(t)
	lines := runCallChild(t, hosts.a, "a")
	_ = runCallChild(t, hosts.b, "b")
	var worst, age int64
	// follow reads until so many calls were answered and a newer report came. Between
	// strict limits each call must be answered.
	follow := func(what string, calls int, strict bool) {
		t.Helper()
		worst, age = 0, 0
		var first, last uint64
		for deadline := time.After(2 * limit); calls > 0 || last == first; {
			var line string
			select {
			case line = <-lines:
			case <-deadline:
				t.Fatalf("%s: not within %v", what, 2*limit)
			}
			var n uint64
			var took int64
			word, rest, _ := strings.Cut(line, " ")
			_, _ = fmt.Sscan(rest, &n, &took)
			switch word {
			case "answered":
				worst = max(worst, took)
				calls--
			case "report":
				if age = max(age, took); first == 0 {
					first = n
				}
				last = n
			case "unreachable":
				if strict {
					t.Errorf("%s: %s", what, line)
				}
			default:
				t.Errorf("%s: %s", what, line)
			}
		}
		t.Logf("%s: slowest answer %d ms, oldest report %d ms", what, worst, age)
	}
	follow("begin", 1, false)
	follow("both paths", 30, true)
	hosts.pull(t, 0)
	follow("the second path", 100, true)
	hosts.plug(t, 0)
	follow("the first is back", 100, true)
	hosts.pull(t, 1)
	follow("the first path", 100, true)
	hosts.plug(t, 1)
	follow("the second is back", 100, true)
	hosts.pull(t, 0)
	hosts.pull(t, 1)
	silence := time.After(time.Second) // shorter than it takes to give the connections up
	for quiet := false; !quiet; {
		select {
		case line := <-lines:
			if strings.HasPrefix(line, "failed") || strings.HasPrefix(line, "twice") {
				t.Error(line)
			}
		case <-silence:
			quiet = true
		}
	}
	hosts.plug(t, 0)
	hosts.plug(t, 1)
	follow("after a second without any path", 50, false)
}

// runCallChild runs this test program as one end and returns what it prints.
func runCallChild(t *testing.T, ns netns.NsHandle, end string) <-chan string {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", end)
	cmd.Env = append(os.Environ(), childEnv+"="+callsMode)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	check(t, err)
	stdout, err := cmd.StdoutPipe()
	check(t, err)
	check(t, onOwnThread(func() error {
		if err := netns.Set(ns); err != nil {
			return err
		}
		return cmd.Start()
	}))
	lines := make(chan string, 100_000) // more than a test lasts
	read := make(chan struct{})
	go func() {
		defer close(read)
		for sc := bufio.NewScanner(stdout); sc.Scan(); {
			if end == "b" {
				t.Errorf("the server says %q", sc.Text())
			}
			lines <- sc.Text()
		}
	}()
	t.Cleanup(func() {
		_ = stdin.Close()
		<-read
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", end, err)
		}
	})
	return lines
}
