package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/screen"
)

// Exit statuses of switchover.
const (
	switchoverRefused    = 3 // by the gate or the preflight; nothing was changed
	switchoverRolledBack = 4
	switchoverTimedOut   = 5 // and rolled back
)

func newSwitchover(c *common) *cobra.Command {
	var r control.SwitchoverRequest
	var timeout time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "switchover",
		Short: "Hand the role over to the other node, as planned and without loss",
		Long: "Hands the role over, from either node. Each step is shown as it ends, on both nodes.\n\n" +
			"Exit status: 0 done; 1 the address moved, but a later step failed; 3 refused by the gate\n" +
			"or the preflight, nothing was changed; 4 failed and rolled back; 5 timed out and rolled back.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if r.Force && strings.TrimSpace(r.Reason) == "" {
				return errors.New("--force goes against the gate: say why with --reason")
			}
			if timeout < time.Second || timeout > time.Hour {
				return fmt.Errorf("--timeout %s: from 1s to 1h", timeout)
			}
			r.Instance, r.TimeoutMS = c.instance, timeout.Milliseconds()
			show := func(l control.Line) { showLine(cmd.OutOrStdout(), l) }
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				show = func(l control.Line) { _ = enc.Encode(l) }
			}
			out, err := control.Dial(c.socket).Switchover(cmd.Context(), r, show)
			switch {
			case cmd.Context().Err() != nil:
				return errors.New("no longer watching; what was begun goes on: see `tanist status`")
			case err != nil:
				return err
			}
			if out.Result == "done" && !asJSON {
				fmt.Fprintln(cmd.OutOrStdout(), clean(because(doneWords(r.DryRun), out.Detail)))
			}
			return switchoverEnded(cmd.ErrOrStderr(), out)
		},
	}
	cmd.Flags().StringVar(&r.To, "to", "", "`label` of the node to hand over to (default: the one that is not active)")
	cmd.Flags().BoolVar(&r.DryRun, "dry-run", false, "check everything on both nodes, change nothing")
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "until the address has moved; then everything is rolled back")
	cmd.Flags().BoolVar(&r.Force, "force", false, "go on against the gate; needs --reason, and stays in the journal")
	cmd.Flags().StringVar(&r.Reason, "reason", "", "why; it stays in the journal, and --force wants one")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, one line for each step")
	return cmd
}

func showLine(w io.Writer, l control.Line) {
	if s := l.Step; s != nil {
		text := fmt.Sprintf("%-10s %-28s %-10s", l.Node, s.Name, s.Result)
		if s.DurationMS > 0 {
			text += fmt.Sprintf(" %8.1f ms", s.DurationMS)
		}
		if s.Detail != "" {
			text += "  " + s.Detail
		}
		fmt.Fprintln(w, strings.TrimRight(strings.Map(printable, text), " "))
	}
	if p := l.Waiting; p != nil {
		fmt.Fprintln(w, strings.Map(printable, waitingWords(*p)))
	}
	for _, r := range l.Reasons {
		fmt.Fprintln(w, "  "+clean(screen.GateText(r)))
	}
}

func waitingWords(p control.Waiting) string {
	text := "waiting for " + p.For
	if p.Left > 0 {
		text += fmt.Sprintf(": %d transactions left", p.Left)
	}
	if p.PerSecond != nil && p.SecondsLeft != nil {
		text += fmt.Sprintf(", %.0f/s, about %.0f s", *p.PerSecond, *p.SecondsLeft)
	}
	return text
}

func doneWords(dry bool) string {
	if dry {
		return "nothing stands in the way; nothing was changed"
	}
	return "done"
}

func switchoverEnded(stderr io.Writer, out control.Outcome) error {
	why := clean(because(codeWords(out.Reason), out.Detail))
	if out.Reason == "error" {
		why = clean(out.Detail)
	}
	switch out.Result {
	case "done":
		return nil
	case "refused":
		fmt.Fprintln(stderr, "refused, nothing was changed: "+why)
		return exitError{switchoverRefused}
	case "rolled_back":
		fmt.Fprintln(stderr, "failed and rolled back: "+why)
		return exitError{switchoverRolledBack}
	case "timed_out":
		fmt.Fprintln(stderr, "timed out and rolled back: "+why)
		return exitError{switchoverTimedOut}
	}
	fmt.Fprintln(stderr, clean(out.Result)+": "+why)
	return exitError{exitProblem}
}
