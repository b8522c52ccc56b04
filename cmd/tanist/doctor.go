package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/doctor"
	"github.com/tanist-ha/tanist/internal/doctor/host"
	"github.com/tanist-ha/tanist/systemd"
)

func newDoctor(c *common) *cobra.Command {
	var asJSON, verbose bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Diagnose the pair: what is wrong, by what evidence, and what to paste",
		Long: "Looks at both nodes through their daemons: whether they hear each other on every path\n" +
			"and protocol, each way, by probes of its own; whether configurations, keys, clocks and\n" +
			"releases agree; and on each host what drops packets, takes the virtual address away or\n" +
			"starts at boot what the plans start. Changes nothing. Without a daemon it looks at this\n" +
			"host alone. Exit status 0: nothing wrong, or warnings only; 1: problems.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := diagnose(cmd.Context(), c)
			if err != nil {
				return err
			}
			if err := printReport(cmd.OutOrStdout(), report, asJSON, verbose); err != nil {
				return err
			}
			if report.Problems > 0 {
				return exitError{exitProblem}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "print what was checked and is fine as well")
	return cmd
}

func printReport(w io.Writer, r doctor.Report, asJSON, verbose bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	style := doctor.Style{Verbose: verbose, Colour: colours(w)}
	if f, ok := terminal(w); ok {
		style.Width = columns(f)
	}
	return r.Print(w, style)
}

// diagnose asks the daemon; when it does not answer, that is a finding, and this
// process looks at the host.
func diagnose(ctx context.Context, c *common) (doctor.Report, error) {
	ask, cancel := context.WithTimeout(ctx, control.DoctorTime+askPatience)
	defer cancel()
	var report doctor.Report
	err := control.Dial(c.socket).Doctor(ask, &report)
	switch {
	case err == nil:
		return report, nil
	case errors.Is(err, os.ErrPermission):
		return report, err
	case errors.Is(err, control.ErrUnreachable) || errors.Is(err, context.DeadlineExceeded):
		return hostAlone(ctx, c, err)
	}
	return report, err
}

// hostAlone is what can be found out from this process.
func hostAlone(ctx context.Context, c *common, why error) (doctor.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, control.DoctorTime)
	defer cancel()
	units := systemd.NewUnits(systemd.UnitsConfig{})
	defer func() { _ = units.Close() }()
	down := doctor.StoppedDaemon(ctx, host.Units{Manager: units}, c.socket, why)
	file, self, err := load(c)
	if problems, ok := errors.AsType[config.Problems](err); ok {
		name, _ := os.Hostname()
		return doctor.NewReport([2]string{name, ""}, []string{name}, append([]doctor.Finding{down}, problemFindings(problems, doctor.ConfigurationWrong)...)), nil
	}
	if err != nil {
		return doctor.Report{}, err
	}
	keys, _ := clusterKeys(file) // what is wrong with the file, the examination says
	x := examiner{common: c, file: file, self: self, keys: keys, units: units}
	nodes := x.labels()
	groups, left := x.groups()
	sight := x.look(ctx, nil, groups)
	findings := slices.Concat([]doctor.Finding{down}, left, sight.Findings)
	findings = append(findings, doctor.Paths(nodes, sight.Sights, nil, doctor.Peer{})...)
	findings = append(findings, doctor.Groups(nodes, sight.view(), nil, doctor.Peer{})...)
	if f := doctor.Unasked(nodes, "no daemon runs on "+nodes[0], sight.Sights); f.Node == nodes[1] {
		findings = append(findings, f)
	}
	findings = append(findings, doctor.Addresses(nodes, sight.Claims, nil)...)
	return doctor.NewReport(nodes, nodes[:1], findings), nil
}

// problemFindings are findings of what `tanist check` would say.
func problemFindings(problems config.Problems, code doctor.Code) []doctor.Finding {
	var found []doctor.Finding
	for _, p := range problems {
		place := p.File
		if p.Line > 0 {
			place = fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
		}
		found = append(found, doctor.FromProblems(code, doctor.Problem, place, p.Message, remedy(p.Hint)))
	}
	return found
}

// remedy is what `tanist check` says to a person, as a fix: but for the few that are
// commands it is not to be pasted.
func remedy(hint string) string {
	if hint == "" || strings.HasPrefix(hint, "chmod ") || strings.HasPrefix(hint, "chown ") {
		return hint
	}
	return "# " + hint
}
