package main

// What is reported of a scenario: a figure of its trials, and what is expected of
// Tanist's.

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// measure is one figure and its bound.
type measure struct {
	metric metric
	bound  bound
}

// metric is a figure of a trial.
type metric uint8

const (
	metricServed metric = iota
	metricOutage
	metricLost
	metricBoth
	metricTakeovers
	metricHolder // not a number: who had the address in the end
)

func (m metric) String() string {
	return [...]string{"new router serves, ms", "client outage, ms", "probes lost", "two holders, ms", "spurious takeovers", "holder afterwards"}[m]
}

// of returns a trial's figure; infinite for what never came.
func (m metric) of(t Trial) float64 {
	switch m {
	case metricServed:
		if t.Served < 0 {
			return math.Inf(1)
		}
		return t.Served.Seconds() * 1e3
	case metricOutage:
		return t.Outage.Seconds() * 1e3
	case metricLost:
		return float64(t.Lost)
	case metricBoth:
		return t.Both.Seconds() * 1e3
	case metricTakeovers:
		return float64(t.Takeovers)
	case metricHolder:
	}
	return math.NaN()
}

// figures are one measure of the trials of one program.
type figures struct {
	all     []float64 // sorted
	holders []string
	failed  int
}

func (m metric) collect(trials []Trial) figures {
	var f figures
	for _, t := range trials {
		if t.Failed != "" {
			f.failed++
			continue
		}
		f.all = append(f.all, m.of(t))
		f.holders = append(f.holders, t.Holder)
	}
	slices.Sort(f.all)
	return f
}

func (f figures) median() float64 {
	n := len(f.all)
	if n == 0 {
		return math.NaN()
	}
	if n%2 == 1 {
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

// cell is the figures as the table shows them: median / worst, or who held the
// address how often.
func (f figures) cell(m metric) string {
	text := ""
	switch {
	case len(f.all)+f.failed == 0:
		return ""
	case len(f.all) == 0:
		return fmt.Sprintf("failed %d×", f.failed)
	case m == metricHolder:
		text = tallyWords(f.holders)
	default:
		text = number(f.median()) + " / " + number(f.worst())
	}
	if f.failed > 0 {
		text += fmt.Sprintf(" (failed %d×)", f.failed)
	}
	return text
}

// tallyWords is "b", or "a 2×, b 3×".
func tallyWords(words []string) string {
	count := map[string]int{}
	var order []string
	for _, w := range words {
		if count[w] == 0 {
			order = append(order, w)
		}
		count[w]++
	}
	if len(order) == 1 {
		return order[0]
	}
	slices.Sort(order)
	for i, w := range order {
		order[i] = fmt.Sprintf("%s %d×", w, count[w])
	}
	return strings.Join(order, ", ")
}

// number has three digits or so.
func number(f float64) string {
	switch {
	case math.IsNaN(f):
		return "–"
	case math.IsInf(f, 0):
		return "never"
	case f == math.Trunc(f) || math.Abs(f) >= 100:
		return fmt.Sprintf("%.0f", f)
	case math.Abs(f) >= 10:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.2f", f)
}

// bound is what Tanist is expected to keep.
type bound uint8

const (
	boundNone bound = iota
	boundZero
	boundKeepalived // the median no more than keepalived's
	boundHeal       // healBound
	boundLease      // the address's lease and leaseMargin
	boundSecond     // the second router has the address, and it alone
)

// healBound is how long a client may be without answer after a partition heals.
const healBound = 200 // ms

// leaseMargin is what a takeover from a dead daemon on a live host may take beyond
// the lease: the kernel removes the address up to a second late.
const leaseMargin = 1500 * time.Millisecond

// keepalivedMargin is what two medians of the same thing differ by on a machine
// with something else to do.
const (
	keepalivedMargin   = 1.05
	keepalivedMarginMS = 5
)

// verdict is the bound in words and whether Tanist's figures keep it; a bound
// without anything to compare is neither kept nor broken.
func (m measure) verdict(tanist, keepalived figures, lease time.Duration) (words string, kept, known bool) {
	if len(tanist.all)+tanist.failed == 0 {
		return "", false, false
	}
	sound := tanist.failed == 0
	switch m.bound {
	case boundZero:
		// What the sampler can see of an acknowledged handover is not meant here:
		// those scenarios do not bound the time with two holders.
		return "0", sound && tanist.worst() == 0, true
	case boundHeal:
		return fmt.Sprintf("≤ %d", healBound), sound && tanist.worst() <= healBound, true
	case boundLease:
		most := lease + leaseMargin
		return fmt.Sprintf("≤ %s", number(most.Seconds()*1e3)), sound && tanist.worst() <= most.Seconds()*1e3, true
	case boundSecond:
		return "b", sound && !slices.ContainsFunc(tanist.holders, func(h string) bool { return h != "b" }), true
	case boundKeepalived:
		if len(keepalived.all) == 0 {
			return "", false, false
		}
		most := max(keepalived.median()*keepalivedMargin, keepalived.median()+keepalivedMarginMS)
		return "≤ keepalived", sound && tanist.median() <= most, true
	case boundNone:
	}
	if !sound {
		return "succeeds", false, true
	}
	return "", true, false
}
