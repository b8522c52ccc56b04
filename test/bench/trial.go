package main

// One trial from a fresh network to its figures, and all trials of a run.

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/test/probe"
)

// warmUp is for how long the client is served before anything happens.
const warmUp = 500 * time.Millisecond

// Trial is what came of one run of one scenario. Times are in nanoseconds.
type Trial struct {
	Scenario string        `json:"scenario"`
	Program  string        `json:"program"`
	Interval time.Duration `json:"interval_ns"`
	// Served is from the fault to the first answer of the second router (of the
	// first one, where that returns and preempts), -1 for none.
	Served time.Duration `json:"served_ns"`
	// Outage is the longest time in which the client got no answer.
	Outage time.Duration `json:"outage_ns"`
	Probes int           `json:"probes"`
	Lost   int           `json:"lost"`
	// Both and None are how long two routers, or none, had the address.
	Both time.Duration `json:"both_ns"`
	None time.Duration `json:"none_ns"`
	// Span is the time that all of this is about.
	Span time.Duration `json:"span_ns"`
	// Takeovers is how often the second router got the address, by its kernel's
	// messages: one that gives it back at once is seen as well.
	Takeovers int    `json:"takeovers"`
	Holder    string `json:"holder"` // in the end: a, b, a+b or none
	// Slowest is the longest time for which this program itself stood still,
	// between two probes or two looks at the kernels.
	Slowest time.Duration `json:"slowest_ns"`
	// Locked is the longest wait for the kernel's lock around addresses and links.
	Locked  time.Duration `json:"locked_ns"`
	Repeats int           `json:"repeats"` // thrown away because of either
	Failed  string        `json:"failed,omitempty"`
	settled bool          // it got as far as the fault
}

// attempt runs one trial. The phase, 0 to 1, is the part of the interval after an
// advertisement at which things begin to happen: the time to a takeover depends
// on it, so both programs get the same ones. An error is this program's trouble or the end of ctx;
// what the measured program did not do is in the Trial.
func attempt(ctx context.Context, sc scenario, p program, set settings, lossTime time.Duration, phase float64, dir string) (Trial, error) {
	set.Preempt = sc.preempt
	for repeat := 0; ; repeat++ {
		out := Trial{Scenario: sc.name, Program: p.name(), Interval: set.Interval, Served: -1, Repeats: repeat}
		bounded, cancel := context.WithTimeout(ctx, startLimit+sc.limit)
		err := out.attempt(bounded, sc, p, set, lossTime, phase, fmt.Sprintf("%s-%d", dir, repeat))
		cancel()
		if ctx.Err() != nil {
			return out, errors.Join(ctx.Err(), err)
		}
		if err != nil {
			out.Failed = err.Error()
		}
		if out.settled && !out.disturbed() || repeat == maxRepeats {
			return out, nil
		}
	}
}

const (
	// stillLimit is for how long the probing threads, which wait for no other
	// program, may stand still: beyond that the whole machine did, and the trial
	// says nothing.
	stillLimit = 25 * time.Millisecond
	// lockLimit is for how long the kernel's lock may be somebody else's. keepalived
	// does not need it while it is Active, Tanist does for each renewal: a lower
	// limit would hide what that costs.
	lockLimit = 250 * time.Millisecond
	// maxRepeats bounds how often such a trial is run again.
	maxRepeats = 3
)

// disturbed reports whether something else on this machine was in the way.
func (out *Trial) disturbed() bool { return out.Slowest > stillLimit || out.Locked > lockLimit }

func (out *Trial) attempt(ctx context.Context, sc scenario, p program, set settings, lossTime time.Duration, phase float64, dir string) (err error) {
	pr, err := newPair(ctx, p, set, dir)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w%s", err, pr.logs())
		}
		err = errors.Join(err, pr.close())
	}()
	// What is collected between two trials does not stop the threads within one.
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	c := probe.NewClock()
	cl, err := startProbes(pr, c, sc.limit)
	if err != nil {
		return err
	}
	sm, err := newSampler(pr, c)
	if err != nil {
		return errors.Join(err, cl.Finish())
	}
	lock, err := newLockWatch(pr.client)
	if err != nil {
		return errors.Join(err, cl.Finish(), sm.finish())
	}
	w, err := watchMoves(pr)
	if err != nil {
		_, ended := lock.finish()
		return errors.Join(err, ended, cl.Finish(), sm.finish())
	}
	defer w.stop()
	t := &trial{pair: pr, client: cl, clock: c, sampler: sm, lock: lock, watch: w, loss: lossTime}
	err = t.warm(ctx)
	if err == nil {
		err = t.align(phase)
	}
	if err == nil {
		out.settled = true
		err = sc.run(ctx, t)
	}
	locked, ended := lock.finish()
	out.Locked = locked
	if ended = errors.Join(ended, cl.Finish(), sm.finish()); err == nil {
		err = ended
	}
	if err == nil {
		out.fill(t, sc)
	}
	return err
}

// warm waits until the client is served by the first router for a while.
func (t *trial) warm(ctx context.Context) error {
	if err := t.servedBy(ctx, first); err != nil {
		return err
	}
	if err := pause(ctx, warmUp); err != nil {
		return err
	}
	if who, _ := t.sampler.now(); who != (holding{true, false}) {
		return fmt.Errorf("before anything happened %s had the address", who)
	}
	return nil
}

// align returns when a phase of the interval has gone by since the first router
// advertised.
func (t *trial) align(phase float64) error {
	var fd int
	err := t.routers[second].do(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, vrrpProtocol)
		return err
	})
	if err != nil {
		return fmt.Errorf("listen to advertisements: %w", err)
	}
	defer unix.Close(fd)
	timeout := unix.NsecToTimeval(int64(probe.SocketTimeout))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return err
	}
	var buf [2048]byte
	for end := time.Now().Add(3*t.set.Interval + time.Second); time.Now().Before(end); {
		_, from, err := unix.Recvfrom(fd, buf[:], 0)
		if probe.Again(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("listen to advertisements: %w", err)
		}
		if in, ok := from.(*unix.SockaddrInet4); ok && in.Addr == first.addr().As4() {
			probe.Sleep(time.Duration(phase * float64(t.set.Interval)))
			t.sampler.countAnew()
			t.lock.countAnew()
			return nil
		}
	}
	return errors.New("the Active router does not advertise")
}

// vrrpProtocol is VRRP's number of an IP protocol (RFC 9568 §5.1.1.4).
const vrrpProtocol = 112

func (out *Trial) fill(t *trial, sc scenario) {
	s, h := t.client.Seen(t.from, t.to), t.sampler.held(t.from, t.to)
	out.Served = s.Served[second]
	if sc.preempt {
		out.Served = s.Served[first]
	}
	out.Outage, out.Probes, out.Lost = s.Outage, s.Probes, s.Lost
	out.Both, out.None, out.Span = h.both, h.none, t.to-t.from
	out.Takeovers, out.Holder, out.Slowest = t.taken, h.last.String(), max(t.sampler.slow, s.Slow)
}

// campaign says which trials are run.
type campaign struct {
	scenarios []scenario
	intervals []time.Duration
	programs  []program
	n         int
	nLong     int // of the long scenarios
	loss      time.Duration
}

// long reports whether a scenario takes so long, or varies so little, that it is
// run less often.
func (s scenario) long() bool {
	return slices.Contains([]string{"loss", "heal", "mute", "deaf"}, s.name)
}

// run runs all trials, the programs in turn, so that what else happens on the
// machine meets both.
func (c campaign) run(ctx context.Context, base settings, dir string, tell func(string, ...any)) ([]Trial, error) {
	var all []Trial
	for _, interval := range c.intervals {
		for _, sc := range c.scenarios {
			n := c.n
			if sc.long() {
				n = c.nLong
			}
			for i := range n {
				for _, p := range c.programs {
					set := base
					set.Interval = interval
					t, err := attempt(ctx, sc, p, set, c.loss, (float64(i)+0.5)/float64(n), filepath.Join(dir, fmt.Sprintf("t%d-%s-%s-%v", len(all), sc.name, p.name(), interval)))
					if err != nil {
						return all, err
					}
					tell("%s", t)
					all = append(all, t)
				}
			}
		}
	}
	return all, nil
}

func (out Trial) String() string {
	text := fmt.Sprintf("%s, %v, %s: ", out.Scenario, out.Interval, out.Program)
	if out.Failed != "" {
		return text + "FAILED: " + out.Failed
	}
	served := "never served by the other"
	if out.Served >= 0 {
		served = "served after " + ms(out.Served)
	}
	return text + fmt.Sprintf("%s, outage %s, %d of %d probes lost, two holders %s, none %s, %d takeovers, then %s (still for %s, lock for %s at most)",
		served, ms(out.Outage), out.Lost, out.Probes, ms(out.Both), ms(out.None), out.Takeovers, out.Holder, ms(out.Slowest), ms(out.Locked))
}

func ms(d time.Duration) string { return number(d.Seconds()*1e3) + " ms" }
