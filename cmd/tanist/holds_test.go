package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/internal/control"
)

func holdOf(t *testing.T, f *fake, args ...string) (status int, out, errs string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status = execute(t.Context(), append(args, "--socket", f.socket), &stdout, &stderr)
	return status, stdout.String(), stderr.String()
}

func TestHoldCommands(t *testing.T) {
	done := control.HoldAnswer{Node: "primary", Instances: []control.HoldResult{
		{Instance: "compass", Result: "done", Reason: "maintenance", Detail: "on both nodes; the address outlives a daemon by 2m0s", Shared: true},
	}}
	for name, tt := range map[string]struct {
		args []string
		want control.HoldRequest
	}{
		"block":           {[]string{"block", "--reason", "disk", "--for", "2h"}, control.HoldRequest{On: true, Reason: "disk", ForMS: 7_200_000}},
		"unblock":         {[]string{"unblock"}, control.HoldRequest{}},
		"maintenance on":  {[]string{"maintenance", "on", "--reason", "x", "--force", "--instance", "compass"}, control.HoldRequest{Instance: "compass", On: true, Reason: "x", Force: true}},
		"maintenance off": {[]string{"maintenance", "off", "--reason", "done"}, control.HoldRequest{Reason: "done"}},
	} {
		f := serve(t, "active", true)
		f.answer = done
		status, out, errs := holdOf(t, f, tt.args...)
		if status != exitOK || errs != "" || out != "compass: maintenance: on both nodes; the address outlives a daemon by 2m0s\n" {
			t.Errorf("%s: exit %d, %q, %q", name, status, out, errs)
		}
		f.held[0].UID = 0
		if diff := cmp.Diff([]control.HoldRequest{tt.want}, f.held); diff != "" {
			t.Errorf("%s: wanted (-) and asked (+):\n%s", name, diff)
		}
		_, out, _ = holdOf(t, f, append(tt.args, "--json")...)
		var got control.HoldAnswer
		if err := json.Unmarshal([]byte(out), &got); err != nil || !cmp.Equal(got, done) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

func TestHoldCommandsThatFail(t *testing.T) {
	refused := control.HoldAnswer{Node: "primary", Instances: []control.HoldResult{
		{Instance: "compass", Result: "done", Reason: "blocked"},
		{Instance: "sextant", Result: "refused", Reason: "journal_failed", Detail: "no space left on device"},
	}}
	for name, tt := range map[string]struct {
		args    []string
		refusal error
		want    string
	}{
		"no reason":              {[]string{"block"}, nil, "--reason"},
		"an empty reason":        {[]string{"maintenance", "on", "--reason", "  "}, nil, "--reason"},
		"too short":              {[]string{"block", "--reason", "x", "--for", "10ms"}, nil, "from 1s"},
		"too long":               {[]string{"block", "--reason", "x", "--for", "2161h"}, nil, "2160h"},
		"for of an end":          {[]string{"unblock", "--for", "1h"}, nil, "unknown flag"},
		"one of two is refused":  {[]string{"block", "--reason", "x"}, nil, "sextant: refused, nothing was changed: journal_failed: no space left on device"},
		"the daemon's own words": {[]string{"block", "--reason", "x"}, errors.New("no instance is called y"), "no instance is called y"},
		"a verb that is none":    {[]string{"maintenance", "maybe"}, nil, "unknown command"},
	} {
		f := serve(t, "active", true)
		f.answer, f.refusal = refused, tt.refusal
		status, _, errs := holdOf(t, f, tt.args...)
		if status != exitProblem || !strings.Contains(errs, tt.want) {
			t.Errorf("%s: exit %d, %q", name, status, errs)
		}
	}
	if status, _, errs := holdOf(t, &fake{socket: "/nonexistent"}, "unblock"); status != exitProblem || !strings.Contains(errs, "no daemon answers") {
		t.Errorf("without a daemon: exit %d, %q", status, errs)
	}
}

func TestHoldsInStatus(t *testing.T) {
	now := time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC)
	var out bytes.Buffer
	printHolds(&out, control.Instance{
		Maintenance: &control.Hold{Reason: "upgrade", UID: 4294967294, By: "reserve", Until: now.Add(time.Hour), Shared: true},
		Block:       &control.Hold{Reason: "disk", UID: 4294967294},
	}, now)
	want := "  MAINTENANCE\tboth nodes\t\tfailover is suspended: upgrade (uid 4294967294 on reserve), for another 1h0m0s\n" +
		"  BLOCKED\t\t\tthis node is not promoted: disk (uid 4294967294), until it is taken back\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}
