package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/failover"
)

func newBlock(c *common) *cobra.Command {
	h := holdCommand{common: c, kind: failover.BlockHold, on: true}
	cmd := &cobra.Command{
		Use:   "block --reason TEXT [--for 2h]",
		Short: "Keep this node from being promoted",
		Long: "This node is not promoted any more, by nobody but an operator's `switchover --force`,\n" +
			"until it is unblocked or the time is over. An active node stays active. The block\n" +
			"outlives the daemon and the host. Exit status: 0 done, 1 not.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return h.run(cmd) },
	}
	h.flags(cmd)
	return cmd
}

func newUnblock(c *common) *cobra.Command {
	h := holdCommand{common: c, kind: failover.BlockHold}
	cmd := &cobra.Command{
		Use:   "unblock",
		Short: "Let this node be promoted again",
		Long:  "Takes a block back. Exit status: 0 it is so, or was so before; 1 not.",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return h.run(cmd) },
	}
	h.flags(cmd)
	return cmd
}

func newMaintenance(c *common) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "maintenance",
		Short: "Suspend automatic failover of the pair",
		Long: "Under maintenance nothing moves by itself: the address stays where it is, also over\n" +
			"restarts and upgrades of the daemons, and a host that dies is not replaced. It is\n" +
			"switched on either node and holds on both.",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return errors.New("say what: on, or off") },
	}
	on := holdCommand{common: c, kind: failover.MaintenanceHold, on: true}
	onCmd := &cobra.Command{
		Use:   "on --reason TEXT [--for 1h]",
		Short: "Suspend automatic failover, until it is switched off or the time is over",
		Long: "When the other node cannot be told the command says so, and it holds here. The address\n" +
			"then outlives a daemon only by the configured lease, unless --force accepts that the\n" +
			"other node, back meanwhile, does not wait for the long one. Exit status: 0 done, 1 not.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return on.run(cmd) },
	}
	on.flags(onCmd)
	onCmd.Flags().BoolVar(&on.request.Force, "force", false, "lengthen the lease though the other node cannot be told")
	off := holdCommand{common: c, kind: failover.MaintenanceHold}
	offCmd := &cobra.Command{
		Use:   "off",
		Short: "Let failover happen again",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return off.run(cmd) },
	}
	off.flags(offCmd)
	cmd.AddCommand(onCmd, offCmd)
	return cmd
}

// holdCommand is one command about a hold.
type holdCommand struct {
	*common
	kind    failover.HoldKind
	on      bool
	lasts   time.Duration
	asJSON  bool
	request control.HoldRequest
}

func (h *holdCommand) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&h.asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&h.request.Reason, "reason", "", "why; it stays in journal and status")
	if h.on {
		cmd.Flags().DurationVar(&h.lasts, "for", 0, "how `long`, from 1s to 2160h; until it is taken back without it")
	}
}

func (h *holdCommand) run(cmd *cobra.Command) error {
	r := h.request
	r.On, r.Instance, r.ForMS = h.on, h.instance, h.lasts.Milliseconds()
	switch {
	case h.on && strings.TrimSpace(r.Reason) == "":
		return errors.New("say why with --reason: who comes by at night has to know")
	case cmd.Flags().Changed("for") && (h.lasts < time.Second || h.lasts > 90*24*time.Hour):
		return fmt.Errorf("--for %s: from 1s to 2160h", h.lasts)
	}
	answer, err := control.Dial(h.socket).Hold(cmd.Context(), h.kind, r)
	if err != nil {
		return err
	}
	if h.asJSON {
		enc := json.NewEncoder(cmd.OutOrStdout())
		enc.SetIndent("", "  ")
		if err := enc.Encode(answer); err != nil {
			return err
		}
	}
	refused := false
	for _, in := range answer.Instances {
		refused = refused || !in.OK()
		if !h.asJSON {
			h.tell(cmd.OutOrStdout(), cmd.ErrOrStderr(), in)
		}
	}
	if refused {
		return exitError{exitProblem}
	}
	return nil
}

// tell says how it went with one instance: what needs care on standard error.
func (h *holdCommand) tell(out, errs io.Writer, in control.HoldResult) {
	text := in.Instance + ": "
	if !in.OK() {
		fmt.Fprintln(errs, clean(text+"refused, nothing was changed: "+because(in.Reason, in.Detail)))
		return
	}
	text += strings.ReplaceAll(in.Reason, "_", " ")
	if in.Detail != "" {
		text += ": " + in.Detail
	}
	fmt.Fprintln(out, clean(text))
}

// holdPatience bounds a command: a record that the disk takes, and the peer's.
const holdPatience = 15 * time.Second

// Hold carries out a command about a hold, on all instances when none is named: an
// upgrade of the daemon and trouble with a host concern every one of them.
func (d *daemon) Hold(ctx context.Context, kind failover.HoldKind, r control.HoldRequest) (control.HoldAnswer, error) {
	names := d.node.Names()
	if r.Instance != "" {
		name, err := d.instanceName(r.Instance)
		if err != nil {
			return control.HoldAnswer{}, err
		}
		names = []string{name}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), holdPatience)
	defer cancel()
	answer := control.HoldAnswer{Node: d.nodes[d.self].Label, Instances: make([]control.HoldResult, len(names))}
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() { answer.Instances[i] = d.holdOne(ctx, name, kind, r) })
	}
	all.Wait()
	return answer, nil
}

func (d *daemon) holdOne(ctx context.Context, name string, kind failover.HoldKind, r control.HoldRequest) control.HoldResult {
	a, err := d.node.Hold(ctx, name, failover.HoldRequest{
		Kind: kind, On: r.On, Reason: r.Reason, UID: r.UID, For: time.Duration(r.ForMS) * time.Millisecond, Force: r.Force,
	})
	if err != nil {
		return control.HoldResult{Instance: name, Result: "failed", Reason: "error", Detail: err.Error()}
	}
	res := control.HoldResult{Instance: name, Result: a.Outcome.String(), Reason: a.Why.Reason.String(), Detail: a.Why.Detail}
	if st, err := d.node.Status(ctx, name); err == nil && kind == failover.MaintenanceHold {
		res.Shared = st.MaintenanceShared
	}
	return res
}
