package main

// Windows: a quiet one, then one of an attack, and the next attack, many times over.
// So both have the same of what else the machine does.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// window is a time on the wall clock, as the kernel stamps packets. Whatever is measured
// is due every advertGap from first on.
type window struct{ from, to, first time.Time }

func since(began time.Time) (window, error) {
	var wall, boot unix.Timespec
	if err := errors.Join(unix.ClockGettime(unix.CLOCK_REALTIME, &wall), unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot)); err != nil {
		return window{}, fmt.Errorf("read the clocks: %w", err)
	}
	// Advertisements are due on the multiples of their interval on CLOCK_BOOTTIME.
	next := advertGap - time.Duration(boot.Nano())%advertGap
	first := time.Unix(0, wall.Nano()).Add(next)
	for first.Add(-advertGap).After(began) {
		first = first.Add(-advertGap)
	}
	return window{from: began, to: time.Now(), first: first}, nil
}

// early is how far the two clocks may part in a window.
const early = time.Millisecond

// lateIn returns how long after each instant that something was due in a window the
// first stamp came.
func lateIn(w window, at []time.Time) (late []time.Duration) {
	for due := w.first; due.Before(w.to); due = due.Add(advertGap) {
		i, _ := slices.BinarySearchFunc(at, due.Add(-early), time.Time.Compare)
		if i < len(at) && !due.Before(w.from) {
			late = append(late, max(0, at[i].Sub(due)))
		}
	}
	return late
}

// lateness is of many windows.
type lateness struct {
	all   []time.Duration
	worst []time.Duration // of each window
}

func (l *lateness) add(late []time.Duration) {
	if len(late) > 0 {
		l.all = append(l.all, late...)
		l.worst = append(l.worst, slices.Max(late))
	}
}

func at(percent int, of []time.Duration) time.Duration {
	if len(of) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(of))
	return sorted[(len(sorted)-1)*percent/100]
}

// String has the median of the windows' worst, the 99th percentile of all, and the worst.
func (l *lateness) String() string {
	return fmt.Sprintf("%s / %s / %s", ms(at(50, l.worst)), ms(at(99, l.all)), ms(at(100, l.all)))
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d)/float64(time.Millisecond)) }

// side is what was measured of all windows of a row that were quiet, or were not.
type side struct {
	adverts, beats lateness
	cpu            map[string]time.Duration
	attacker       time.Duration
	attempts       int64
	took           time.Duration
	size           size
	goroutines     int
	changes        []string
	refused        map[string]uint64
}

func newSide() *side {
	return &side{cpu: map[string]time.Duration{}, refused: map[string]uint64{}}
}

type row struct {
	attack          attack
	quiet, attacked *side
}

// rest is between two windows, so that what came late is here.
const rest = 300 * time.Millisecond

func measure(ctx context.Context, p *pair, o options, out io.Writer) error {
	var rows []row
	for _, a := range o.attacks {
		rows = append(rows, row{a, newSide(), newSide()})
	}
	for range o.rounds {
		for _, r := range rows {
			if err := p.window(ctx, attack{}, o, r.quiet); err != nil {
				return fmt.Errorf("quiet before %s: %w", r.attack.name, err)
			}
			if err := p.window(ctx, r.attack, o, r.attacked); err != nil {
				return fmt.Errorf("%s: %w", r.attack.name, err)
			}
		}
	}
	fmt.Fprintf(out, "%d windows of %v for each row. Late in ms: median of the windows' worst / 99 %% / worst.\n\n", o.rounds, o.window)
	fmt.Fprint(out, "| attack | attempts/s | Tanist quiet | attacked | 99 % to quiet | metronome quiet | attacked | the roles |\n|---|---:|---:|---:|---:|---:|---:|---|\n")
	for _, r := range rows {
		fmt.Fprintln(out, r.lateLine())
	}
	fmt.Fprint(out, "\n| attack | CPU of active / standby / attacker, % | active's RSS peak, MB: quiet / attacked | threads | fds | goroutines after | refused and dropped there, of 1 s |\n|---|---:|---:|---:|---:|---:|---|\n")
	for _, r := range rows {
		fmt.Fprintln(out, r.sizeLine())
	}
	return nil
}

func (r row) lateLine() string {
	q, a := r.quiet, r.attacked
	roles := "stayed"
	if all := slices.Concat(q.changes, a.changes); len(all) > 0 {
		roles = "**" + strings.Join(all, "; ") + "**"
	}
	return fmt.Sprintf("| %s | %d | %s | %s | %.1f | %s | %s | %s |", r.attack.title, int64(float64(a.attempts)/max(a.took.Seconds(), 1)),
		&q.adverts, &a.adverts, float64(at(99, a.adverts.all))/float64(max(at(99, q.adverts.all), time.Microsecond)), &q.beats, &a.beats, roles)
}

func (r row) sizeLine() string {
	a, took := r.attacked, r.attacked.took.Seconds()
	share := func(d time.Duration) string { return fmt.Sprintf("%.1f", 100*d.Seconds()/took) }
	var refused []string
	for reason, n := range a.refused {
		refused = append(refused, fmt.Sprintf("%s %.0f", reason, float64(n)/took))
	}
	slices.Sort(refused)
	return fmt.Sprintf("| %s | %s / %s / %s | %.1f / %.1f | %d | %d | %d | %s |", r.attack.title, share(a.cpu["primary"]), share(a.cpu["reserve"]), share(a.attacker),
		float64(r.quiet.size.kB)/1024, float64(a.size.kB)/1024, a.size.threads, a.size.fds, a.goroutines, strings.Join(refused, ", "))
}
