package main

// The tables.

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Report is the result of a run.
type Report struct {
	Machine Machine       `json:"machine"`
	Lease   time.Duration `json:"lease_ns"` // of Tanist's addresses
	Trials  []Trial       `json:"trials,omitempty"`
	Costs   []Cost        `json:"costs,omitempty"`
}

// Machine is where and when it was measured.
type Machine struct {
	Date     string   `json:"date"`
	Kernel   string   `json:"kernel"`
	CPUs     int      `json:"cpus"`
	CPU      string   `json:"cpu"`
	Load     string   `json:"load"`
	Programs []string `json:"programs"`
	Command  string   `json:"command"`
}

func machine(ctx context.Context, programs []program) Machine {
	m := Machine{
		Date: time.Now().Format("2006-01-02"), CPUs: runtime.NumCPU(), CPU: cpuName(),
		Command: "go run ./test/bench " + strings.Join(os.Args[1:], " "),
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	if data, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load, _, _ = strings.Cut(string(data), " ")
	}
	for _, p := range programs {
		m.Programs = append(m.Programs, p.version(ctx))
	}
	return m
}

func cpuName() string {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(data), "model name")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.Trim(line, " \t:")
}

// words returns the first line that a command prints.
func words(ctx context.Context, argv ...string) string {
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return err.Error()
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}

func (r Report) print(w io.Writer) {
	m := r.Machine
	fmt.Fprintf(w, "%s, %d CPUs (%s), kernel %s, load %s at the start; %s.\n`%s`\n",
		m.Date, m.CPUs, m.CPU, m.Kernel, m.Load, strings.Join(m.Programs, "; "), strings.TrimSpace(m.Command))
	if len(r.Trials) > 0 {
		r.printTrials(w)
	}
	if len(r.Costs) > 0 {
		r.printCosts(w)
	}
}

// printTrials has one line for each scenario, measure and interval, then what was
// expected and did not come.
func (r Report) printTrials(w io.Writer) {
	fmt.Fprint(w, `
Median / worst. The ratio is of the medians.

| scenario | measure | advert | n | tanist | keepalived | ratio | expected |
|---|---|---:|---:|---:|---:|---:|---|
`)
	var broken []string
	for _, sc := range scenarios() {
		for _, m := range sc.measures {
			for _, interval := range r.intervals(sc.name) {
				t := m.metric.collect(r.of(sc.name, "tanist", interval))
				k := m.metric.collect(r.of(sc.name, "keepalived", interval))
				words, kept, known := m.verdict(t, k, r.Lease)
				mark := words
				if known {
					mark = "ok, " + words
					if !kept {
						mark = "**no**, " + words
						broken = append(broken, fmt.Sprintf("%s, %s, %v: %s (expected %s)", sc.title, m.metric, interval, t.cell(m.metric), words))
					}
				}
				n := max(len(t.all)+t.failed, len(k.all)+k.failed)
				fmt.Fprintf(w, "| %s | %s | %v | %d | %s | %s | %s | %s |\n", sc.title, m.metric, interval, n,
					t.cell(m.metric), k.cell(m.metric), ratio(t.median(), k.median()), mark)
			}
		}
	}
	repeats, still := 0, 0
	for _, t := range r.Trials {
		repeats += t.Repeats
		if t.disturbed() {
			still++
		}
	}
	if repeats > 0 {
		fmt.Fprintf(w, "\n%d trials were run again, because the machine stood still for more than %v, the kernel's lock around addresses and links was taken for more than %v, or the pair did not settle. Of those that count, %d were disturbed, too.\n", repeats, stillLimit, lockLimit, still)
	}
	printBroken(w, broken)
}

func printBroken(w io.Writer, broken []string) {
	fmt.Fprintln(w)
	if len(broken) == 0 {
		fmt.Fprintln(w, "Every expectation was met.")
		return
	}
	fmt.Fprint(w, "Not met:\n\n")
	for _, line := range broken {
		fmt.Fprintln(w, "- "+line)
	}
}

func (r Report) of(scenario, program string, interval time.Duration) []Trial {
	var some []Trial
	for _, t := range r.Trials {
		if t.Scenario == scenario && t.Program == program && t.Interval == interval {
			some = append(some, t)
		}
	}
	return some
}

// intervals are those that a scenario was run with, in that order.
func (r Report) intervals(scenario string) []time.Duration {
	var all []time.Duration
	for _, t := range r.Trials {
		if t.Scenario == scenario && !slices.Contains(all, t.Interval) {
			all = append(all, t.Interval)
		}
	}
	return all
}

// printCosts puts the programs of one combination on neighbouring lines, with
// Tanist's share of keepalived's where both were measured.
func (r Report) printCosts(w io.Writer) {
	fmt.Fprint(w, `
| instances | advert | program | Active, % of a core | Backup, % of a core | frames/s sent | RSS, MB | PSS, MB | at rest: lost / taken over | busy: lost / taken over | then on a / b / both / none |
|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|
`)
	for i, c := range r.Costs {
		fmt.Fprintf(w, "| %d | %v | %s | ", c.Instances, c.Interval, c.Program)
		if c.Cannot != "" {
			fmt.Fprintf(w, "cannot: %s |\n", strings.ReplaceAll(c.Cannot, "|", "/"))
			continue
		}
		fmt.Fprintf(w, "%.2f | %.2f | %.0f / %.0f | %s / %s | %s / %s | %d / %d | ", c.Sides[0].CPU, c.Sides[1].CPU, c.Sides[0].Sent, c.Sides[1].Sent,
			mega(c.Sides[0].RSS), mega(c.Sides[1].RSS), mega(c.Sides[0].PSS), mega(c.Sides[1].PSS), c.Moves.Lost, c.Moves.Taken)
		if b := c.Busy; b != nil {
			fmt.Fprintf(w, "%d / %d | %d / %d / %d / %d |\n", b.Moves.Lost, b.Moves.Taken, b.First, b.Second, b.Both, b.None)
		} else {
			fmt.Fprint(w, " | |\n")
		}
		if k, ok := r.beside(i); ok {
			fmt.Fprintf(w, "| | | ratio | %s | %s | | %s / %s | %s / %s | | | |\n",
				ratio(k.tanist.Sides[0].CPU, k.keepalived.Sides[0].CPU), ratio(k.tanist.Sides[1].CPU, k.keepalived.Sides[1].CPU),
				ratio(float64(k.tanist.Sides[0].RSS), float64(k.keepalived.Sides[0].RSS)), ratio(float64(k.tanist.Sides[1].RSS), float64(k.keepalived.Sides[1].RSS)),
				ratio(float64(k.tanist.Sides[0].PSS), float64(k.keepalived.Sides[0].PSS)), ratio(float64(k.tanist.Sides[1].PSS), float64(k.keepalived.Sides[1].PSS)))
		}
	}
	printAnswers(w, r.Costs)
	printBroken(w, r.brokenCosts())
}

// What Tanist is expected to cost at most.
const (
	costInstances = 64
	costInterval  = 100 * time.Millisecond
	costRatio     = 2    // times keepalived's CPU, at those
	mostRSS       = 30e6 // at every number of instances
)

// brokenCosts are the expectations that Tanist did not keep.
func (r Report) brokenCosts() []string {
	var broken []string
	for i, c := range r.Costs {
		for s, name := range []string{"Active", "Backup"} {
			if c.Program == "tanist" && c.Sides[s].RSS > mostRSS {
				broken = append(broken, fmt.Sprintf("%d instances, %v: RSS of the %s %s MB (expected at most %s)", c.Instances, c.Interval, name, mega(c.Sides[s].RSS), mega(mostRSS)))
			}
			k, ok := r.beside(i)
			if !ok || c.Instances != costInstances || c.Interval != costInterval {
				continue
			}
			if t, k := k.tanist.Sides[s].CPU, k.keepalived.Sides[s].CPU; t > costRatio*k {
				broken = append(broken, fmt.Sprintf("%d instances, %v: CPU of the %s %.2f %%, %s times keepalived's %.2f %% (expected at most %d times)", c.Instances, c.Interval, name, t, ratio(t, k), k, costRatio))
			}
		}
		if c.Program == "tanist" && c.Cannot != "" {
			broken = append(broken, fmt.Sprintf("%d instances, %v: cannot: %s", c.Instances, c.Interval, c.Cannot))
		}
	}
	return broken
}

type costPair struct{ tanist, keepalived Cost }

// beside returns the two programs' costs of one combination after the second.
func (r Report) beside(i int) (costPair, bool) {
	if i == 0 {
		return costPair{}, false
	}
	a, b := r.Costs[i-1], r.Costs[i]
	if a.Instances != b.Instances || a.Interval != b.Interval || a.Cannot != "" || b.Cannot != "" || a.Program == b.Program {
		return costPair{}, false
	}
	if a.Program == "keepalived" {
		a, b = b, a
	}
	return costPair{a, b}, true
}

// ratio is Tanist's share of keepalived's figure.
func ratio(tanist, keepalived float64) string {
	if keepalived <= 0 || math.IsNaN(tanist+keepalived) || math.IsInf(tanist+keepalived, 0) {
		return "–"
	}
	return fmt.Sprintf("%.2f", tanist/keepalived)
}
