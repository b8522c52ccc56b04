package main

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

	"github.com/tanist-ha/tanist/test/probe"
)

// Trial is one run of one scenario. A time that never came is 0.
type Trial struct {
	Scenario  string `json:"scenario"`
	Databases int    `json:"databases"`
	// Gap is from the last acknowledged row on the old host to the first on the new
	// one, of the slowest database; MiddleGap that of the median one.
	Gap       time.Duration `json:"gap_ns"`
	MiddleGap time.Duration `json:"middle_gap_ns"`
	Served    time.Duration `json:"served_ns"`   // from what happened until every database took rows
	Detected  time.Duration `json:"detected_ns"` // from what happened until the new host found out
	Outage    time.Duration `json:"outage_ns"`   // longest time without an answer from the address
	Probes    int           `json:"probes"`
	Lost      int           `json:"probes_lost"`
	Mute      int           `json:"probes_mute"` // of them arrived where the address went before the answer
	Slowest   time.Duration `json:"slowest_ns"`  // longest time between two probes
	LostRows  int           `json:"rows_lost"`   // acknowledged, and not on the new host
	Rows      int           `json:"rows"`        // acknowledged
	Fenced    time.Duration `json:"fenced_ns"`   // from what happened until the stopped server was dead
	Unfenced  bool          `json:"unfenced"`    // and that was not before the other one took writes
	Round     time.Duration `json:"round_ns"`
	Failed    string        `json:"failed,omitempty"`

	steps string // what the command said of them
}

// measure takes down what the clients saw.
func (t *trial) measure(seen probe.Seen) {
	out := t.out
	out.Outage, out.Probes, out.Lost, out.Mute, out.Slowest = seen.Outage, seen.Probes, seen.Lost, seen.Mute, seen.Slow
	out.Rows = t.writers.Tally().Acknowledged
	var lengths []time.Duration
	for _, g := range t.writers.Gaps(t.ServerID(t.from), t.at) {
		lengths = append(lengths, g.Length())
		out.Served = max(out.Served, g.First.Sub(t.at))
	}
	slices.Sort(lengths)
	if n := len(lengths); n > 0 {
		out.Gap, out.MiddleGap = lengths[n-1], lengths[n/2]
	}
}

func (t Trial) String() string {
	text := fmt.Sprintf("%s, %d databases: ", t.Scenario, t.Databases)
	if t.Failed != "" {
		return text + "FAILED: " + t.Failed
	}
	if t.Fenced > 0 {
		text += fmt.Sprintf("dead after %v, ", ms(t.Fenced))
	}
	return text + fmt.Sprintf("gap %v (median database %v), served after %v, detected after %v; address: outage %v, %d of %d probes lost (%d while the address went); %d of %d rows lost (still for %v)",
		ms(t.Gap), ms(t.MiddleGap), ms(t.Served), ms(t.Detected), ms(t.Outage), t.Lost, t.Probes, t.Mute, t.LostRows, t.Rows, ms(t.Slowest))
}

func ms(d time.Duration) string { return number(d.Seconds()*1e3) + " ms" }

// metric is a figure of a trial.
type metric uint8

const (
	gap metric = iota
	middleGap
	served
	beyond
	outage
	probesLost
	rowsLost
	fencedAfter
	unfenced
	round
)

func (m metric) String() string {
	return [...]string{
		"write gap of the slowest database, ms", "write gap of the median database, ms", "all databases take rows again after, ms",
		"the same, beyond detection, ms", "address without an answer, ms", "probes of the address lost at 1,000/s",
		"acknowledged rows lost", "stopped server is dead after, ms", "stopped server could wake up beside the other one", "all are measured after, ms",
	}[m]
}

// of returns a trial's figure.
func (m metric) of(t Trial) float64 {
	switch m {
	case gap:
		return t.Gap.Seconds() * 1e3
	case middleGap:
		return t.MiddleGap.Seconds() * 1e3
	case served:
		return t.Served.Seconds() * 1e3
	case beyond:
		return (t.Served - t.Detected).Seconds() * 1e3
	case outage:
		return t.Outage.Seconds() * 1e3
	case probesLost:
		return float64(t.Lost)
	case rowsLost:
		return float64(t.LostRows)
	case fencedAfter:
		return t.Fenced.Seconds() * 1e3
	case unfenced:
		if t.Unfenced {
			return 1
		}
		return 0
	case round:
		return t.Round.Seconds() * 1e3
	}
	return math.NaN()
}

// expectation is the most that Tanist's median, or each of its trials, may be.
type expectation struct {
	most  float64
	every bool
}

// expected returns what a metric of a scenario is expected to be at most; nothing
// is expected of the others.
func expected(scenario string, m metric, databases int) (expectation, bool) {
	switch {
	case scenario == "switchover" && m == gap && databases == 1:
		return expectation{most: 50}, true
	case scenario == "switchover" && m == gap && databases <= 32:
		return expectation{most: 250}, true
	case scenario == "switchover" && (m == probesLost || m == rowsLost):
		return expectation{0, true}, true
	case scenario == "kill" && m == served && databases == 1:
		return expectation{most: 1500}, true
	case scenario == "stop" && m == served && databases == 1:
		return expectation{most: 3000}, true
	case scenario == "stop" && m == unfenced:
		return expectation{0, true}, true
	case scenario == "power" && m == beyond:
		return expectation{most: 1000}, true
	case (scenario == "round256" || scenario == "round256-hanging") && m == round:
		return expectation{most: 1000}, true
	}
	return expectation{}, false
}

// report is the result of a run.
type report struct {
	Date    string  `json:"date"`
	Machine string  `json:"machine"`
	Command string  `json:"command"`
	Trials  []Trial `json:"trials"`

	options options
}

func newReport(ctx context.Context, o options) report {
	r := report{Date: time.Now().Format("2006-01-02"), Command: "go run ./test/benchdb " + strings.Join(os.Args[1:], " "), options: o}
	var u unix.Utsname
	kernel := "?"
	if unix.Uname(&u) == nil {
		kernel = unix.ByteSliceToString(u.Release[:])
	}
	load := "?"
	if data, err := os.ReadFile("/proc/loadavg"); err == nil {
		load, _, _ = strings.Cut(string(data), " ")
	}
	version, err := exec.CommandContext(ctx, o.binary, "version").Output()
	if err != nil {
		version = []byte("tanist ?")
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(version)), "\n")
	r.Machine = fmt.Sprintf("%d CPUs, kernel %s, load %s at the start; %s; MariaDB 10.11; keepalived 2.2.7", runtime.NumCPU(), kernel, load, first)
	return r
}

// print writes one line for each scenario, figure and number of databases, then
// what was expected and did not come.
func (r *report) print(w io.Writer) {
	durable := "commits do not wait for the disk"
	if r.options.durable {
		durable = "each commit waits for the disk"
	}
	fmt.Fprintf(w, "%s, %s; %d rows a second, %s.\n`%s`\n", r.Date, r.Machine, r.options.rate, durable, strings.TrimSpace(r.Command))
	fmt.Fprint(w, "\nMedian / worst.\n\n| scenario | measure | databases | n | tanist | keepalived + script | expected |\n|---|---|---:|---:|---:|---:|---|\n")
	var broken []string
	for _, sc := range r.options.scenarios {
		beside := ""
		switch {
		case sc.program == compassProgram && r.has("switchover"):
			continue // it is on the other one's lines
		case sc.name == "switchover":
			beside = "compass"
		}
		for _, m := range sc.metrics {
			for _, n := range r.numbers(sc.name, beside) {
				broken = append(broken, r.line(w, sc, beside, m, n)...)
			}
		}
	}
	r.printFailures(w)
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

func (r *report) line(w io.Writer, sc scenario, beside string, m metric, databases int) (broken []string) {
	own, other := r.figures(sc.name, databases, m), r.figures(beside, databases, m)
	if sc.program == compassProgram {
		own, other = figures{}, own
	}
	words := ""
	if e, ok := expected(sc.name, m, databases); ok {
		figure, of := own.median(), "median"
		if e.every {
			figure, of = own.worst(), "each"
		}
		words = fmt.Sprintf("%s ≤ %s", of, number(e.most))
		if own.failed > 0 || !(figure <= e.most) {
			broken = append(broken, fmt.Sprintf("%s, %s, %d databases: %s (expected: %s)", sc.title, m, databases, own.cell(), words))
			words = "**no**, " + words
		} else {
			words = "ok, " + words
		}
	}
	count := fmt.Sprint(databases)
	if databases == 0 {
		count = ""
	}
	fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %s |\n", sc.title, m, count, trialsOf(own, other), own.cell(), other.cell(), words)
	return broken
}

// trialsOf is the number of trials, of both when they differ.
func trialsOf(own, other figures) string {
	if own.n() > 0 && other.n() > 0 && own.n() != other.n() {
		return fmt.Sprintf("%d, %d", own.n(), other.n())
	}
	return fmt.Sprint(max(own.n(), other.n()))
}

func (r *report) printFailures(w io.Writer) {
	for _, t := range r.Trials {
		if t.Failed != "" {
			fmt.Fprintf(w, "\nFailed: %s, %d databases: %s\n", t.Scenario, t.Databases, t.Failed)
		}
	}
}

func (r *report) has(name string) bool {
	return slices.ContainsFunc(r.options.scenarios, func(sc scenario) bool { return sc.name == name })
}

// numbers are the numbers of databases that a scenario was run with, in order.
func (r *report) numbers(names ...string) []int {
	var all []int
	for _, t := range r.Trials {
		if slices.Contains(names, t.Scenario) && !slices.Contains(all, t.Databases) {
			all = append(all, t.Databases)
		}
	}
	slices.Sort(all)
	return all
}

// figures are one metric of the trials of one scenario.
type figures struct {
	all    []float64 // sorted
	failed int
}

func (r *report) figures(scenario string, databases int, m metric) figures {
	var f figures
	for _, t := range r.Trials {
		switch {
		case t.Scenario != scenario || t.Databases != databases:
		case t.Failed != "":
			f.failed++
		default:
			f.all = append(f.all, m.of(t))
		}
	}
	slices.Sort(f.all)
	return f
}

func (f figures) n() int { return len(f.all) + f.failed }

func (f figures) median() float64 {
	n := len(f.all)
	switch {
	case n == 0:
		return math.NaN()
	case n%2 == 1:
		return f.all[n/2]
	}
	return (f.all[n/2-1] + f.all[n/2]) / 2
}

func (f figures) worst() float64 {
	if len(f.all) == 0 {
		return math.NaN()
	}
	return f.all[len(f.all)-1]
}

func (f figures) cell() string {
	text := number(f.median()) + " / " + number(f.worst())
	switch {
	case f.n() == 0:
		return ""
	case len(f.all) == 0:
		return fmt.Sprintf("failed %d×", f.failed)
	case f.failed > 0:
		text += fmt.Sprintf(" (failed %d×)", f.failed)
	}
	return text
}

// number has three digits or so.
func number(f float64) string {
	switch {
	case math.IsNaN(f):
		return "–"
	case f == math.Trunc(f) || math.Abs(f) >= 100:
		return fmt.Sprintf("%.0f", f)
	case math.Abs(f) >= 10:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.2f", f)
}
