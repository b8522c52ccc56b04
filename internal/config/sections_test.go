package config

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSections(t *testing.T) {
	const text = `nodes:
  primary: {addresses: [10.77.0.11]}
  reserve: {addresses: [10.77.0.12]}
instances:
  - {name: compass, interface: eth0, vrid: 51, vips: [10.77.0.100/24], lease: 2s, heartbeat: {auth: none}}
`
	parse := func(text string) map[string]string {
		t.Helper()
		f, err := Parse("tanist.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return f.Sections()
	}
	base := parse(text)
	for _, tt := range []struct {
		name, from, to string
		want           []string
	}{
		{"nothing", "", "", nil},
		{"a comment", "nodes:\n", "nodes: # two\n", nil},
		{"a host's own interface name", "eth0", "ens3", nil},
		{"a lease", "lease: 2s", "lease: 3s", []string{"instances[compass].lease"}},
		{"a VRID and an address", "vrid: 51, vips: [10.77.0.100/24]", "vrid: 52, vips: [10.77.0.101/24]", []string{"instances[compass].vips", "instances[compass].vrid"}},
		{"an address of a node", "10.77.0.12", "10.77.0.13", []string{"nodes"}},
		{"a key that is new", "lease: 2s", "lease: 2s, preempt_delay: 5s", []string{"instances[compass].preempt_delay"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := parse(replaceOnce(text, tt.from, tt.to))
			var differ []string
			for _, k := range sortedKeys(base, got) {
				if base[k] != got[k] {
					differ = append(differ, k)
				}
			}
			if diff := cmp.Diff(tt.want, differ); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func replaceOnce(text, from, to string) string {
	if from == "" {
		return text
	}
	return strings.Replace(text, from, to, 1)
}

func sortedKeys(a, b map[string]string) []string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}
