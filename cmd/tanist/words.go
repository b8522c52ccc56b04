package main

// Sentences and values that more than one command prints.

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/tanist-ha/tanist/internal/control"
)

// printable keeps what a server, a program or the other node said from steering the
// terminal, and from being read in another order than it is written.
func printable(r rune) rune {
	switch {
	case unicode.IsControl(r), unicode.In(r, unicode.Zl, unicode.Zp):
		return ' '
	case unicode.In(r, unicode.Cf, unicode.Co, unicode.Cs):
		return -1
	}
	return r
}

// legible is printable for what has several lines.
func legible(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return r
		}
		return printable(r)
	}, s)
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
