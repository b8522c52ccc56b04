package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/failover"
)

// about is the instance and the epoch of a record, as far as it has them.
func about(r hooks.Record) string {
	switch {
	case r.Instance == "":
		return "node  "
	case r.Kind == hooks.Commanded:
		return r.Instance + "  "
	}
	return fmt.Sprintf("%s  epoch %d  ", r.Instance, r.Epoch)
}

// print writes passages for a person, the latest last.
func (v historyView) print(w io.Writer, passages []passage) error {
	for i, p := range passages {
		b := &strings.Builder{}
		if i > 0 {
			b.WriteByte('\n')
		}
		v.one(b, p)
		if _, err := io.WriteString(w, b.String()); err != nil {
			return err
		}
	}
	if len(passages) == 0 {
		_, err := fmt.Fprintln(w, "nothing in the journal")
		return err
	}
	return nil
}

func (v historyView) one(b *strings.Builder, p passage) {
	r := p.Record
	head := p.At.In(v.zone).Format("2006-01-02 15:04:05 MST") + "  " + about(r)
	b.WriteString(bold.on(v.colour, clean(head+p.heading())))
	if p.Transition {
		words, colour := p.ending()
		b.WriteString("  " + colour.on(v.colour, words))
	}
	b.WriteByte('\n')
	if p.Transition {
		v.line(b, "why", because(r.Reason, reasonWords(r.Reason)))
	} else if r.Kind == hooks.Commanded {
		v.line(b, "by", v.account(r.UID))
		if r.Reason != "" {
			v.line(b, "why", r.Reason)
		}
	} else if isHold(r.Kind) {
		v.holdLines(b, r)
	} else if r.Reason != "" && r.Kind != hooks.Override {
		v.line(b, "why", r.Reason)
	}
	if r.Lossy {
		v.line(b, "source", "databases of the other node were dead: it may have had more")
	}
	for _, o := range p.overrides() {
		v.line(b, "override", "by "+v.account(o.Record.UID)+": "+o.Record.Reason)
	}
	if r.Kind == hooks.Diverged {
		v.line(b, "database", fmt.Sprintf("%s: %d transactions: %s", r.Loss.Database, r.Loss.Proved, r.Loss.Transactions))
	}
	if r.Kind == hooks.Reconciled {
		v.line(b, "database", r.Loss.Database)
	}
	losses := p.Losses
	if r.Kind == hooks.Missed {
		losses = append(losses, r.Loss)
	}
	for _, l := range control.NewLosses(losses) {
		b.WriteString("  " + red.on(v.colour, clean("may have lost "+l.Database+": "+lossWords(l))) + "\n")
	}
	v.steps(b, p.performed())
	if !p.Reverted.IsZero() {
		v.line(b, "reverted", "the promotion did not come about, known at "+p.Reverted.In(v.zone).Format("15:04:05"))
	}
}

// commandWords is a command with its arguments.
func commandWords(r hooks.Record) string { return strings.TrimSpace(r.Command + " " + r.Arguments) }

func (v historyView) line(b *strings.Builder, name, text string) {
	fmt.Fprintf(b, "  %-9s %s\n", name, clean(text))
}

func clean(s string) string { return strings.TrimRight(strings.Map(printable, s), " ") }

// heading says what a passage is, after its date and epoch.
func (p passage) heading() string {
	planned := word(p.Record.Planned, "planned", "not planned")
	switch p.Record.Kind {
	case hooks.Began:
		switch why, _ := reasonNamed(p.Record.Reason); {
		case p.Undoes && p.Record.Role == hooks.Active:
			return "promote, taking back the demotion"
		case p.Undoes:
			return "demote, taking back the promotion"
		case why == failover.Starting:
			return p.kind() + ", closing up at the start"
		case why == failover.Settling:
			return p.kind() + ", settling as standby"
		case why == failover.Drifted:
			return p.kind() + ", putting right what had drifted"
		case why == failover.Renumbered:
			return p.kind() + ", only under a newer epoch"
		case p.Next != 0:
			return fmt.Sprintf("demote, %s, handing over to epoch %d", planned, p.Next)
		}
		return p.kind() + ", " + planned
	case hooks.Override:
		return "override"
	case hooks.Commanded:
		return "told to: " + commandWords(p.Record)
	case hooks.Learned:
		if p.Record.Planned {
			return "handing over: the epoch was given to the other node"
		}
		return "the other node is active"
	case hooks.Reverted:
		return "the promotion did not come about"
	case hooks.Acquired:
		return "the address came with the planned promotion"
	case hooks.Missed:
		return "a promotion may have lost data"
	case hooks.Diverged:
		return "conflict: this node has what the active one lacks"
	case hooks.Reconciled:
		return "the conflict is over"
	case hooks.Strayed:
		return "somebody changed what a step had left"
	case hooks.Mended:
		return "it is again as the step left it"
	case hooks.Stepped:
		return "a step of a transition that began before"
	case hooks.Notified:
		return "notice " + word(p.Record.Step.Outcome.OK(), "delivered", "not delivered") + fmt.Sprintf(", attempts: %d", p.Record.Attempts)
	case hooks.Blocking, hooks.Maintaining, hooks.Leasing, hooks.Parted, hooks.Adopted:
		return holdHeading(p.Record)
	case hooks.Ended:
		return "end of a transition that began before, " + p.Record.Ending.String()
	}
	if p.Unknown != "" {
		return p.Unknown + " (of a newer release)"
	}
	return p.Record.Kind.String()
}

// ending says how a transition ended.
func (p passage) ending() (string, paint) {
	switch p.end {
	case endCompleted:
		return "completed in " + span(p.Duration), green
	case endAborted:
		return "FAILED after " + span(p.Duration), red
	case endInterrupted:
		return "interrupted after " + span(p.Duration), yellow
	case endTakenBack:
		return "taken back: this node stayed active", yellow
	case endRunning:
		return "under way", yellow
	case endHost:
		return "CUT OFF: the host went down here", red
	case endDaemon:
	}
	return "CUT OFF: the daemon ended here", red
}

// span is a duration as a person reads it: what was quick to the tenth of a
// millisecond.
func span(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%.1f ms", millis(d))
	}
	if d < time.Minute {
		return fmt.Sprintf("%.2f s", d.Seconds())
	}
	return age(d)
}

func (v historyView) steps(b *strings.Builder, steps []hooks.Performed) {
	if len(steps) == 0 {
		return
	}
	var cells strings.Builder
	t := tabwriter.NewWriter(&cells, 0, 0, 2, ' ', 0)
	for _, s := range steps {
		name := s.Step.Name
		if s.Step.Title != "" && s.Step.Title != name {
			name += " (" + s.Step.Title + ")"
		}
		took := span(s.Step.Duration)
		if s.Step.Outcome == hooks.Skipped {
			took = ""
		}
		fmt.Fprintf(t, "    %s\t%s\t%s\t%s\n", cell(name), s.Step.Outcome, took, cell(s.Step.Detail))
	}
	_ = t.Flush() // into memory
	i := 0
	for line := range strings.Lines(cells.String()) {
		line = strings.TrimRight(line, " \n")
		if !steps[i].Step.Outcome.OK() && steps[i].Step.Outcome != hooks.Skipped {
			line = red.on(v.colour, line)
		}
		b.WriteString(line + "\n")
		if !steps[i].Step.Outcome.OK() {
			printed(b, steps[i].Step.Output)
		}
		i++
	}
}

// printed shows what the program of a step that failed said.
func printed(b *strings.Builder, output string) {
	for line := range strings.Lines(hooks.Legible(output)) {
		b.WriteString("      | " + strings.TrimRight(line, " \n") + "\n")
	}
}

// cell is text that breaks no table.
func cell(s string) string { return strings.Join(strings.Fields(strings.Map(printable, s)), " ") }
