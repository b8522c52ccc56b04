package config

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/hooks"
)

// What steps that make links, run keepalived's programs, wait and tell mean.
func TestStepValues(t *testing.T) {
	file, err := parseFile(t, filepath.Join("testdata", "good", "steps.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	step := func(name string, a hooks.Action) hooks.Step {
		return hooks.Step{Name: name, Timeout: hooks.DefaultTimeout, Action: a}
	}
	const sites, enabled = "/etc/nginx/bx/site_avaliable/http*", "/etc/nginx/bx/site_enabled/"
	on := func(s hooks.Step, timeout time.Duration, e hooks.OnError) hooks.Step {
		s.Timeout, s.OnError = timeout, e
		return s
	}
	want := []hooks.Plan{
		{
			step("vip acquire", hooks.VIP{Acquire: true}),
			step("link "+enabled, hooks.Link{Path: enabled, Target: sites}),
			step("link /srv/current", hooks.Link{Path: "/srv/current", Target: "releases/{{.Node}}"}),
			step("exec /etc/keepalived/notify.sh", hooks.Exec{Command: []string{"/etc/keepalived/notify.sh", "{{.Epoch}}"}, Keepalived: true}),
			on(step("wait tcp 127.0.0.1:8080", hooks.Wait{TCP: "127.0.0.1:8080"}), 5*time.Second, hooks.Abort),
			step("wait tcp [::1]:8080", hooks.Wait{TCP: "[::1]:8080"}),
			on(step("wait file /run/{{.Instance}}.ready", hooks.Wait{File: "/run/{{.Instance}}.ready"}), hooks.DefaultTimeout, hooks.Continue),
			on(step("notify /usr/local/bin/tell-us", hooks.Notify{Exec: []string{"/usr/local/bin/tell-us", "{{.Event}}", "{{.Priority}}"}}), hooks.DefaultTimeout, hooks.Continue),
			step("notify https://hooks.example", hooks.Notify{Webhook: "https://user:secret@hooks.example/T0/B0?token=secret"}),
		},
		{
			step("vip release", hooks.VIP{}),
			on(step("wait lsyncd /var/log/lsyncd/lsyncd.status", hooks.Wait{Lsyncd: "/var/log/lsyncd/lsyncd.status"}), time.Minute, hooks.Abort),
			step("unit stop lsyncd.service", hooks.Unit{Verb: hooks.StopUnit, Name: "lsyncd.service"}),
			step("link absent "+enabled, hooks.Link{Path: enabled, Target: sites, Absent: true}),
		},
	}
	in := file.Instances[0]
	if diff := cmp.Diff(want, []hooks.Plan{in.Promote, in.Demote}); diff != "" {
		t.Error(diff)
	}
}
