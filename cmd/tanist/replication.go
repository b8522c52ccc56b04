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
)

// exitUsage is the exit status of `tanist replication` used wrongly.
const exitUsage = 2

func newReplication(c *common) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "replication",
		Short: "Look at, stop, start and attach the databases of this node",
		Long: "Acts on the databases of this node, one by one: what is refused for one is done for the\n" +
			"others. It asks the daemon, or does it by itself where none runs; either way the\n" +
			"journal says who wanted it.\n\n" +
			"Exit status: 0 all is well; 1 something is not, each with its reason; 2 wrong usage.",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usage(cmd, errors.New("say what: "+strings.Join(verbs(), ", ")))
		},
	}
	for _, v := range []struct {
		verb  control.ReplicationVerb
		short string
	}{
		{control.ReplicationStatus, "Show whether each database replicates as it should"},
		{control.ReplicationStop, "Apply what was received, then stop the replica threads"},
		{control.ReplicationStart, "Start the replica threads as they are set up"},
		{control.ReplicationFollow, "Make the databases replicas of the peer's"},
		{control.ReplicationRejoin, "The same after a failover; with --discard, over transactions that only this node has"},
		{control.ReplicationWait, "Wait until the databases have what their sources have now"},
	} {
		cmd.AddCommand(newReplicationVerb(c, v.verb, v.short))
	}
	return cmd
}

func verbs() []string {
	var words []string
	for _, v := range control.ReplicationVerbs() {
		words = append(words, string(v))
	}
	return words
}

// usage says what is wrong with the command line.
func usage(cmd *cobra.Command, err error) error {
	fmt.Fprintln(cmd.ErrOrStderr(), "tanist: "+err.Error())
	return exitError{exitUsage}
}

func newReplicationVerb(c *common, verb control.ReplicationVerb, short string) *cobra.Command {
	r := control.ReplicationRequest{Verb: verb}
	var all, asJSON bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   string(verb) + " [NAME...]",
		Short: short,
		RunE: func(cmd *cobra.Command, names []string) error {
			r.Instance, r.Databases, r.TimeoutMS = c.instance, names, timeout.Milliseconds()
			switch {
			case all && len(names) > 0:
				return usage(cmd, errors.New("either names or --all"))
			case !all && len(names) == 0 && verb != control.ReplicationStatus && verb != control.ReplicationWait:
				return usage(cmd, errors.New("name the databases, or say --all"))
			}
			if err := r.Check(); err != nil {
				return usage(cmd, err)
			}
			return replicate(cmd, c, r, asJSON)
		},
	}
	cmd.SetFlagErrorFunc(usage)
	cmd.Flags().BoolVar(&all, "all", false, "all databases of the instance")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, one line for each database")
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "until it is given up")
	if verb != control.ReplicationStatus && verb != control.ReplicationWait {
		cmd.Flags().StringVar(&r.Reason, "reason", "", "why; it stays in the journal")
	}
	if verb == control.ReplicationRejoin {
		cmd.Flags().BoolVar(&r.Discard, "discard", false, "give up the transactions that only this node has; needs --reason")
	}
	return cmd
}

func replicate(cmd *cobra.Command, c *common, r control.ReplicationRequest, asJSON bool) error {
	stdout, stderr := cmd.OutOrStdout(), cmd.ErrOrStderr()
	well := true
	_, live := terminal(stdout)
	live = live && !asJSON
	enc := json.NewEncoder(stdout)
	show := func(l control.ReplicationLine) {
		if l.Result != control.ReplicationWaiting {
			well = well && l.Result.OK()
		} else if !asJSON && !live {
			return // progress is for who watches
		}
		if asJSON {
			_ = enc.Encode(l)
			return
		}
		showReplication(stdout, stderr, l)
	}
	last, err := control.Dial(c.socket).Replication(cmd.Context(), r, show)
	if errors.Is(err, control.ErrUnreachable) {
		err = withoutDaemon(cmd.Context(), c, r, stderr, show)
	}
	switch {
	case err != nil:
		return err
	case last.Detail != "":
		return errors.New(last.Detail)
	case !well:
		return exitError{exitProblem}
	}
	return nil
}

// showReplication prints a line: what is well on stdout, what is not on stderr.
func showReplication(stdout, stderr io.Writer, l control.ReplicationLine) {
	w, words := stdout, []string{string(l.Result)}
	if l.Result == control.ReplicationRefused {
		w = stderr
	}
	if l.Status != nil {
		words = []string{l.Status.Role, writable(l.Status.ReadOnly), databaseWords(*l.Status)}
	}
	text := fmt.Sprintf("%s: %s", l.Database, strings.Join(words, ", "))
	if l.Detail != "" && (l.Status == nil || l.Detail != l.Status.Error) {
		text += ": " + l.Detail
	}
	fmt.Fprintln(w, strings.Map(printable, text))
}
