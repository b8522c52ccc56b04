package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/hooks"
)

func TestFileSteps(t *testing.T) {
	const text = `
nodes: {primary: {addresses: [10.77.0.11]}, reserve: {addresses: [10.77.0.12]}}
instances:
  - name: site
    interface: eth0
    vrid: 51
    vips: [10.77.0.100/24]
    promote:
      - vip: acquire
      - json:
          file: "/srv/{{.Instance}}.json"
          set:
            "{{.Active}}.master": true
            'a\.b.c': False
            n.int: 12345678901234567890
            n.float: 1.0
            n.exponent: 1e5
            n.none: null
            n.tilde: ~
            t.quoted: "true"
            t.number: "5"
            t.template: "{{.Node}}"
            t.empty: ""
            t.plain: it is
      - yaml: {file: /srv/x.yaml, key: 'a\.b', value: 1}
      - line: {file: /etc/upstream.conf, line: "server {{.Peer}}:8080;", ensure: absent, within: "upstream bx_cluster {", after: "ip_hash;"}
      - line: {file: /etc/x.ini, line: "a = b", within: "[main]"}
`
	f, err := Parse("file.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var got []hooks.Action
	for _, s := range f.Instances[0].Promote[1:] {
		got = append(got, s.Action)
	}
	want := []hooks.Action{
		hooks.JSON{File: "/srv/{{.Instance}}.json", Set: []hooks.JSONKey{
			{Key: "{{.Active}}.master", Value: "true"},
			{Key: `a\.b.c`, Value: "false"},
			{Key: "n.int", Value: "12345678901234567890"},
			{Key: "n.float", Value: "1.0"},
			{Key: "n.exponent", Value: "1e5"},
			{Key: "n.none", Value: "null"},
			{Key: "n.tilde", Value: "null"},
			{Key: "t.quoted", Value: "true", Text: true},
			{Key: "t.number", Value: "5", Text: true},
			{Key: "t.template", Value: "{{.Node}}", Text: true},
			{Key: "t.empty", Text: true},
			{Key: "t.plain", Value: "it is", Text: true},
		}},
		hooks.YAML{File: "/srv/x.yaml", Key: `a\.b`, Value: "1"},
		hooks.Line{File: "/etc/upstream.conf", Line: "server {{.Peer}}:8080;", Absent: true, Within: "upstream bx_cluster {", After: "ip_hash;"},
		hooks.Line{File: "/etc/x.ini", Line: "a = b", Within: "[main]"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
