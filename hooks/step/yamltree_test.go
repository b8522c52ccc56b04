package step

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// FuzzYAMLTree edits one value of a random file: another parse of it differs in that
// value alone, and every other line is what it was.
func FuzzYAMLTree(f *testing.F) {
	for seed := range uint64(200) {
		f.Add(seed, []string{"reserve", "no", "a: b", "it's", "", "é\t#"}[seed%6])
	}
	f.Fuzz(func(t *testing.T, seed uint64, value string) {
		r := rand.New(rand.NewPCG(seed, 0))
		root := randomMapping(r, 3)
		path := randomPath(r, root)
		src, err := yaml.Marshal(&yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{root}})
		if err != nil || !utf8.ValidString(value) {
			t.Skip(err)
		}
		if r.IntN(3) == 0 {
			src = []byte(strings.ReplaceAll(string(src), "\n", "\r\n"))
		}
		out, err := setValue(src, path, value)
		if got := (*Refusal)(nil); errors.As(err, &got) {
			if got.Line == 0 || got.Reason != ReasonMultiline && got.Reason != ReasonBlock && got.Reason != ReasonSyntax {
				t.Fatalf("%v in\n%s\n%v", path, src, got)
			}
			return
		}
		before, after := strings.Split(string(src), "\n"), strings.Split(string(out), "\n")
		if len(before) != len(after) {
			t.Fatalf("%d lines became %d:\n%s\n%s", len(before), len(after), src, out)
		}
		changed := 0
		for i := range before {
			if before[i] != after[i] {
				changed++
			}
		}
		if changed > 1 || (changed == 0) != (string(src) == string(out)) {
			t.Fatalf("%d lines changed:\n%s\n%s", changed, src, out)
		}
		onlyValueDiffers(t, src, out, path, value)
	})
}

func randomMapping(r *rand.Rand, depth int) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode}
	if r.IntN(5) == 0 {
		m.Style = yaml.FlowStyle
	}
	for i := range 1 + r.IntN(4) {
		key := &yaml.Node{Kind: yaml.ScalarNode, Value: fmt.Sprintf("%s%d", []string{"k", "a.b", "é", "x y", "#", "on", "'"}[r.IntN(7)], i), Tag: "!!str"}
		if m.Style == 0 && r.IntN(4) == 0 {
			key.HeadComment = "# label: x " + fmt.Sprint(i)
		}
		m.Content = append(m.Content, key, randomValue(r, depth))
	}
	return m
}

func randomValue(r *rand.Rand, depth int) *yaml.Node {
	switch k := r.IntN(8); {
	case k < 2 && depth > 0:
		return randomMapping(r, depth-1)
	case k == 2 && depth > 0:
		return &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{randomValue(r, depth-1), randomMapping(r, 0)}}
	}
	texts := []string{"primary", "true", "3306", "1.50", "it's", "a: b", "", " x", "# no", "two\nlines", "tab\t", "ключ", "2026-11-21", "~", `back\slash "q"`, "😀"}
	n := &yaml.Node{Kind: yaml.ScalarNode, Value: texts[r.IntN(len(texts))], Tag: "!!str"}
	n.Style = []yaml.Style{0, yaml.SingleQuotedStyle, yaml.DoubleQuotedStyle, yaml.LiteralStyle}[r.IntN(4)]
	if n.Style != yaml.LiteralStyle && r.IntN(3) == 0 {
		n.LineComment = "# why"
	}
	return n
}

// randomPath leads to a scalar that mappings alone lead to.
func randomPath(r *rand.Rand, m *yaml.Node) []string {
	for {
		i := 2 * r.IntN(len(m.Content)/2)
		switch v := m.Content[i+1]; v.Kind {
		case yaml.ScalarNode:
			return []string{m.Content[i].Value}
		case yaml.MappingNode:
			return append([]string{m.Content[i].Value}, randomPath(r, v)...)
		}
		// A mapping may hold nothing but sequences.
		m.Content = append(m.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: fmt.Sprint("more", len(m.Content)), Tag: "!!str"}, randomValue(r, 0))
	}
}
