package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/hooks/step"
	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/systemd"
	"github.com/tanist-ha/tanist/vrrp/vip"
)

// checkPatience bounds each question to systemd or a database.
const checkPatience = 5 * time.Second

func newCheck(c *common) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and everything it names on this host",
		Long: "Checks the configuration file, and on this host the interfaces, addresses, units,\n" +
			"files, keys, the database accounts with their grants, and asks each health check\n" +
			"once. Changes nothing. Exit status 0: fine; 1: problems, each printed with its place\n" +
			"and a fix. What works and could be better, and a health check that fails now, is\n" +
			"printed as a note.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			found, err := check(cmd.Context(), c)
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				if err := enc.Encode(found.document()); err != nil {
					return err
				}
			} else {
				printRules(cmd.OutOrStdout(), found.rules)
				for _, n := range found.notices {
					fmt.Fprintln(cmd.OutOrStdout(), "note: "+n.Error())
				}
				if len(found.problems) == 0 {
					fmt.Fprintln(cmd.OutOrStdout(), "ok: "+c.config)
				}
			}
			if len(found.problems) == 0 {
				return nil
			}
			if asJSON {
				return exitError{exitProblem}
			}
			return found.problems
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

type checkProblem struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

func (h *hostCheck) document() map[string]any {
	return map[string]any{
		"ok": len(h.problems) == 0, "problems": checkList(h.problems), "notes": checkList(h.notices),
		"discover": append([]ruleFound{}, h.rules...),
	}
}

func checkList(problems config.Problems) []checkProblem {
	list := []checkProblem{}
	for _, p := range problems {
		list = append(list, checkProblem{p.File, p.Line, p.Column, p.Message, p.Hint})
	}
	return list
}

// check looks at the file first; only a valid one says what to look for here.
func check(ctx context.Context, c *common) (*hostCheck, error) {
	file, self, err := load(c)
	if problems, ok := errors.AsType[config.Problems](err); ok {
		return &hostCheck{problems: problems}, nil
	}
	if err != nil {
		return nil, err
	}
	h := &hostCheck{file: file, self: self, units: systemd.NewUnits(systemd.UnitsConfig{}), notices: slices.Clone(file.Notices)}
	defer func() { _ = h.units.Close() }()
	h.run(ctx)
	h.stateDir(ctx, c)
	h.stopTimeout(ctx)
	return h, nil
}

// hostCheck holds the configuration against this host.
type hostCheck struct {
	file     *config.File
	self     int
	units    *systemd.Units
	problems config.Problems
	notices  config.Problems
	lacking  config.Problems // those of problems that are privileges an account lacks
	rules    []ruleFound
}

func (h *hostCheck) problem(path, hint, format string, args ...any) {
	h.problems = append(h.problems, h.file.Problem(path, fmt.Sprintf(format, args...), hint))
}

func (h *hostCheck) notice(path, hint, format string, args ...any) {
	h.notices = append(h.notices, h.file.Problem(path, fmt.Sprintf(format, args...), hint))
}

func (h *hostCheck) run(ctx context.Context) {
	h.keyFile()
	for i, in := range h.file.Instances {
		at := fmt.Sprintf("instances[%d]", i)
		h.network(i, at, in)
		h.databases(ctx, at, in)
		h.discovered(ctx, at, in)
		h.plan(ctx, at+".promote", in.Name, in.Promote)
		h.plan(ctx, at+".demote", in.Name, in.Demote)
		h.plan(ctx, at+".fence", in.Name, in.Fence)
		h.health(ctx, at, in, true)
	}
	if at := h.file.HTTP; at != nil && !at.Listen.Addr().IsUnspecified() && !hasAddress(at.Listen.Addr().WithZone("")) {
		h.problem("http.listen", "write 127.0.0.1, or 0.0.0.0 for every address", "no interface of this host has %s", at.Listen.Addr())
	}
	me := h.file.Nodes[h.self]
	for i, a := range me.Addresses {
		if !hasAddress(a) {
			h.problem(fmt.Sprintf("nodes.%s.addresses[%d]", me.Label, i),
				"correct the address, or run this on "+h.file.Nodes[1-h.self].Label, "no interface of this host has %s", a)
		}
	}
}

// keyFile wants keys that can be used, if the file names or needs them.
func (h *hostCheck) keyFile() {
	at := keyPlace(h.file)
	if at == "" {
		h.unprovedLink()
		return
	}
	var problems config.Problems
	if _, err := readKeys(h.file, at); errors.As(err, &problems) {
		h.problems = append(h.problems, problems...)
	}
}

func (h *hostCheck) network(i int, at string, in config.Instance) {
	prefixes, err := vip.AddressesOf(in.Interface)
	if err != nil {
		h.problem(at+".interface", "`ip -brief link` lists this host's interfaces", "interface %s does not exist on this host", in.Interface)
		return
	}
	h.problems = append(h.problems, h.file.CheckSubnets(i, prefixes)...)
}

// secret wants a file that its owner alone can read.
func (h *hostCheck) secret(at, path, missing string) {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		h.problem(at, missing, "%s does not exist", path)
	case err != nil:
		h.problem(at, "run this as the user that runs the daemon", "%v", err)
	case st.Mode().Perm()&0o077 != 0:
		h.problem(at, "chmod 600 "+path, "%s can be read by others than its owner (mode %04o)", path, st.Mode().Perm())
	}
}

// plan looks at what the steps name; what a step would change is not looked at.
func (h *hostCheck) plan(ctx context.Context, at, instance string, plan hooks.Plan) {
	me, other := h.file.Nodes[h.self].Label, h.file.Nodes[1-h.self].Label
	vars := hooks.Vars{Node: me, Peer: other, Active: me, Standby: other, Instance: instance}
	for i, s := range plan {
		where := fmt.Sprintf("%s[%d]", at, i)
		if !h.file.Given(where) {
			continue // the default plan names nothing of this host
		}
		action, err := hooks.Expand(s.Action, vars)
		if err != nil {
			h.problem(where, "", "%v", err)
			continue
		}
		var st step.Step
		switch a := action.(type) {
		case hooks.Unit:
			st = step.NewUnit(a, h.units)
		case hooks.YAML:
			st = step.NewYAML(a)
		case hooks.JSON:
			st = step.NewJSON(a)
		case hooks.Line:
			st = step.NewLine(a)
		case hooks.Exec:
			if a.User != "" {
				if _, err := user.Lookup(a.User); err != nil {
					h.problem(where+".exec.user", "create the account, or name another", "no account is called %s", a.User)
				}
			}
			a.Verify = nil // a check of the host runs nothing
			st = step.NewExec(a, "")
		case hooks.Link:
			st = step.NewLink(a)
		case hooks.Notify:
			st = step.NewNotify(a, nil)
		case hooks.Wait:
			h.wait(ctx, where+".wait", a)
			continue
		case hooks.VIP, hooks.Writes, hooks.Replication:
			continue
		}
		h.step(ctx, where+"."+action.Kind(), st)
	}
}

func (h *hostCheck) step(ctx context.Context, at string, st step.Step) {
	ctx, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	if state, err := st.Check(ctx); state == step.Cannot && err != nil {
		h.problem(at, "correct it here or on this host: the step could not be done", "%s", strings.Join(strings.Fields(err.Error()), " "))
	}
}
