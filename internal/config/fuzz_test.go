package config

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"go.yaml.in/yaml/v4"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/vrrp"
)

// Whatever the bytes, Parse returns a file that keeps its promises or problems
// that stand in the file, and a byte order mark or CRLF changes neither.
func FuzzParse(f *testing.F) {
	for _, kind := range []string{"good", "bad"} {
		entries, err := os.ReadDir("testdata/" + kind)
		if err != nil {
			f.Fatal(err)
		}
		for _, e := range entries {
			data, err := os.ReadFile("testdata/" + kind + "/" + e.Name())
			if err != nil {
				f.Fatal(err)
			}
			if strings.HasSuffix(e.Name(), ".yaml") {
				f.Add(data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse("f", data)
		if (file == nil) == (err == nil) {
			t.Fatalf("got %v and %v", file, err)
		}
		if err != nil {
			checkProblems(t, data, err)
		} else {
			checkFile(t, file)
		}
		unix := bytes.ReplaceAll(bytes.TrimPrefix(data, []byte("\ufeff")), []byte("\r\n"), []byte("\n"))
		dos := append([]byte("\ufeff"), bytes.ReplaceAll(unix, []byte("\n"), []byte("\r\n"))...)
		if len(dos) > MaxSize || bytes.Contains(data, []byte("\r")) {
			return
		}
		again, dosErr := Parse("f", dos)
		if err != nil && (dosErr == nil || dosErr.Error() != err.Error()) {
			t.Errorf("with CRLF: %v\nwithout: %v", dosErr, err)
		}
		if err == nil {
			if diff := same(file, again); diff != "" {
				t.Errorf("with CRLF (-without +with):\n%s", diff)
			}
		}
	})
}

func checkProblems(t *testing.T, data []byte, err error) {
	var problems Problems
	if !errors.As(err, &problems) || len(problems) == 0 || len(problems) > maxProblems+1 {
		t.Fatalf("got %T, %v", err, err)
	}
	lines := bytes.Count(data, []byte("\n")) + 1
	for _, p := range problems {
		if p.Line > lines || p.Line > 0 && p.Column < 1 || p.Message == "" {
			t.Errorf("%d:%d of %d lines: %q", p.Line, p.Column, lines, p.Message)
		}
		odd := func(r rune) bool { return r != '\n' && r != '\t' && unicode.IsControl(r) }
		if strings.ContainsFunc(p.Error(), odd) || strings.ContainsAny(p.Message+p.Hint, "\n") {
			t.Errorf("control characters in %q", p.Error())
		}
	}
}

func checkFile(t *testing.T, f *File) {
	for i, n := range f.Nodes {
		if self, peer, err := f.Node(n.Label, ""); err != nil || self != i || peer != 1-i || len(n.Addresses) == 0 {
			t.Errorf("node %d: %d, %d, %v", i, self, peer, err)
		}
	}
	if len(f.Nodes[0].Addresses) != len(f.Nodes[1].Addresses) || len(f.Instances) == 0 {
		t.Errorf("nodes %v, %d instances", f.Nodes, len(f.Instances))
	}
	vrids := map[string]bool{}
	for _, in := range f.Instances {
		route := "unicast"
		if in.Heartbeat.Mode == Multicast {
			route = in.Interface
		}
		vrid := fmt.Sprintf("%d %s", in.VRID, route)
		if in.Name == "" || in.Interface == "" || in.VRID == 0 || vrids[vrid] || len(in.VIPs) == 0 ||
			in.Priority[0] == 0 || in.Priority[1] == 0 || in.Lease < leaseAdverts*in.Heartbeat.AdvertInterval ||
			in.Heartbeat.AdvertInterval <= 0 || in.Gate.DrainTimeout <= 0 || in.GARP.Repeat < 1 {
			t.Errorf("instance %+v", in)
		}
		vrids[vrid] = true
		checkRouter(t, f, in)
		checkPlan(t, in.Promote, true)
		checkPlan(t, in.Demote, false)
	}
}

// checkRouter wants what a virtual router on each node can run with.
func checkRouter(t *testing.T, f *File, in Instance) {
	for i, n := range f.Nodes {
		c := vrrp.Config{
			Version: vrrp.Version(in.Heartbeat.Version), VRID: in.VRID, Priority: in.Priority[i],
			Interval: vrrp.Centiseconds(in.Heartbeat.AdvertInterval / (10 * time.Millisecond)),
		}
		for _, v := range in.VIPs {
			c.Addresses = append(c.Addresses, v.Addr())
		}
		if c.Local = vrrp.Group(c.Addresses[0]); in.Heartbeat.Mode == Unicast {
			at := slices.IndexFunc(n.Addresses, func(a netip.Addr) bool { return a.Is4() == c.Addresses[0].Is4() })
			if at < 0 || f.Nodes[1-i].Addresses[at].Is4() != n.Addresses[at].Is4() {
				t.Errorf("node %s has nothing to advertise %v from", n.Label, c.Addresses[0])
				continue
			}
			c.Local = n.Addresses[at]
		}
		if err := c.Validate(); err != nil {
			t.Error(err)
		}
	}
}

func checkPlan(t *testing.T, p hooks.Plan, acquire bool) {
	names, pivots := map[string]bool{}, 0
	for _, s := range p {
		if s.Action == nil || s.Timeout <= 0 || s.Name == "" || names[s.Name] {
			t.Errorf("step %+v", s)
			continue
		}
		names[s.Name] = true
		if v, ok := s.Action.(hooks.VIP); ok {
			if pivots++; v.Acquire != acquire {
				t.Errorf("step %+v", s)
			}
		}
		sample := hooks.Vars{Node: "primary", Peer: "reserve", Active: "primary", Standby: "reserve", Instance: "instance", Epoch: 1, Reason: "reason", VIP: "192.0.2.10"}
		if _, err := hooks.Expand(s.Action, sample); err != nil {
			t.Errorf("step %+v: %v", s, err)
		}
	}
	if pivots != 1 {
		t.Errorf("%d vip steps", pivots)
	}
}

// Any value of a file can be replaced by any other: still no panic, no problem
// without a place, no file that breaks a promise.
func TestEveryValueReplaced(t *testing.T) {
	strange := []string{"~", "[]", "{}", `""`, "x", "-1", "true", "[~, x, x]", "{x: ~}", `"{{.X}}"`, `"\0"`, "*alias"}
	for _, file := range []string{"good/full.yaml", "contract.yaml"} {
		data, err := os.ReadFile("testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		var doc yaml.Node
		if err := yaml.Unmarshal(data, &doc); err != nil {
			t.Fatal(err)
		}
		for _, n := range nodesOf(&doc) {
			was := *n
			for _, s := range strange {
				*n = yaml.Node{Kind: yaml.ScalarNode, Value: "PLACE"}
				text, err := yaml.Marshal(&doc)
				if err != nil {
					t.Fatal(err)
				}
				text = bytes.Replace(text, []byte("PLACE"), []byte(s), 1)
				f, err := Parse("f", text)
				if err != nil {
					checkProblems(t, text, err)
				} else {
					checkFile(t, f)
				}
				if t.Failed() {
					t.Fatalf("at line %d of %s with %s", was.Line, file, s)
				}
			}
			*n = was
		}
	}
}

// nodesOf lists the nodes under a document.
func nodesOf(n *yaml.Node) []*yaml.Node {
	var all []*yaml.Node
	for _, c := range n.Content {
		all = append(append(all, c), nodesOf(c)...)
	}
	return all
}
