package main

import (
	"context"
	"encoding/json"
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
	Word   string `json:"word"` // active, standby, promoting, demoting or unknown
	Reason string `json:"reason"`
	status int
}

func newCheckMaster(c *common) *cobra.Command {
	var quiet, asJSON bool
	cmd := &cobra.Command{
		Use:   "check-master",
		Short: "Tell scripts whether this node is active: exit status 0 yes, 1 no, 2 unknown",
		Long: "Prints one word, active, standby, promoting, demoting or unknown, and the reason on\n" +
			"standard error. The exit status is 0 when this node is active: it has the role, the\n" +
			"kernel has the address and the promotion is finished; 1 when it is not; 2 when that\n" +
			"is unknown or the records disagree.",
		// Called wrongly it knows nothing, and 1 would say that this is the standby.
		Args: func(cmd *cobra.Command, args []string) error { return misused(cmd, cobra.NoArgs(cmd, args)) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := checkMaster(cmd.Context(), c)
			switch {
			case quiet:
			case asJSON:
				_ = json.NewEncoder(cmd.OutOrStdout()).Encode(v)
			default:
				fmt.Fprintln(cmd.OutOrStdout(), v.Word)
				fmt.Fprintln(cmd.ErrOrStderr(), v.Reason)
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
	return cmd
}

func misused(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	fmt.Fprintln(cmd.ErrOrStderr(), "tanist: "+err.Error())
	return exitError{masterUnknown}
}

func checkMaster(ctx context.Context, c *common) verdict {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	doc, err := control.Dial(c.socket).Status(ctx)
	if err != nil {
		return verdict{Word: "unknown", Reason: err.Error(), status: masterUnknown}
	}
	in, err := pick(doc, c.instance)
	if err != nil {
		return verdict{Word: "unknown", Reason: err.Error(), status: masterUnknown}
	}
	return judge(in)
}

// judge holds the daemon's word against the kernel's.
func judge(in control.Instance) verdict {
	held := 0
	for _, v := range in.VIPs {
		if v.Held {
			held++
		}
	}
	why := in.Reason
	if in.Detail != "" {
		why += ": " + in.Detail
	}
	switch in.State {
	case "active":
		if held < len(in.VIPs) {
			return verdict{"unknown", fmt.Sprintf("active, but the kernel has %d of %d addresses", held, len(in.VIPs)), masterUnknown}
		}
		return verdict{"active", why, masterActive}
	case "promoting", "demoting":
		return verdict{in.State, why, masterStandby}
	case "conflict", "initialize":
		return verdict{"unknown", in.State + ": " + why, masterUnknown}
	}
	if held > 0 {
		return verdict{"unknown", fmt.Sprintf("%s, but the kernel has %d of %d addresses", in.State, held, len(in.VIPs)), masterUnknown}
	}
	return verdict{"standby", in.State + ": " + why, masterStandby}
}

// pick finds the instance that a command is about.
func pick(doc control.Document, name string) (control.Instance, error) {
	if name == "" {
		if len(doc.Instances) == 1 {
			return doc.Instances[0], nil
		}
		return control.Instance{}, fmt.Errorf("there are %d instances: name one with --instance", len(doc.Instances))
	}
	for _, in := range doc.Instances {
		if in.Name == name {
			return in, nil
		}
	}
	return control.Instance{}, fmt.Errorf("no instance is called %q", name)
}
