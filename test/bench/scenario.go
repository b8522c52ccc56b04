package main

// The scenarios: each does one thing to a settled pair whose first router is
// Active, and says in which span of time its figures count.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/test/probe"
)

// scenario is one fault or one operation.
type scenario struct {
	name     string
	title    string
	preempt  bool
	limit    time.Duration // of one trial after the pair is ready
	run      func(context.Context, *trial) error
	measures []measure
}

// Times of the scenarios.
const (
	// awaitLimit is how long a router is awaited that should serve.
	awaitLimit = 30 * time.Second
	// killWatch is for how long two holders are looked for after a kill, beyond the
	// lease.
	killWatch = 4 * time.Second
	// stopTime is for how long a daemon is stopped.
	stopTime = 10 * time.Second
	// restartDelay is when a killed daemon is started again, as systemd does.
	restartDelay = 100 * time.Millisecond
	// cutWatch is for how long a cut in one direction is watched.
	cutWatch = 6 * time.Second
	// partTime is how long the routers are parted before the heal.
	partTime = 20 * time.Second
	// healLimit is how long the client's black hole after it may last.
	healLimit = 60 * time.Second
	// maxLoss is how long packets may get lost at most.
	maxLoss = 5 * time.Minute
	// lossPercent of the frames between the routers are lost in either direction.
	lossPercent = 20
	// tailTime is watched after the new router has answered.
	tailTime = 2 * time.Second
)

func scenarios() []scenario {
	return []scenario{
		{
			name: "switchover", title: "planned switchover (keepalived: SIGTERM)", limit: time.Minute, run: switchover,
			measures: []measure{{metricLost, boundZero}, {metricOutage, boundNone}, {metricBoth, boundNone}},
		},
		{
			name: "sigterm", title: "SIGTERM", limit: time.Minute, run: sigterm,
			measures: []measure{{metricLost, boundZero}, {metricOutage, boundNone}, {metricBoth, boundNone}},
		},
		{
			name: "kill", title: "kill -9 of all its processes", limit: time.Minute, run: kill,
			measures: []measure{{metricServed, boundLease}, {metricOutage, boundNone}, {metricBoth, boundZero}},
		},
		{
			name: "restart", title: "kill -9, started again after 100 ms", limit: time.Minute, run: restart,
			measures: []measure{{metricOutage, boundNone}, {metricLost, boundZero}, {metricBoth, boundZero}, {metricHolder, boundNone}},
		},
		{
			name: "crash", title: "host lost (cable and daemon at once)", limit: time.Minute, run: crash,
			measures: []measure{{metricServed, boundKeepalived}},
		},
		{
			name: "stop", title: "SIGSTOP for 10 s", limit: time.Minute, run: stop,
			measures: []measure{{metricServed, boundLease}, {metricOutage, boundNone}, {metricBoth, boundZero}, {metricHolder, boundSecond}},
		},
		{
			name: "link", title: "link cut", limit: time.Minute, run: link,
			measures: []measure{{metricOutage, boundKeepalived}, {metricBoth, boundNone}},
		},
		{
			name: "drop", title: "packets dropped both ways, from all", limit: time.Minute, run: drop,
			measures: []measure{{metricOutage, boundKeepalived}},
		},
		{
			name: "mute", title: "Active's packets to the peer dropped", limit: time.Minute, run: mute,
			measures: []measure{{metricOutage, boundNone}, {metricBoth, boundNone}, {metricHolder, boundNone}},
		},
		{
			name: "deaf", title: "peer's packets to the Active dropped", limit: time.Minute, run: deaf,
			measures: []measure{{metricOutage, boundNone}, {metricBoth, boundNone}, {metricHolder, boundNone}},
		},
		{
			name: "heal", title: "partition of 20 s heals", limit: 3 * time.Minute, run: heal,
			measures: []measure{{metricOutage, boundHeal}, {metricBoth, boundNone}, {metricHolder, boundNone}},
		},
		{
			name: "loss", title: "20 % random loss", limit: maxLoss + time.Minute, run: loss,
			measures: []measure{{metricTakeovers, boundZero}, {metricOutage, boundNone}, {metricBoth, boundNone}},
		},
		{
			name: "return", title: "former Active returns, no preemption", limit: 2 * time.Minute, run: comeBack,
			measures: []measure{{metricOutage, boundNone}, {metricLost, boundZero}, {metricHolder, boundNone}},
		},
		{
			name: "preempt", title: "former Active returns and preempts", preempt: true, limit: 2 * time.Minute, run: preempt,
			measures: []measure{{metricOutage, boundNone}, {metricLost, boundNone}, {metricBoth, boundNone}},
		},
	}
}

// findScenarios returns those with the names.
func findScenarios(names []string) ([]scenario, error) {
	all := scenarios()
	var found []scenario
	for _, name := range names {
		i := slices.IndexFunc(all, func(s scenario) bool { return s.name == strings.TrimSpace(name) })
		if i < 0 {
			return nil, fmt.Errorf("no scenario %q", name)
		}
		found = append(found, all[i])
	}
	return found, nil
}

// trial is one run of one scenario.
type trial struct {
	*pair
	client  *probe.Client
	clock   probe.Clock
	sampler *sampler
	lock    *lockWatch
	watch   *watch
	loss    time.Duration // of the scenario loss

	from, to time.Duration // the span that counts
	// taken is how often the second router got the address before the span, and
	// then in it.
	taken int
}

// now starts the span that counts.
func (t *trial) now() { t.from, t.taken = t.clock.Now(), t.watch.moves().Taken }

// over ends the span after a time in which nothing more is done.
func (t *trial) over(ctx context.Context, after time.Duration) error {
	if err := pause(ctx, after); err != nil {
		return err
	}
	t.to, t.taken = t.clock.Now(), t.watch.moves().Taken-t.taken
	return pause(ctx, probe.SettleTime) // the answers to its last probes
}

// servedBy waits for the first answer of a router since the span began.
func (t *trial) servedBy(ctx context.Context, s side) error {
	ctx, cancel := context.WithTimeout(ctx, awaitLimit)
	defer cancel()
	return t.answeredBy(ctx, s, t.from)
}

func switchover(ctx context.Context, t *trial) error {
	t.now()
	if err := t.program.handover(ctx, t.pair, first); err != nil {
		return err
	}
	return t.takeover(ctx)
}

// takeover waits until the second router serves, and a moment.
func (t *trial) takeover(ctx context.Context) error {
	if err := t.servedBy(ctx, second); err != nil {
		return err
	}
	return t.over(ctx, tailTime)
}

func sigterm(ctx context.Context, t *trial) error {
	t.now()
	if err := t.daemons[first].terminate(); err != nil {
		return err
	}
	return t.takeover(ctx)
}

func kill(ctx context.Context, t *trial) error {
	t.now()
	if err := t.daemons[first].kill(); err != nil {
		return err
	}
	if err := t.servedBy(ctx, second); err != nil {
		return err
	}
	return t.over(ctx, max(0, t.from+t.set.Lease+killWatch-t.clock.Now()))
}

func restart(ctx context.Context, t *trial) error {
	t.now()
	if err := t.daemons[first].kill(); err != nil {
		return err
	}
	if err := pause(ctx, restartDelay); err != nil {
		return err
	}
	if err := t.launch(first); err != nil {
		return err
	}
	return t.over(ctx, killWatch)
}

func crash(ctx context.Context, t *trial) error {
	t.now()
	if err := errors.Join(t.pull(first), t.daemons[first].kill()); err != nil {
		return err
	}
	return t.takeover(ctx)
}

func stop(ctx context.Context, t *trial) error {
	t.now()
	if err := t.daemons[first].signal(unix.SIGSTOP); err != nil {
		return err
	}
	err := t.servedBy(ctx, second)
	err = errors.Join(err, pause(ctx, max(0, t.from+stopTime-t.clock.Now())))
	err = errors.Join(err, t.daemons[first].signal(syscall.SIGCONT))
	if err != nil {
		return err
	}
	return t.over(ctx, 2*tailTime)
}

func link(ctx context.Context, t *trial) error {
	t.now()
	if err := t.pull(first); err != nil {
		return err
	}
	return t.takeover(ctx)
}

func drop(ctx context.Context, t *trial) error {
	if err := t.isolate(ctx, first); err != nil {
		return err
	}
	t.now() // the kernel has the rule now, not when the command began
	return t.takeover(ctx)
}

func mute(ctx context.Context, t *trial) error { return t.cutFrom(ctx, first) }

func deaf(ctx context.Context, t *trial) error { return t.cutFrom(ctx, second) }

// cutFrom drops what one router sends to the other, and nothing else.
func (t *trial) cutFrom(ctx context.Context, s side) error {
	if err := t.drop(ctx, s, s.other().String(), "drop"); err != nil {
		return err
	}
	t.now()
	return t.over(ctx, cutWatch)
}

// heal measures from the heal on, until one router has had the address for a
// while and the client is served.
func heal(ctx context.Context, t *trial) error {
	if err := t.part(ctx); err != nil {
		return err
	}
	if err := pause(ctx, partTime); err != nil {
		return err
	}
	t.now()
	if err := t.network.heal(ctx); err != nil {
		return err
	}
	quiet := 2*tailTime + 4*t.set.Interval
	limited, cancel := context.WithTimeout(ctx, healLimit)
	defer cancel()
	err := poll(limited, "one router serves", func(context.Context) error {
		now := t.clock.Now()
		who, since := t.sampler.now()
		switch last := t.lastAnswer(); {
		case who[first] == who[second]:
			return fmt.Errorf("%s has the address", who)
		case now-max(since, t.from) < quiet:
			return errors.New("not for long")
		case now-last > probe.SocketTimeout:
			return errors.New("the client is not served")
		}
		return nil
	})
	if err != nil && ctx.Err() != nil {
		return err
	}
	return t.over(ctx, 0) // unserved to the end is an outage up to there
}

func loss(ctx context.Context, t *trial) error {
	verdict := fmt.Sprintf("numgen random mod 100 < %d drop", lossPercent)
	if err := t.lose(ctx, verdict); err != nil {
		return err
	}
	t.now()
	return t.over(ctx, t.loss)
}

// leave ends the first daemon in order and waits until the second serves.
func (t *trial) leave(ctx context.Context) error {
	t.now()
	if err := t.daemons[first].terminate(); err != nil {
		return err
	}
	if err := t.servedBy(ctx, second); err != nil {
		return err
	}
	if err := t.daemons[first].await(awaitLimit); err != nil {
		return err
	}
	return pause(ctx, tailTime)
}

func comeBack(ctx context.Context, t *trial) error {
	if err := t.leave(ctx); err != nil {
		return err
	}
	t.now()
	if err := t.launch(first); err != nil {
		return err
	}
	return t.over(ctx, 3*tailTime+6*t.set.Interval)
}

func preempt(ctx context.Context, t *trial) error {
	if err := t.leave(ctx); err != nil {
		return err
	}
	t.now()
	if err := t.launch(first); err != nil {
		return err
	}
	if err := t.servedBy(ctx, first); err != nil {
		return err
	}
	return t.over(ctx, tailTime)
}
