package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tanist-ha/tanist/internal/control"
)

func (f *fake) Plan(context.Context, control.PlanRequest) (control.Plan, error) {
	return f.plan, f.refusal
}

const planInstance = `
  - name: a
    interface: veth0
    vrid: 51
    vips: [192.0.2.100/24]
    lease: 3s
    promote:
      - vip: acquire
      - yaml: {file: DIR/values.yaml, key: label, value: "{{.Active}}"}
        name: label
      - json: {file: DIR/labels.json, set: {"{{.Active}}.master": true, "{{.Standby}}.host": "{{.Peer}}"}}
      - link: {path: DIR/enabled.conf, target: DIR/available.conf}
        name: site
      - exec: {command: [/bin/true, "{{.Event}}", two words], verify: [/usr/bin/test, -e, DIR/done], env: {TOKEN: secret}}
      - exec: {command: [DIR/missing]}
        name: missing
        on_error: continue
      - notify: {webhook: "https://example.com/secret/path"}
    demote:
      - line: {file: DIR/upstream.conf, line: "server srv1:8080;", within: "upstream x {", ensure: absent}
      - vip: release
      - yaml: {file: DIR/values.yaml, key: label, value: "{{.Active}}"}
        name: label
`

// The plans of a real daemon: templates filled in, each check's word, nothing
// changed, no secret said.
func TestHooksPlan(t *testing.T) {
	if !inside(t) {
		return
	}
	veth(t, "veth0", "veth1", "192.0.2.11/24")
	files := t.TempDir()
	for name, text := range map[string]string{
		"values.yaml": "label: old # theirs\n", "labels.json": `{"primary":{"master":false},"reserve":{"host":""}}`, "available.conf": "",
		"upstream.conf": "upstream x {\n  server srv1:8080;\n}\n",
	} {
		if err := os.WriteFile(filepath.Join(files, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r, args := prepareReloadRig(t, "primary", strings.ReplaceAll(planInstance, "DIR", files))
	with := func(words ...string) []string { return append(words, args[1:]...) }
	if got := tanist(t, with("hooks", "plan", "promote")...); got.code != exitProblem || !strings.Contains(got.stderr, "no daemon answers") || !strings.Contains(got.stderr, "tanist check") {
		t.Errorf("without a daemon: %+v", got)
	}
	r.daemon = startTanist(t, args...)
	eventually(t, "the address", func() bool {
		doc, err := r.client.Status(t.Context())
		return err == nil && doc.Instances[0].VIPs[0].Held && doc.Instances[0].LastTransition != nil && doc.Instances[0].LastTransition.Result != "running"
	})
	// The promotion did some of it: put back what the plan is to find.
	for name, text := range map[string]string{"values.yaml": "label: old # theirs\n", "upstream.conf": "upstream x {\n  server srv1:8080;\n}\n"} {
		if err := os.WriteFile(filepath.Join(files, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var text strings.Builder
	for plan, code := range map[string]int{"promote": exitProblem, "demote": exitOK} {
		var got ran
		eventually(t, "a moment without a repair", func() bool {
			got = tanist(t, with("hooks", "plan", plan)...)
			return !strings.Contains(got.stderr, "not at rest")
		})
		if got.code != code || got.stderr != "" {
			t.Errorf("%s: %+v", plan, got)
		}
		golden(t, "plan-"+plan+".txt", strings.ReplaceAll(got.stdout, files, "DIR"))
		text.WriteString(got.stdout)
	}
	if strings.Contains(text.String(), "secret") {
		t.Errorf("a secret is said:\n%s", text.String())
	}
	if b, err := os.ReadFile(filepath.Join(files, "values.yaml")); err != nil || string(b) != "label: old # theirs\n" {
		t.Errorf("the file was changed: %s, %v", b, err)
	}
	var p control.Plan
	if err := json.Unmarshal([]byte(tanist(t, with("hooks", "plan", "demote", "--json")...).stdout), &p); err != nil || len(p.Steps) != 3 || p.Steps[1].State != control.PlanWouldChange || p.Active != "reserve" {
		t.Errorf("%v: %+v", err, p)
	}
	for _, wrong := range [][]string{{"plan"}, {"plan", "explode"}, {"plan", "promote", "demote"}, {}} {
		if got := tanist(t, with(append([]string{"hooks"}, wrong...)...)...); got.code != exitProblem || got.stdout != "" || got.stderr == "" {
			t.Errorf("%v: %+v", wrong, got)
		}
	}
	if err := r.daemon.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := r.daemon.end(t); code != exitOK {
		t.Errorf("exit status %d\n%s", code, r.daemon.stderr)
	}
}
