package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/screen"
	"github.com/tanist-ha/tanist/internal/screen/live"
)

// fileWidth is how wide a status is that no terminal shows.
const fileWidth = 120

func newStatus(c *common) *cobra.Command {
	var asJSON, watch bool
	cmd := &cobra.Command{
		Use:   "status [--watch]",
		Short: "Show both nodes: who is active, whether all is well, and if not what to do",
		Long: "Shows both nodes on one screen: who is active, what is wrong and what to do about it,\n" +
			"then both side by side, and both directions of every path between them. The answer\n" +
			"comes at once, whatever hangs, and says how old it is. With --instance only that one.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if watch {
				return watchStatus(cmd, c, asJSON)
			}
			if asJSON && c.instance == "" {
				return copyStatus(cmd.Context(), c, cmd.OutOrStdout())
			}
			doc, err := askStatus(cmd.Context(), c)
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
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it on the terminal and keep it current; q ends")
	return cmd
}

// watchStatus shows the status until somebody ends it.
func watchStatus(cmd *cobra.Command, c *common, asJSON bool) error {
	if asJSON {
		return errors.New("--watch is for a person, --json for a program: ask for one of the two")
	}
	out, shown := terminal(cmd.OutOrStdout())
	in, typed := terminal(os.Stdin)
	if !shown || !typed {
		return errors.New("--watch needs a terminal; without one, `tanist status` shows it once")
	}
	if os.Getenv("TERM") == "dumb" {
		return errors.New("--watch needs a terminal that can be drawn on, and TERM is dumb")
	}
	return live.Run(cmd.Context(), live.Config{
		Ask:   func(ctx context.Context) (control.Document, error) { return askStatus(ctx, c) },
		Words: screenWords(), Colour: colours(out), Unicode: unicodeLocale(), In: in, Out: out,
	})
}

// askStatus asks the daemon, about the instance that the flag names or all.
func askStatus(ctx context.Context, c *common) (control.Document, error) {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	doc, err := control.Dial(c.socket).Ask(ctx, control.Question{Instance: c.instance})
	if err != nil || c.instance == "" {
		return doc, err
	}
	_, err = control.Pick(doc, c.instance)
	doc.Only(c.instance) // for a daemon of another release
	return doc, err
}

// copyStatus writes what the daemon says, word for word.
func copyStatus(ctx context.Context, c *common, w io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	text, err := control.Dial(c.socket).StatusJSON(ctx, control.Question{})
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, text, "", "  "); err != nil {
		return fmt.Errorf("read the daemon's status: %w", err)
	}
	_, err = out.WriteTo(w)
	return err
}

// printStatus writes both nodes for a person.
func printStatus(w io.Writer, doc control.Document, now time.Time) error {
	o := screen.Options{Now: now, Got: now, Width: fileWidth, Whole: true, Words: screenWords()}
	colour, signs := colours(w), true
	if f, ok := terminal(w); ok {
		o.Whole, o.Width, signs = false, columns(f), unicodeLocale()
	}
	_, err := io.WriteString(w, screen.Text(screen.Draw(doc, o), colour, signs))
	return err
}

func screenWords() screen.Words { return screen.Words{Reason: reasonWords, Loss: lossWords} }
