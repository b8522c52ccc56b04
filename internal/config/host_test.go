package config

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNode(t *testing.T) {
	f := &File{Name: "t.yaml", Nodes: [2]Node{{Label: "primary", Hostname: "db1"}, {Label: "reserve"}}}
	for _, c := range []struct {
		name, label, hostname string
		self                  int // -1 for an error
	}{
		{"label", "reserve", "db1", 1},
		{"hostname", "", "db1", 0},
		{"label-is-the-host-name", "", "reserve", 1},
		{"label-though-it-has-a-hostname", "", "primary", 0},
		{"unknown-label", "db1", "db1", -1},
		{"unknown-host", "", "db3", -1},
		{"prefix-is-not-enough", "", "db1.example.net", -1},
		{"nothing", "", "", -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			self, peer, err := f.Node(c.label, c.hostname)
			if c.self < 0 {
				if err == nil || !strings.Contains(err.Error(), "primary and reserve") {
					t.Errorf("got %d, %v; want an error that names the nodes", self, err)
				}
				return
			}
			if err != nil || self != c.self || peer != 1-c.self {
				t.Errorf("got %d, %d, %v; want %d", self, peer, err, c.self)
			}
		})
	}
}

func TestAt(t *testing.T) {
	f := mustParse(t, "full.yaml")
	for _, c := range []struct {
		path         string
		line, column int
		given        bool
	}{
		{"instances[0].interface", 15, 16, true},
		{"instances[0].vips[1]", 17, 28, true},
		{"nodes.reserve.addresses[1]", 8, 9, true},
		{"instances[0].promote[5].unit.start", 47, 23, true},
		{"instances[0].promote[7].exec.command[0]", 52, 21, true},
		{"instances[0].databases[1].address", 36, 33, true},
		{"instances[1].lease", 65, 5, false},
		{"docker_socket", 2, 1, false},
		{"instances[9].name", 14, 3, false},
	} {
		line, column := f.At(c.path)
		if line != c.line || column != c.column || f.Given(c.path) != c.given {
			t.Errorf("%s: got %d:%d, given %v; want %d:%d, %v", c.path, line, column, f.Given(c.path), c.line, c.column, c.given)
		}
	}
}

func TestProblem(t *testing.T) {
	f := mustParse(t, "minimal.yaml")
	got := f.Problem("instances[0].interface", "interface eth0 does not exist", "see ip link").Error()
	want := "minimal.yaml:6:16: interface eth0 does not exist\n" +
		"      interface: eth0\n" +
		"                 ^\n" +
		"  hint: see ip link"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// A File made by hand has no places, which is no reason to panic.
func TestProblemWithoutSource(t *testing.T) {
	f := minimal()
	f.Name = "f"
	if line, column := f.At("instances[0].vrid"); line != 0 || column != 0 {
		t.Errorf("got %d:%d", line, column)
	}
	if got, want := f.Problem("instances[0].vrid", "wrong", "right it").Error(), "f: wrong\n  hint: right it"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCheckSubnets(t *testing.T) {
	f := mustParse(t, "full.yaml") // 10.77.0.100/24 and 10.77.0.101/32
	prefixes := func(list ...string) []netip.Prefix {
		var out []netip.Prefix
		for _, s := range list {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	for _, c := range []struct {
		name   string
		iface  []netip.Prefix
		wanted []string // messages and hints
	}{
		{"inside", prefixes("10.77.0.11/24"), nil},
		{"one-of-several", prefixes("192.0.2.1/24", "10.77.0.11/16"), nil},
		{"outside", prefixes("10.78.0.11/24", "fd00::1/64"), []string{
			"10.77.0.100 is outside every subnet of eth0", "eth0 is in 10.78.0.0/24: correct the address or the interface",
			"10.77.0.101 is outside every subnet of eth0", "eth0 is in 10.78.0.0/24: correct the address or the interface",
		}},
		{"held-is-no-evidence", prefixes("10.77.0.100/24", "10.77.0.101/32"), []string{
			"10.77.0.100 is outside every subnet of eth0", "eth0 has no address of its own: give it one, or name another interface",
			"10.77.0.101 is outside every subnet of eth0", "eth0 has no address of its own: give it one, or name another interface",
		}},
		{"half", prefixes("10.77.0.102/31", "10.77.0.96/30", "10.77.0.100/24"), []string{
			"10.77.0.100 is outside every subnet of eth0", "eth0 is in 10.77.0.102/31 and 10.77.0.96/30: correct the address or the interface",
			"10.77.0.101 is outside every subnet of eth0", "eth0 is in 10.77.0.102/31 and 10.77.0.96/30: correct the address or the interface",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, p := range f.CheckSubnets(0, c.iface) {
				got = append(got, p.Message, p.Hint)
				if p.Line != 17 || p.Source == "" {
					t.Errorf("at line %d: %v", p.Line, p)
				}
			}
			if diff := cmp.Diff(c.wanted, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
