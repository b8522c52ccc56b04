package main

// `tanist history --follow` reads the daemon's stream of events. When the daemon
// ends it waits for the next one and goes on where it was.

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/events"
)

// followAgain is the time between two attempts to reach the daemon.
const followAgain = time.Second

// follower is how events are followed.
type follower struct {
	from     uint64 // 0: what comes next
	asJSON   bool
	instance string
	zone     *time.Location
	account  func(uint32) string
	out      io.Writer
	colour   bool
}

// after is the number behind the latest of entries.
func after(entries []hooks.Entry) (next uint64) {
	for _, e := range entries {
		next = max(next, e.Number+1)
	}
	return next
}

// followEvents prints events until the command is ended.
func followEvents(cmd *cobra.Command, c *common, f follower) error {
	f.instance, f.zone, f.account, f.out, f.colour = c.instance, time.Local, account, cmd.OutOrStdout(), colours(cmd.OutOrStdout())
	ctx, stderr, silent := cmd.Context(), cmd.ErrOrStderr(), false
	for ctx.Err() == nil {
		body, err := control.Dial(c.socket).Events(ctx, f.from)
		if err == nil {
			if silent {
				fmt.Fprintln(stderr, "the daemon answers again")
			}
			silent = false
			err = f.read(body)
			_ = body.Close()
		}
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // whoever followed has seen enough
		case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, control.ErrUnreachable):
		default:
			return err
		}
		if !silent {
			silent = true
			fmt.Fprintln(stderr, "no daemon answers: waiting for it")
		}
		sleep(ctx, followAgain)
	}
	return nil
}

// read prints the events of one stream.
func (f *follower) read(body io.Reader) error {
	lines := bufio.NewReader(body)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return fmt.Errorf("read the daemon's events: %w", err) // a part of a line is none
		}
		var e events.Event
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("read the daemon's events: %w", err)
		}
		switch {
		case e.Number > 0:
			f.from = e.Number + 1
		case e.Kind == events.KindGap:
			f.from = e.Gap.To + 1
			if e.Gap.Why == events.NeverGiven {
				f.from = 1
			}
		case e.Kind == events.KindState:
			f.from = e.Next
		case e.Kind == events.KindHeartbeat:
			continue
		}
		if f.instance != "" && e.Instance != "" && e.Instance != f.instance {
			continue
		}
		if f.asJSON {
			_, err = f.out.Write(line)
		} else {
			_, err = io.WriteString(f.out, f.line(e))
		}
		if err != nil {
			return err
		}
	}
}

// line is an event as a person reads it; empty for one that says nothing new.
func (f *follower) line(e events.Event) string {
	v := historyView{colour: f.colour}
	switch e.Kind {
	case events.KindState:
		return ""
	case events.KindGap:
		if e.Gap.Why == events.NeverGiven {
			return "the journal is another one: from its beginning\n"
		}
		return fmt.Sprintf("%d to %d are not held any more\n", e.Gap.From, e.Gap.To)
	case events.KindCut:
		return ""
	}
	head := e.At.In(f.zone).Format("2006-01-02 15:04:05 MST") + "  " + about(hooks.Record{Kind: kindOf(e), Instance: e.Instance, Epoch: e.Epoch})
	words, colour := f.words(e)
	words = clean(words)
	if colour != "" {
		words = colour.on(v.colour, words)
	}
	return clean(head) + "  " + words + "\n"
}

// kindOf is Commanded for an event that has no epoch to show.
func kindOf(e events.Event) hooks.RecordKind {
	if e.Kind == hooks.Commanded.String() {
		return hooks.Commanded
	}
	return hooks.Began
}

// words says what happened, and its colour; none for most.
func (f *follower) words(e events.Event) (string, paint) {
	verb := word(e.Role == hooks.Active.String(), "promote", "demote")
	switch e.Kind {
	case hooks.Began.String():
		return verb + ", " + word(e.Planned, "planned", "not planned") + ": " + because(e.Reason, reasonWords(e.Reason)), bold
	case hooks.Stepped.String():
		text := "  " + e.Step.Name + "  " + strings.ReplaceAll(e.Step.Result, "_", " ") + f.took(e.Step.DurationMS) + detail(e.Step.Detail)
		if e.Step.Result == hooks.Failed.String() || e.Step.Result == "timed_out" {
			return text, red
		}
		return text, ""
	case hooks.Ended.String():
		colour := map[string]paint{hooks.Completed.String(): green, hooks.Aborted.String(): red}[e.Result]
		return verb + " " + e.Result + f.took(e.TookMS), colour
	case hooks.Override.String():
		return "override by " + f.who(e) + ": " + e.Reason, yellow
	case hooks.Commanded.String():
		text := "told to: " + strings.TrimSpace(e.Command+" "+e.Arguments) + ", by " + f.who(e)
		return text + detail(e.Reason), yellow
	case hooks.Missed.String():
		return "may have lost " + e.Loss.Database + ": " + lossWords(*e.Loss), red
	case hooks.Learned.String():
		return "the other node is active, or is offered the role", ""
	case hooks.Reverted.String():
		return "the promotion did not come about", yellow
	case hooks.Acquired.String():
		return "the address came with the planned promotion", ""
	case hooks.Strayed.String(), hooks.Mended.String(), hooks.Notified.String():
		if e.Step != nil {
			text := map[string]string{
				hooks.Strayed.String(): "drift: ", hooks.Mended.String(): "no drift any more: ", hooks.Notified.String(): "notice: ",
			}[e.Kind]
			return text + e.Step.Name + "  " + strings.ReplaceAll(e.Step.Result, "_", " ") + detail(e.Step.Detail), ""
		}
	}
	return strings.TrimSpace(e.Kind + detail(e.Reason)), "" // of a newer release
}

func (f *follower) who(e events.Event) string {
	if e.UID == nil {
		return "somebody"
	}
	return f.account(*e.UID)
}

func (f *follower) took(ms float64) string {
	if ms == 0 {
		return ""
	}
	return " in " + span(time.Duration(ms*float64(time.Millisecond)))
}

func detail(text string) string {
	if text == "" {
		return ""
	}
	return ": " + text
}
