package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/control"
)

func newHooks(c *common) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hooks",
		Short: "Look at the plans of this node",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return errors.New("say what: plan promote, or plan demote") },
	}
	var asJSON bool
	plan := &cobra.Command{
		Use:   "plan promote|demote",
		Short: "Show what each step of a plan would do on this node now, and change nothing",
		Long: "Shows the steps of a plan in their order, with their templates as they would be filled\n" +
			"in now, and what the check of each says: `ok`, it is so already; `would change`; `cannot`,\n" +
			"as things are, and why. The daemon looks, with its own connections; nothing is changed.\n" +
			"A check gets 5 s. While a transition is under way nothing is looked at.\n\n" +
			"Whether the other node could take over as well, and the gate, is what\n" +
			"`tanist switchover --dry-run` says.\n\n" +
			"Exit status: 0 every step could be done; 1 one could not, or nobody looked.",
		Args: func(cmd *cobra.Command, args []string) error {
			if cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs)(cmd, args) != nil {
				return errors.New("say which plan: promote, or demote")
			}
			return nil
		},
		ValidArgs: []string{control.PlanPromote, control.PlanDemote},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), control.PlanTime+askPatience)
			defer cancel()
			p, err := control.Dial(c.socket).Plan(ctx, control.PlanRequest{Instance: c.instance, Plan: args[0]})
			if errors.Is(err, control.ErrUnreachable) {
				err = fmt.Errorf("%w: the daemon has the connections that the checks need; without one, `tanist check` looks at what the plans name", err)
			}
			if err != nil {
				return err
			}
			if asJSON {
				if err := json.NewEncoder(cmd.OutOrStdout()).Encode(p); err != nil {
					return err
				}
			} else {
				showPlan(cmd.OutOrStdout(), p)
			}
			for _, s := range p.Steps {
				if s.State == control.PlanCannot {
					return exitError{exitProblem}
				}
			}
			return nil
		},
	}
	plan.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.AddCommand(plan)
	return cmd
}

// showPlan prints a plan as a table: what the check says, the step, what it does, why
// not.
func showPlan(w io.Writer, p control.Plan) {
	fmt.Fprintf(w, "%s of %s on %s, as epoch %d: active %s, standby %s\n", p.Plan, p.Instance, p.Node, p.Epoch, p.Active, p.Standby)
	name := 0
	for _, s := range p.Steps {
		name = max(name, utf8.RuneCountInString(s.Name))
	}
	paints := map[control.PlanState]paint{control.PlanOK: green, control.PlanWouldChange: yellow, control.PlanCannot: red}
	coloured := colours(w)
	for i, s := range p.Steps {
		state := paints[s.State].on(coloured, fmt.Sprintf("%-12s", s.State))
		line := fmt.Sprintf("%-*s", name, strings.Map(printable, s.Name))
		if s.Action != s.Name {
			line += "  " + strings.Map(printable, s.Action)
		}
		if s.OnError == hooks.Continue.String() {
			line += "  (on_error: continue)"
		}
		fmt.Fprintf(w, "%3d  %s  %s\n", i+1, state, strings.TrimRight(line, " "))
		if s.Detail != "" {
			fmt.Fprintf(w, "%19s%s\n", "", strings.Map(printable, s.Detail))
		}
	}
}

// Plan looks at a plan.
func (d *daemon) Plan(ctx context.Context, r control.PlanRequest) (control.Plan, error) {
	name, err := d.instanceName(r.Instance)
	if err != nil {
		return control.Plan{}, err
	}
	to := hooks.Standby
	if r.Plan == control.PlanPromote {
		to = hooks.Active
	}
	p, err := d.node.Preview(ctx, name, to, control.PlanCheckTime)
	if err != nil {
		return control.Plan{}, err
	}
	answer := control.Plan{
		Node: p.Vars.Node, Instance: name, Plan: r.Plan, Active: p.Vars.Active, Standby: p.Vars.Standby, Epoch: p.Vars.Epoch,
		Steps: []control.PlanStep{},
	}
	for _, s := range p.Steps {
		answer.Steps = append(answer.Steps, control.PlanStep{
			Name: s.Name, Kind: s.Action.Kind(), Action: actionWords(s.Action), State: planState(s.Outcome), Detail: s.Detail, OnError: s.OnError.String(),
		})
	}
	return answer, nil
}

func planState(o hooks.Outcome) control.PlanState {
	switch {
	case o == hooks.Unchanged:
		return control.PlanOK
	case o.OK():
		return control.PlanWouldChange
	}
	return control.PlanCannot
}

// actionWords says on one line what an action does. Of an environment and of a
// webhook's path it says nothing: they may hold secrets.
func actionWords(a hooks.Action) string {
	switch a := a.(type) {
	case hooks.YAML:
		return fmt.Sprintf("yaml %s: %s = %q", a.File, a.Key, a.Value)
	case hooks.JSON:
		var set []string
		for _, k := range a.Set {
			value := k.Value
			if k.Text {
				value = strconv.Quote(value)
			}
			set = append(set, k.Key+" = "+value)
		}
		return "json " + a.File + ": " + strings.Join(set, ", ")
	case hooks.Exec:
		return "exec " + quotedWords(a.Command) + asUser(a.User)
	case hooks.Link:
		if !a.Absent {
			return hooks.Title(a) + " -> " + a.Target
		}
	case hooks.Notify:
		if len(a.Exec) > 0 {
			return "notify " + quotedWords(a.Exec)
		}
	case hooks.Line:
		words := fmt.Sprintf("%s %q in %s", map[bool]string{false: "line", true: "no line"}[a.Absent], a.Line, a.File)
		if a.Within != "" {
			words += fmt.Sprintf(" within %q", a.Within)
		}
		return words
	case hooks.VIP, hooks.Writes, hooks.Replication, hooks.Unit, hooks.Wait:
	}
	return hooks.Title(a)
}

func asUser(name string) string {
	if name == "" {
		return ""
	}
	return " as " + name
}

// quotedWords quotes what is not one plain word.
func quotedWords(args []string) string {
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = a
		if a == "" || strings.ContainsAny(a, " \t\n\"'") {
			words[i] = fmt.Sprintf("%q", a)
		}
	}
	return strings.Join(words, " ")
}
