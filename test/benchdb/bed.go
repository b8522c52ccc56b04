package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tanist-ha/tanist/test/lab"
	"github.com/tanist-ha/tanist/test/probe"
	"github.com/tanist-ha/tanist/test/site"
)

// Times of a trial.
const (
	// bound is for whatever has to happen between two trials.
	bound = 3 * time.Minute
	// trialBound is for the fault and the service after it: what took longer is
	// "never".
	trialBound = 30 * time.Second
	// warmTime is written before anything happens, tailTime after it is over.
	warmTime = time.Second
	tailTime = time.Second
	// patience of a writer with one statement. Of a host without power nothing
	// comes back, and the client finds out this late.
	patience = 250 * time.Millisecond
)

// bed is a pair of hosts with so many databases and one program that moves them,
// made when it is needed, and made anew after something went wrong.
type bed struct {
	options
	databases int
	program   string

	*site.Site // nil: not there
	active     *lab.Node
	nextID     int64
}

// trials runs a scenario as often as it is wanted.
func (b *bed) trials(ctx context.Context, sc scenario, r *report) error {
	for i := range b.times(sc) {
		if err := b.ready(ctx); err != nil {
			return err
		}
		t := Trial{Scenario: sc.name, Databases: b.databases}
		err := b.trial(ctx, sc, i, &t)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			t.Failed = firstLine(err)
			tell("%v%s", err, b.logs(ctx))
		}
		tell("%s", t)
		if e, is := expected(t.Scenario, gap, t.Databases); is && gap.of(t) > e.most {
			tell("its steps:\n%s", t.steps)
		}
		r.Trials = append(r.Trials, t)
		if err != nil {
			if err := b.down(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// logs is what the daemons said last.
func (b *bed) logs(ctx context.Context) string {
	var text strings.Builder
	for _, n := range b.Nodes() {
		log, err := n.Journal(ctx, b.unit())
		lines := strings.Split(strings.TrimSpace(log), "\n")
		fmt.Fprintf(&text, "\njournal of %s (%v):\n%s", n.Hostname, err, strings.Join(lines[max(0, len(lines)-20):], "\n"))
	}
	return text.String()
}

func (b *bed) unit() string {
	if b.program == compassProgram {
		return "keepalived.service"
	}
	return "tanist.service"
}

// ready makes the pair if there is none, and settles it with its primary active.
func (b *bed) ready(ctx context.Context) error {
	if b.Site != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*bound)
	defer cancel()
	s, err := site.Up(ctx, site.Options{
		Binary: b.binary, Databases: b.databases, Durable: b.durable, Config: site.ManyConfig(b.databases, "after_loss: drained", false),
		Lab: lab.Options{Log: tell}, Log: tell,
	})
	if err != nil {
		return err
	}
	b.Site, b.active = s, s.Primary
	if b.program == compassProgram {
		err = b.startCompass(ctx)
	} else if err = s.Start(ctx); err == nil {
		err = s.AwaitSettled(ctx, s.Primary)
	}
	if err != nil {
		return errors.Join(err, b.down(ctx))
	}
	return nil
}

func (b *bed) down(ctx context.Context) error {
	if b.Site == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), bound)
	defer cancel()
	s := b.Site
	b.Site = nil
	return s.Down(ctx)
}

// trial is one run of a scenario on a settled pair, with everything set right
// afterwards. Then the other host is the active one.
type trial struct {
	*bed
	out     *Trial
	from    *lab.Node // the active host before
	to      *lab.Node
	writers *site.Writers
	at      time.Time   // when it happened
	fence   *fenceWatch // of a server that was stopped
}

func (b *bed) trial(ctx context.Context, sc scenario, i int, out *Trial) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*bound)
	defer cancel()
	t := &trial{bed: b, out: out, from: b.active, to: b.Peer(b.active)}
	if err := t.begin(ctx); err != nil {
		return err
	}
	defer t.writers.Stop()
	defer t.endFence()
	clock := probe.NewClock()
	probes, err := t.probe(clock)
	if err != nil {
		return err
	}
	// Another phase of everything periodic each time.
	err = wait(ctx, warmTime+time.Duration(i*61%250)*time.Millisecond)
	if err == nil {
		err = t.happen(ctx, sc)
	}
	if err == nil {
		err = wait(ctx, tailTime)
	}
	end := clock.Now()
	t.writers.Stop()
	if err == nil {
		err = wait(ctx, probe.SettleTime) // the answers to the last probes
	}
	if err = errors.Join(err, probes.Finish()); err != nil {
		return err
	}
	t.measure(probes.Seen(clock.Of(t.at), end))
	return t.restore(ctx, sc)
}

// begin starts the writers with empty tables, and waits until they write.
func (t *trial) begin(ctx context.Context) error {
	if err := t.Truncate(ctx, t.from); err != nil {
		return err
	}
	if err := t.AwaitEqual(ctx, t.from); err != nil {
		return err
	}
	begun := time.Now()
	var err error
	connections := max(1, 8/t.databases)
	t.writers, err = t.StartWriters(ctx, site.Load{Rate: t.rate, Connections: connections, Patience: patience}, t.nextID)
	if err != nil {
		return err
	}
	t.nextID += 1 << 40
	return t.writers.AwaitFrom(ctx, t.ServerID(t.from), begun)
}

// endFence ends what a trial that failed left running.
func (t *trial) endFence() {
	if t.fence != nil {
		t.fence.stop()
		t.fence.done.Wait()
	}
}

func (t *trial) probe(c probe.Clock) (*probe.Client, error) {
	return probe.Start(probe.Config{
		Clock: c, Client: t.Switch.Do, From: t.Switch.Addr(lab.Eth0),
		Hosts: [2]probe.Place{t.from.Do, t.to.Do}, Address: vip(), Limit: 2*trialBound + warmTime + 2*tailTime,
	})
}

// happen does what the scenario is about and waits until every database takes
// rows on the other host.
func (t *trial) happen(ctx context.Context, sc scenario) error {
	ctx, cancel := context.WithTimeout(ctx, sc.limit)
	defer cancel()
	t.at = time.Now()
	if err := sc.run(ctx, t); err != nil {
		return err
	}
	if err := t.writers.AwaitFrom(ctx, t.ServerID(t.to), t.at); err != nil {
		return fmt.Errorf("never: %w", err)
	}
	if sc.served != nil {
		return sc.served(ctx, t)
	}
	return nil
}

// restore makes the pair settled again, with the other host active, and counts
// the rows that are lost.
func (t *trial) restore(ctx context.Context, sc scenario) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	rows, err := t.Rows(ctx, t.writers, t.to)
	if err != nil {
		return err
	}
	for _, r := range rows {
		t.out.LostRows += len(r.Missing)
	}
	t.active = t.to
	if sc.restore != nil {
		if err := sc.restore(ctx, t); err != nil {
			return err
		}
	}
	if t.program == compassProgram {
		return t.settleCompass(ctx)
	}
	if err := t.AwaitState(ctx, t.from, "backup"); err != nil {
		return err
	}
	if sc.rejoin {
		r, err := t.Rejoin(ctx, t.from, true)
		if err != nil {
			return err
		}
		tell("the way back: %s", r)
	}
	return t.AwaitSettled(ctx, t.to)
}

// wait is a part of a measurement.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
