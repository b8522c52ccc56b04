package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tanist-ha/tanist/internal/control"
)

// Exit statuses of check-master.
const (
	masterActive  = 0
	masterStandby = 1
	masterUnknown = 2
)

// askPatience bounds every question to the daemon that is answered from memory.
const askPatience = 2 * time.Second

// verdict is the answer of check-master.
type verdict struct {
	Word   control.Word `json:"word"`
	Reason string       `json:"reason"`
	words  string       // the reason for a person
	status int
}

func newCheckMaster(c *common) *cobra.Command {
	var quiet, asJSON, legacy bool
	cmd := &cobra.Command{
		Use:   "check-master",
		Short: "Tell scripts whether this node is active: exit status 0 yes, 1 no, 2 unknown",
		Long: "Prints one word, active, standby, promoting, demoting or unknown, and the reason on\n" +
			"standard error. The exit status is 0 when this node is active: it has the role, the\n" +
			"kernel has the address and the promotion is finished; 1 when it is not; 2 when that\n" +
			"is unknown or the records disagree.\n\n" +
			"--legacy stands in for Compass's check_current_master_server.py: it prints one of its\n" +
			"two sentences, in colour on a terminal, and the exit status is 0 for both. What that\n" +
			"script did when it could not read its files it does when the answer is unknown: no\n" +
			"sentence, the reason on standard error, and exit status 1.",
		// Called wrongly it knows nothing, and 1 would say that this is the standby.
		Args: func(cmd *cobra.Command, args []string) error { return misused(cmd, cobra.NoArgs(cmd, args)) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := checkMaster(cmd.Context(), c)
			if legacy {
				return sayLegacy(cmd.OutOrStdout(), cmd.ErrOrStderr(), v)
			}
			switch {
			case quiet:
			case asJSON:
				_ = json.NewEncoder(cmd.OutOrStdout()).Encode(v)
			default:
				fmt.Fprintln(cmd.OutOrStdout(), v.Word)
				fmt.Fprintln(cmd.ErrOrStderr(), clean(v.words))
			}
			if v.status == masterActive {
				return nil
			}
			return exitError{v.status}
		},
	}
	cmd.SetFlagErrorFunc(misused)
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print nothing, only the exit status counts")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&legacy, "legacy", false, "print the sentences of check_current_master_server.py, and exit 0 for both")
	cmd.MarkFlagsMutuallyExclusive("quiet", "json", "legacy")
	return cmd
}

func misused(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	fmt.Fprintln(cmd.ErrOrStderr(), clean("tanist: "+err.Error()))
	return exitError{masterUnknown}
}

func checkMaster(ctx context.Context, c *common) verdict {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	doc, err := control.Dial(c.socket).Ask(ctx, control.Question{Instance: c.instance, Alone: true})
	if err != nil {
		return unknownRole(err)
	}
	in, err := control.Pick(doc, c.instance)
	if errors.Is(err, control.ErrUnnamed) {
		err = fmt.Errorf("%w with --instance", err)
	}
	if err != nil {
		return unknownRole(err)
	}
	v := control.Judge(in)
	return verdict{Word: v.Word, Reason: v.Reason, words: control.JudgeInWords(in, codeWords).Reason, status: masterStatus(v.Word)}
}

func unknownRole(err error) verdict {
	return verdict{Word: control.WordUnknown, Reason: err.Error(), words: err.Error(), status: masterUnknown}
}

func masterStatus(w control.Word) int {
	switch w {
	case control.WordActive:
		return masterActive
	case control.WordStandby, control.WordPromoting, control.WordDemoting:
		return masterStandby
	case control.WordUnknown:
	}
	return masterUnknown
}
