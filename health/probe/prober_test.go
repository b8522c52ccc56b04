package probe

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

type function func(ctx context.Context) error

func (f function) Probe(ctx context.Context) error { return f(ctx) }

// start runs a prober in a bubble and notes its samples with the seconds since.
func start(t *testing.T) (*Prober, func() []string) {
	t.Helper()
	began := time.Now()
	var got []string
	p := New(func(s Sample) {
		verdict := "ok"
		if !s.OK {
			verdict = s.Detail
		}
		got = append(got, fmt.Sprintf("%g %s: %s", time.Since(began).Seconds(), s.Check, verdict))
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return p, func() []string {
		synctest.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		defer func() { got = nil }()
		return got
	}
}

func give(t *testing.T, p *Prober, checks ...Check) {
	t.Helper()
	if err := p.Set(t.Context(), checks); err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, samples func() []string, lines ...string) {
	t.Helper()
	if diff := cmp.Diff(lines, samples()); diff != "" {
		t.Errorf("samples, -want +got:\n%s", diff)
	}
}

// later lets that much time pass and everything that is due then happen.
func later(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func check(name string, interval, timeout time.Duration, f function) Check {
	return Check{Name: name, Identity: name, Interval: interval, Timeout: timeout, Probe: f}
}

func TestAskedAtOnceAndAtEachInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, samples := start(t)
		var asked atomic.Int32
		give(t, p, check("a", 2*time.Second, time.Second, func(context.Context) error {
			if n := asked.Add(1); n > 1 {
				return fmt.Errorf("bad\x1b[31m\nline %d", n)
			}
			return nil
		}))
		want(t, samples, "0 a: ok")
		later(4 * time.Second)
		want(t, samples, "2 a: bad[31m; line 2", "4 a: bad[31m; line 3")
		if last := p.Last("a"); time.Since(last) != 0 {
			t.Errorf("the last sample is from %s ago", time.Since(last))
		}
		if !p.Last("b").IsZero() {
			t.Error("a check that there is not has a sample")
		}
	})
}

func TestHungProbeFailsUntilItReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, samples := start(t)
		var asked, now atomic.Int32
		back := make(chan struct{})
		give(t, p, check("nfs", time.Second, 1500*time.Millisecond, func(context.Context) error {
			if n := now.Add(1); n > 1 {
				t.Errorf("%d at the same time", n)
			}
			defer now.Add(-1)
			if asked.Add(1) == 1 {
				<-back // whatever its context says
			}
			return nil
		}))
		later(4 * time.Second)
		// At 1 s it is not late yet.
		want(t, samples, "1.5 nfs: no answer within 1.5s", "2 nfs: no answer for 2s", "3 nfs: no answer for 3s", "4 nfs: no answer for 4s")
		if asked.Load() != 1 {
			t.Errorf("asked %d times", asked.Load())
		}
		close(back)
		later(time.Second / 2) // what it says so late does not count
		want(t, samples)
		later(time.Second)
		want(t, samples, "5 nfs: ok")
	})
}

func TestSlowProbeWithinItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, samples := start(t)
		give(t, p, check("slow", time.Second, 3*time.Second, func(ctx context.Context) error {
			select {
			case <-time.After(2500 * time.Millisecond):
			case <-ctx.Done():
			}
			return ctx.Err()
		}))
		later(6 * time.Second)
		want(t, samples, "2.5 slow: ok", "5.5 slow: ok")
	})
}

// A probe that ends because its time is over says that, not what the end of its
// context looked like to it.
func TestEndOfTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, samples := start(t)
		give(t, p, check("a", time.Minute, time.Second, func(ctx context.Context) error {
			<-ctx.Done()
			return errors.New("i/o timeout")
		}))
		later(2 * time.Second)
		want(t, samples, "1 a: no answer within 1s")
		err := Once(t.Context(), function(func(ctx context.Context) error { <-ctx.Done(); return errors.New("i/o timeout") }), time.Second)
		if err == nil || err.Error() != "no answer within 1s" {
			t.Errorf("once: %v", err)
		}
		never := make(chan struct{})
		err = Once(t.Context(), function(func(context.Context) error { <-never; return nil }), time.Second)
		if err == nil || err.Error() != "no answer within 1s" {
			t.Errorf("one that hangs, once: %v", err)
		}
		close(never)
	})
}

func TestSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, samples := start(t)
		answer := func(err error) function { return func(context.Context) error { return err } }
		kept := check("kept", time.Second, time.Second, answer(nil))
		give(t, p, kept, check("changed", time.Second, time.Second, answer(nil)), check("gone", time.Second, time.Second, answer(nil)))
		samples()
		later(time.Second / 2)
		other := check("changed", time.Second, time.Second, answer(errors.New("another")))
		other.Identity = "another"
		give(t, p, kept, other)
		want(t, samples, "0.5 changed: another")
		if !p.Last("gone").IsZero() {
			t.Error("a check that is gone has a sample")
		}
		later(time.Second / 2)
		want(t, samples, "1 kept: ok") // at its own pace
		later(time.Second / 2)
		want(t, samples, "1.5 changed: another")
		give(t, p)
		later(time.Minute)
		want(t, samples)
	})
}

// The check in the place of one that hangs waits for it, and fails meanwhile; so a
// reload every minute does not leave one hung probe more each time.
func TestSetBesideAHungProbe(t *testing.T) {
	for name, between := range map[string]func(*testing.T, *Prober){
		"changed":        func(*testing.T, *Prober) {},
		"gone and added": func(t *testing.T, p *Prober) { give(t, p) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, samples := start(t)
				back := make(chan struct{})
				give(t, p, check("disk", time.Second, time.Second, func(context.Context) error { <-back; return nil }))
				later(1500 * time.Millisecond)
				samples()
				between(t, p)
				other := check("disk", time.Second, time.Second, func(context.Context) error { return nil })
				other.Identity = "another"
				give(t, p, other)
				later(2 * time.Second)
				want(t, samples, "2.5 disk: no answer for 1s", "3.5 disk: no answer for 2s")
				close(back)
				want(t, samples, "3.5 disk: ok")
			})
		})
	}
}

func TestNothingIsSaidAfterSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, samples := start(t)
		give(t, p, check("a", time.Second, time.Minute, func(ctx context.Context) error {
			<-ctx.Done() // as one whose database is about to be closed
			return errors.New("closed")
		}))
		later(time.Second)
		give(t, p)
		later(time.Minute)
		want(t, samples)
	})
}

func TestRunWaitsForProbesThatEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(func(Sample) {})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		var ended atomic.Bool
		hangs := make(chan struct{})
		give(t, p,
			check("ends", time.Second, time.Minute, func(ctx context.Context) error {
				<-ctx.Done()
				time.Sleep(time.Second) // its program takes that long to die
				ended.Store(true)
				return nil
			}),
			check("hangs", time.Second, time.Minute, func(context.Context) error { <-hangs; return nil }))
		later(time.Second)
		began := time.Now()
		cancel()
		if err := <-done; err != nil || !ended.Load() || time.Since(began) != endPatience {
			t.Errorf("ended %v after %s: %v", ended.Load(), time.Since(began), err)
		}
		if err := p.Set(t.Context(), nil); !errors.Is(err, ErrEnded) {
			t.Errorf("set after the end: %v", err)
		}
		close(hangs)
	})
}

func TestLineIsOneShortLine(t *testing.T) {
	got := Line(errors.New("a\tb\n" + strings.Repeat("é", 300)))
	if want := "a b; " + strings.Repeat("é", detailLimit-5) + "..."; got != want {
		t.Errorf("got %q", got)
	}
}
