package interop

// Elections live on being punctual. A machine that stands still for longer than an
// Active may be silent gives the role to the wrong router, rightly: then, and only
// then, a test that failed is begun anew.

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// attempts bounds how often a test is begun.
const attempts = 3

// attempt is what testing.T is to a test, for one try of it.
type attempt struct {
	test *testing.T

	mu       sync.Mutex // guards failures
	failures []string
	cleanups []func()
}

func (a *attempt) Log(args ...any) { a.Logf("%s", fmt.Sprint(args...)) }
func (a *attempt) Logf(format string, args ...any) {
	a.test.Log(lineOfTest() + fmt.Sprintf(format, args...))
}
func (a *attempt) TempDir() string          { return a.test.TempDir() }
func (a *attempt) Context() context.Context { return a.test.Context() }
func (a *attempt) Cleanup(f func())         { a.cleanups = append(a.cleanups, f) }

func (a *attempt) Error(args ...any) { a.Errorf("%s", fmt.Sprint(args...)) }

// Errorf records a failure with the line of the test that it is about.
func (a *attempt) Errorf(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failures = append(a.failures, lineOfTest()+fmt.Sprintf(format, args...))
}

func (a *attempt) Fatal(args ...any) { a.Fatalf("%s", fmt.Sprint(args...)) }

// Fatalf also ends the attempt. It must be called from its goroutine.
func (a *attempt) Fatalf(format string, args ...any) {
	a.Errorf(format, args...)
	runtime.Goexit()
}

func (a *attempt) Failed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.failures) > 0
}

func lineOfTest() string {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for {
		f, more := frames.Next()
		if strings.Contains(f.Function, "interop.Test") {
			return fmt.Sprintf("%s:%d: ", f.File[strings.LastIndexByte(f.File, '/')+1:], f.Line)
		}
		if !more {
			return ""
		}
	}
}

// try runs f and returns how it failed.
func (a *attempt) try(f func(*attempt)) []string {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			for _, c := range slices.Backward(a.cleanups) {
				c()
			}
		}()
		f(a)
	}()
	<-done
	return a.failures
}

// everyWay runs a test beside others, once for each way.
func everyWay(t *testing.T, ws []way, f func(t *attempt, w way)) {
	t.Helper()
	need(t)
	t.Parallel()
	for _, w := range ws {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			for n := 1; ; n++ {
				still := watchClock()
				failures := (&attempt{test: t}).try(func(a *attempt) { f(a, w) })
				stood := still()
				if len(failures) == 0 {
					return
				}
				text := strings.Join(failures, "\n")
				if stood < w.interval || n == attempts {
					t.Fatalf("%s\nThe machine stood still for at most %s.", text, stood)
				}
				t.Logf("attempt %d, in which the machine stood still for %s, is worth nothing: %s", n, stood, text)
			}
		})
	}
}

// watchClock returns a function that ends the watch and says for how long at most
// nothing ran.
func watchClock() func() time.Duration {
	const tick = 10 * time.Millisecond
	stop, worst := make(chan struct{}), make(chan time.Duration)
	go func() {
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		var longest time.Duration
		last := bootTime()
		for {
			select {
			case <-stop:
				worst <- longest
				return
			case <-ticker.C:
			}
			now := bootTime()
			longest = max(longest, now-last-tick)
			last = now
		}
	}()
	return func() time.Duration {
		close(stop)
		return <-worst
	}
}

// bootTime is the daemon's clock, which also counts while a machine is suspended.
func bootTime() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // cannot fail with this clock
	return time.Duration(ts.Nano())
}

// need skips a test where something is missing, and says what.
func need(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends
		ns, err := netns.New()
		if err == nil {
			err = ns.Close()
		}
		made <- err
	}()
	if err := <-made; err != nil {
		t.Skipf("needs network namespaces: %v", err)
	}
	for _, name := range []string{"keepalived", "tcpdump"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("needs %s (apt-get install %s)", name, name)
		}
	}
}
