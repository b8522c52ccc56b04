package step

// Files as people and programs leave them: each has one changed line or a refusal that
// names the reason and the line.

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"

	"github.com/tanist-ha/tanist/hooks"
)

func TestYAMLFiles(t *testing.T) {
	edited := []struct {
		name, key, value string
		line             int
		want             string // that line
	}{
		{"compass-values", "master_service_label", "reserve", 3, "master_service_label: \"reserve\"   # кто активен"},
		{"compass-nested", "projects.domino.d1.label", "d2", 13, "      label: d2"},
		{"compass-flow", "projects.monolith.service.mysql.password", "it's", 10, "    service: {mysql: {user: root, password: \"it's\", host: , port: 3306}}"},
		{"crlf-and-bom", "label", "reserve", 2, "label: reserve\t# tab\r"},
		{"bom-first-line", "label", "reserve", 1, "\ufefflabel: reserve"},
		{"mixed-line-ends", "label", "reserve", 2, "label: reserve"},
		{"no-newline-at-end", "label", "reserve", 2, "label: reserve # end"},
		{"no-newline-quoted", "label", "reserve", 2, "label: 'reserve'"},
		{"trailing-blanks", "label", "reserve", 1, "label: reserve  \t "},
		{"compose-anchors", "services.web2.environment.LABEL", "reserve", 9, "    environment: {LABEL: reserve}"},
		{"compose-merged-and-own", "services.web2.image", "nginx:1.27", 8, "    image: \"nginx:1.27\""},
		{"beside-blocks", "label", "reserve", 6, "label: reserve"},
		{"markers", "label", "b", 3, "label: b # c"},
		{"content-on-marker", "label", "b", 1, "--- {label: b}"},
		{"percent-inside", "label", "b", 1, "label: b"},
		{"duplicate-elsewhere", "label", "b", 3, "label: b"},
		{"tilde", "label", "a", 1, "label: a # later"},
		{"complex-key-beside", "label", "b", 5, "label: b"},
		{"explicit-key", "label", "b", 2, ": b # v"},
		{"value-on-next-line", "label", "reserve", 4, "  reserve"},
		{"github-on", "label", "on", 3, "label: on"},
		{"norway", "label", "no", 2, "label: 'no'"},
		{"octal", "label", "0644", 2, "label: '0644'"},
		{"colon-in-value", "url", "http://b:81/z#w", 1, "url: http://b:81/z#w"},
		{"quotes-inside", "label", "e", 1, "label: e # d"},
		{"escapes", "label", "b", 1, "label: \"b\" # yes"},
		{"single-doubled", "label", "b", 1, "label: 'b' # yes"},
		{"json-inside", "label", "x", 1, "{\"label\": \"x\", \"b\": [1, {\"label\": \"c\"}],"},
		{"flow-over-lines", "a.label", "q,r", 2, "  x: 1, label: 'q,r',"},
		{"flow-tight", "a.label", "q", 1, "a: {\"label\":q,\"b\":1}"},
		{"astral", "label", "ю", 1, "{\"😀\": 1, label: ю, é: ü} # ж"},
		{"cyrillic-key", "метка", "новая", 1, "метка: новая"},
		{"key-with-dot", "a\\.b", "3", 1, "a.b: 3"},
		{"key-with-dot-not", "a.b", "3", 3, "  b: 3"},
		{"key-with-blank", "label one", "b", 1, "label one: b"},
		{"number-key", "8080", "b", 1, "8080: b"},
		{"next-line-characters", "label", "b", 2, "label: b"},
		{"tabs-everywhere", "label", "b", 1, "label:\t\tb\t# c\t"},
		{"deep", "a.k1.k2.k3.k4.k5.k6.k7.k8.k9.k10.k11.k12.k13.k14.k15.k16.k17.k18.k19.k20.k21.k22.k23.k24.k25.k26.k27.k28.k29.k30.k31.k32.k33.k34.k35.k36.k37.k38.k39.label", "z", 41, "                                                                                label: z"},
		{"long-line", "label", "b", 2, "label: b"},
		{"cloud-config", "label", "b", 4, "label: b"},
		{"indented-root", "label", "c", 1, "  label: c"},
		{"list-flush-left", "label", "z", 4, "label: z"},
	}
	refused := []struct {
		name, key string
		line      int
		reason    Reason
	}{
		{"compass-flow-without-value", "projects.monolith.service.mysql.host", 10, ReasonEmpty},
		{"compose-merged", "services.web2.logging", 7, ReasonMerge},
		{"compose-shared", "services.web.image", 3, ReasonShared},
		{"compose-alias-on-the-way", "services.web.logging.driver", 3, ReasonShared},
		{"alias-value", "label", 2, ReasonAlias},
		{"alias-parent", "b.label", 2, ReasonAlias},
		{"alias-as-key", "label", 3, ReasonDuplicate},
		{"anchor-on-value", "label", 1, ReasonAnchor},
		{"merge-list", "c.label", 5, ReasonMerge},
		{"merge-inline", "c.label", 2, ReasonMerge},
		{"block-literal", "label", 2, ReasonBlock},
		{"block-folded-keep", "label", 1, ReasonBlock},
		{"block-strip-comment", "label", 1, ReasonBlock},
		{"plain-over-lines", "label", 1, ReasonMultiline},
		{"double-over-lines", "label", 2, ReasonMultiline},
		{"single-over-lines", "label", 1, ReasonMultiline},
		{"documents", "label", 2, ReasonDocuments},
		{"document-after-end", "label", 4, ReasonDocuments},
		{"directive", "label", 1, ReasonDirective},
		{"directive-tag", "label", 2, ReasonDirective},
		{"duplicate", "label", 4, ReasonDuplicate},
		{"duplicate-quoted", "label", 2, ReasonDuplicate},
		{"duplicate-escaped", "label", 2, ReasonDuplicate},
		{"missing", "label", 1, ReasonMissing},
		{"missing-below", "a.label", 2, ReasonMissing},
		{"commented-out", "label", 1, ReasonMissing},
		{"empty-file", "label", 0, ReasonMissing},
		{"only-marker", "label", 0, ReasonMissing},
		{"null-value", "label", 2, ReasonEmpty},
		{"value-is-mapping", "label", 2, ReasonNotScalar},
		{"value-is-list", "label", 2, ReasonNotScalar},
		{"value-is-flow", "label", 1, ReasonNotScalar},
		{"parent-is-list", "hosts.label", 2, ReasonNotMapping},
		{"parent-is-text", "a.label", 1, ReasonNotMapping},
		{"root-is-list", "label", 1, ReasonNotMapping},
		{"tag-vault", "label", 1, ReasonTag},
		{"tag-str", "label", 1, ReasonTag},
		{"tag-bare", "label", 1, ReasonTag},
		{"tab-indent", "a.label", 2, ReasonSyntax},
		{"helm", "label", 3, ReasonSyntax},
		{"conflict-markers", "label", 2, ReasonSyntax},
		{"unclosed-flow", "a.label", 2, ReasonSyntax},
		{"latin1", "label", 1, ReasonEncoding},
		{"utf16", "label", 1, ReasonEncoding},
		{"zero-byte", "label", 2, ReasonSyntax},
		{"complex-key-only", "label", 1, ReasonMissing},
		{"laughs", "d.label", 4, ReasonAlias},
	}
	seen := map[string]bool{}
	for _, tt := range edited {
		seen[tt.name+".yaml"] = true
		t.Run(tt.name, func(t *testing.T) {
			src := yamlFile(t, tt.name)
			out, err := setValue(src, hooks.SplitKey(tt.key), tt.value)
			if err != nil {
				t.Fatal(err)
			}
			want := strings.Split(string(src), "\n")
			want[tt.line-1] = tt.want
			if diff := cmp.Diff(want, strings.Split(string(out), "\n")); diff != "" {
				t.Error(diff)
			}
			onlyValueDiffers(t, src, out, hooks.SplitKey(tt.key), tt.value)
		})
	}
	for _, tt := range refused {
		seen[tt.name+".yaml"] = true
		t.Run(tt.name, func(t *testing.T) {
			out, err := setValue(yamlFile(t, tt.name), hooks.SplitKey(tt.key), "reserve")
			got := (*Refusal)(nil)
			if !errors.As(err, &got) {
				t.Fatalf("got %q, %v", out, err)
			}
			if got.Reason != tt.reason || got.Line != tt.line {
				t.Errorf("got %v on line %d (%s), want %v on line %d", got.Reason, got.Line, got.Detail, tt.reason, tt.line)
			}
		})
	}
	files, err := os.ReadDir(filepath.Join("testdata", "yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !seen[f.Name()] {
			t.Errorf("%s is not tested", f.Name())
		}
	}
}

func yamlFile(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "yaml", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// onlyValueDiffers reads both versions as a program does, aliases and merges resolved.
// The value may be of another type than text when what stood there was.
func onlyValueDiffers(t *testing.T, before, after []byte, path []string, value string) {
	t.Helper()
	a, ok := load(t, before)
	b, fine := load(t, after)
	if !ok || !fine {
		return // a key that no Go map can have; setValue compares the trees
	}
	var old, now any
	if !swapLeaf(a, path, &old) || !swapLeaf(b, path, &now) {
		t.Fatalf("%v is not in %v", path, b)
	}
	if diff := cmp.Diff(a, b); diff != "" {
		t.Errorf("more than the value differs: %s", diff)
	}
	var plain any
	if err := yaml.Unmarshal([]byte(value), &plain); now != value && (err != nil || now != plain) {
		t.Errorf("the value reads %v, want %v", now, value)
	}
}

func load(t *testing.T, src []byte) (any, bool) {
	t.Helper()
	var v any
	err := yaml.Unmarshal(bytes.TrimPrefix(src, bom), &v)
	if err != nil && (strings.Contains(err.Error(), "as a map key") || strings.Contains(err.Error(), "already defined")) {
		return nil, false
	}
	if err != nil {
		t.Fatal(err)
	}
	return v, true
}

// swapLeaf takes the value at path out.
func swapLeaf(v any, path []string, out *any) bool {
	switch m := v.(type) {
	case map[string]any:
		if len(path) > 1 {
			return swapLeaf(m[path[0]], path[1:], out)
		}
		leaf, ok := m[path[0]]
		*out, m[path[0]] = leaf, nil
		return ok
	case map[any]any:
		for k := range m {
			if s, ok := k.(string); ok && s != path[0] || !ok && len(path) > 1 {
				continue
			}
			if len(path) > 1 {
				return swapLeaf(m[k], path[1:], out)
			}
			*out, m[k] = m[k], nil
			return true
		}
	}
	return false
}
