package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/tanist-ha/tanist/internal/control"
)

func newStatus(c *common) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show both nodes: state, why, addresses, gate, databases, units, labels",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), askPatience)
			defer cancel()
			doc, err := control.Dial(c.socket).Status(ctx)
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(doc)
			}
			return printStatus(cmd.OutOrStdout(), doc, time.Now())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// printStatus writes both nodes for a person, the more important lines first.
func printStatus(w io.Writer, doc control.Document, now time.Time) error {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for i, in := range doc.Instances {
		if i > 0 {
			fmt.Fprintln(t)
		}
		printInstance(t, doc, in, now)
	}
	if j := doc.Journal; j != nil && !j.Writable {
		fmt.Fprintf(t, "\njournal\tCANNOT BE WRITTEN\tfor %s\t%s: no promotion of this node begins\n", age(time.Duration(j.ForSeconds*float64(time.Second))), j.Error)
	}
	fmt.Fprintf(t, "\npeer link\t%s\n", reachable(doc.Peer))
	for _, p := range doc.Peer.Paths {
		fmt.Fprintf(t, "  path\t%s\t%s\n", p.Address, pathWords(p))
	}
	for i, p := range doc.Heartbeat {
		if i == 0 {
			fmt.Fprintln(t, "heartbeat")
		}
		fmt.Fprintf(t, "  path\t%s\t%s\n", heartbeatEnds(p), heartbeatWords(p))
	}
	if r := doc.Reload; r != nil {
		fmt.Fprintf(t, "\nlast reload\t%s\t%s ago\t%s%s\n", r.Result, age(now.Sub(r.At)), r.Detail, r.Error)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	// Cells that are empty at the end of a line leave blanks.
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(strings.Map(printable, line), " ")); err != nil {
			return err
		}
	}
	return nil
}

// printable keeps what a server or a program said from steering the terminal.
func printable(r rune) rune {
	if unicode.IsControl(r) {
		return ' '
	}
	return r
}

func printInstance(t io.Writer, doc control.Document, in control.Instance, now time.Time) {
	fmt.Fprintf(t, "instance %s\tstate\tepoch\twhy\n", in.Name)
	fmt.Fprintf(t, "  %s (this node)\t%s\t%d\t%s, for %s\n", doc.Node, in.State, in.Epoch, because(in.Reason, in.Detail), age(now.Sub(in.Since)))
	for _, p := range doc.Peer.Instances {
		if p.Name != in.Name {
			continue
		}
		said := because(p.Reason, p.Detail)
		if !doc.Peer.Reachable {
			said = fmt.Sprintf("last heard %s ago", age(time.Duration(p.AgeMS)*time.Millisecond))
		}
		fmt.Fprintf(t, "  %s\t%s\t%d\t%s\n", doc.Peer.Label, p.State, p.Epoch, said)
	}
	for _, v := range in.VIPs {
		where := "not here"
		if v.Held {
			where = "held here"
		}
		fmt.Fprintf(t, "  address\t%s\t%s\t%s\n", v.Address, v.Interface, where)
	}
	if in.ClaimedBy != "" {
		fmt.Fprintf(t, "  claimed by\t%s\t\tanswers for the address too\n", in.ClaimedBy)
	}
	if r := in.Restored; r != nil {
		fmt.Fprintf(t, "  put back\t%s\t\t%d times, the last %s ago: somebody else takes it off\n", r.Address, r.Count, age(now.Sub(r.At)))
	}
	if in.Heartbeat != nil {
		fmt.Fprintf(t, "  heartbeat\t%s\t\t%s\n", in.Heartbeat.Auth, advertWords(*in.Heartbeat))
	}
	printGate(t, doc.Node, in.Gate)
	for _, p := range doc.Peer.Instances {
		if p.Name == in.Name && doc.Peer.Reachable {
			printGate(t, doc.Peer.Label, p.Gate)
		}
	}
	for _, d := range in.Databases {
		fmt.Fprintf(t, "  database %s\t%s\t%s\t%s\n", d.Name, d.Role, writable(d.ReadOnly), databaseWords(d))
	}
	for _, name := range in.Unprotected {
		fmt.Fprintf(t, "  database %s\tUNPROTECTED\t\tthe active node has it and this one does not\n", name)
	}
	if in.Waiting != nil {
		fmt.Fprintf(t, "  %s\n", waitingWords(*in.Waiting))
	}
	for _, h := range in.Health {
		fmt.Fprintf(t, "  check %s\t%s\t%s\t%s\n", h.Name, checkWord(h, now), h.Effect, checkWords(h))
	}
	if s := in.Stays; s != nil {
		fmt.Fprintf(t, "  stays here\t%s\t\t%s wants it to move%s\n", s.Reason, s.Check, errorWords(s.Detail))
		for _, r := range s.Gate {
			fmt.Fprintf(t, "    %s\t%s\t\t%s\n", r.Code, r.Database, r.Detail)
		}
	}
	for _, u := range in.Units {
		fmt.Fprintf(t, "  unit %s\t%s\t%s\t%s\n", u.Name, word(u.Running, "running", "stopped"), u.Active, u.Error)
	}
	printStanding(t, doc, in)
	if x := in.LastTransition; x != nil {
		fmt.Fprintf(t, "  last transition\t%s\t%d\t%s, %s in %.0f ms\n", x.Kind, x.Epoch, x.Reason, x.Result, x.DurationMS)
		for _, s := range x.Steps {
			fmt.Fprintf(t, "    %s\t%s\t%.1f ms\t%s\n", s.Name, s.Result, s.DurationMS, s.Detail)
		}
		for _, l := range x.Losses {
			fmt.Fprintf(t, "    may have lost\t%s\t\t%s\n", l.Database, lossWords(l))
		}
	}
}

// lossWords says what is known of a loss: proved, and at most.
func lossWords(l control.Loss) string {
	if l.SemiSync && l.AtMost != nil && *l.AtMost == 0 {
		return "nothing: semi-synchronous replication was on"
	}
	words := "nothing is known: the source was never heard"
	if l.Proved != nil {
		words = fmt.Sprintf("proved %d", *l.Proved)
	}
	if l.AtMost != nil {
		words += fmt.Sprintf(", at most about %d", *l.AtMost)
	}
	if l.HeardSeconds != nil {
		words += fmt.Sprintf(", by what was heard %.1f s before", *l.HeardSeconds)
	}
	if l.Transactions != "" {
		words += ": " + l.Transactions
	}
	return words
}

func printGate(t io.Writer, node string, g control.Gate) {
	if g.Open {
		fmt.Fprintf(t, "  gate of %s\topen\n", node)
		return
	}
	fmt.Fprintf(t, "  gate of %s\tclosed\n", node)
	for _, r := range g.Reasons {
		fmt.Fprintf(t, "    %s\t%s\t\t%s\n", r.Code, r.Database, r.Detail)
	}
}

func reachable(p control.Peer) string {
	if p.Reachable {
		return "up, " + p.Label + " answers" + unproved(p)
	}
	return "down, nothing heard of " + p.Label + unproved(p)
}

func pathWords(p control.Path) string {
	var words []string
	switch {
	case p.LastHeardMS == nil:
		words = append(words, "never heard")
	case p.Heard:
		words = append(words, "heard")
	default:
		words = append(words, "silent for "+age(time.Duration(*p.LastHeardMS)*time.Millisecond))
	}
	if p.HearsUs != nil {
		words = append(words, word(*p.HearsUs, "hears us", "does not hear us"))
	}
	if p.SecondKey {
		words = append(words, "the peer uses the second key")
	}
	if p.Error != "" && (p.HearsUs == nil || !*p.HearsUs || p.Reason != "") {
		words = append(words, p.Error)
	}
	return strings.Join(words, ", ")
}

// heartbeatEnds says where a path of the heartbeat goes.
func heartbeatEnds(p control.HeartbeatPath) string {
	if p.Interface != "" {
		return p.Peer + " on " + p.Interface
	}
	return p.Peer
}

func heartbeatWords(p control.HeartbeatPath) string {
	words := []string{word(p.Up, "up", "down"), heardAgo(p.LastHeardMS)}
	if p.Error != "" {
		words = append(words, p.Error)
	}
	return strings.Join(append(words, countWords("dropped", p.Dropped)...), ", ")
}

// advertWords says what the peer's advertisements are like, short when all is well.
func advertWords(h control.Heartbeat) string {
	words := []string{heardAgo(h.LastHeardMS)}
	if h.Proved != nil {
		words = append(words, word(*h.Proved, "proved", "NOT PROVED: "+h.Doubt))
	}
	if h.SecondKey {
		words = append(words, "the peer signs with the second key")
	}
	if len(h.Mismatch) > 0 {
		words = append(words, "the peer's configuration differs: "+strings.Join(h.Mismatch, " "))
	}
	return strings.Join(append(words, countWords("dropped", h.Dropped)...), ", ")
}

func heardAgo(ms *int64) string {
	if ms == nil {
		return "never heard"
	}
	return "heard " + age(time.Duration(*ms)*time.Millisecond) + " ago"
}

// countWords lists what was counted by reason.
func countWords(what string, counts map[string]uint64) []string {
	var words []string
	for _, reason := range slices.Sorted(maps.Keys(counts)) {
		words = append(words, fmt.Sprintf("%s %d %s", what, counts[reason], reason))
	}
	return words
}

func databaseWords(d control.Database) string {
	var words []string
	if d.IORunning != nil && d.SQLRunning != nil {
		words = append(words, "IO "+word(*d.IORunning, "running", "stopped"), "SQL "+word(*d.SQLRunning, "running", "stopped"))
	}
	if d.LagSeconds != nil {
		words = append(words, fmt.Sprintf("lag %.1f s (%s)", *d.LagSeconds, d.LagFrom))
	}
	if d.MissingTransactions != nil && *d.MissingTransactions > 0 {
		words = append(words, fmt.Sprintf("%d %s missing", *d.MissingTransactions, word(*d.MissingTransactions == 1, "transaction", "transactions")))
	}
	if d.Position != nil {
		words = append(words, "at "+*d.Position)
	}
	if d.Error != "" {
		words = append(words, d.Error)
	}
	return strings.Join(words, ", ")
}

func writable(readOnly *bool) string {
	if readOnly == nil {
		return "unknown"
	}
	return word(*readOnly, "read-only", "writable")
}

func checkWord(h control.Health, now time.Time) string {
	switch {
	case h.OK == nil:
		return "unknown"
	case !h.Until.IsZero():
		return h.Verdict + ", counts as failing for " + age(max(0, h.Until.Sub(now)))
	}
	return word(*h.OK, "ok", "failing")
}

// checkWords says what the latest sample was and how old it is.
func checkWords(h control.Health) string {
	var words []string
	if h.Detail != "" {
		words = append(words, h.Detail)
	}
	switch {
	case h.AgeMS != nil:
		words = append(words, age(time.Duration(*h.AgeMS)*time.Millisecond)+" ago")
	case h.OK == nil:
		words = append(words, "no sample yet")
	}
	return strings.Join(words, ", ")
}

func word(yes bool, a, b string) string {
	if yes {
		return a
	}
	return b
}

func because(reason, detail string) string {
	if detail == "" {
		return reason
	}
	return reason + ": " + detail
}

func errorWords(s string) string {
	if s == "" {
		return ""
	}
	return ", " + s
}

// age rounds a time to what a person reads at a glance.
func age(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
