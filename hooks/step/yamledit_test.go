package step

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
)

func TestSetValueChangesOneLine(t *testing.T) {
	const bulky = "# top\n\n\nkeep:   [a,b,   {c: d}]   # odd spacing\nlist:\n    - x\n    -   y\nfold: >-\n  one\n   two\n\nlit: |+\n  text\n\n"
	tests := []struct {
		name, src, key, value, old, new string // old and new: the one line
	}{
		{"plain", "a: x\nb: y\n", "b", "z", "b: y", "b: z"},
		{"plain-keeps-comment", bulky + "k:  old   # why\nz: ~\n", "k", "new", "k:  old   # why", "k:  new   # why"},
		{"single-quoted", "k: 'old' # c\n", "k", "it's", "k: 'old' # c", "k: 'it''s' # c"},
		{"single-quoted-with-quotes", "k: 'it''s # no comment'\n", "k", "x", "k: 'it''s # no comment'", "k: 'x'"},
		{"double-quoted", "k: \"old\"\n", "k", `a"b\c`, `k: "old"`, `k: "a\"b\\c"`},
		{"double-quoted-with-escapes", `k: "a\"b\\" # "x"` + "\n", "k", "n", `k: "a\"b\\" # "x"`, `k: "n" # "x"`},
		{"nested", "a:\n  b:\n    c: 1\n    d: 2\n", "a.b.d", "3", "    d: 2", "    d: 3"},
		{"same-key-elsewhere", "c: 1\na: {c: 1}\nb:\n  c: 1\n", "b.c", "2", "  c: 1", "  c: 2"},
		{"flow-mapping", "a: {b: x, c: y}\n", "a.b", "z", "a: {b: x, c: y}", "a: {b: z, c: y}"},
		{"flow-needs-quotes", "a: {b: x, c: y}\n", "a.b", "p,q", "a: {b: x, c: y}", "a: {b: 'p,q', c: y}"},
		{"json", `{"a": {"b": "x"}, "c": 1}`, "a.b", "y", `{"a": {"b": "x"}, "c": 1}`, `{"a": {"b": "y"}, "c": 1}`},
		{"crlf", "a: 1\r\nk: old\r\nb: 2\r\n", "k", "new", "k: old\r", "k: new\r"},
		{"crlf-quoted", "a: 'x'\r\nk: 'old' # c\r\n", "k", "new", "k: 'old' # c\r", "k: 'new' # c\r"},
		{"no-newline-at-end", "a: 1\nk: old", "k", "new", "k: old", "k: new"},
		{"tabs-before-value", "k:\t\told\n", "k", "new", "k:\t\told", "k:\t\tnew"},
		{"trailing-blanks", "k: old   \n", "k", "new", "k: old   ", "k: new   "},
		{"multibyte-before", "{é: ü, ключ: старое} # ж\n", "ключ", "новое", "{é: ü, ключ: старое} # ж", "{é: ü, ключ: новое} # ж"},
		{"astral-before", "{\"😀😀\": 1, k: old}\n", "k", "new", "{\"😀😀\": 1, k: old}", "{\"😀😀\": 1, k: new}"},
		{"explicit-key", "? k\n: old\n", "k", "new", ": old", ": new"},
		{"value-on-next-line", "k:\n  old\nb: 1\n", "k", "new", "  old", "  new"},
		{"document-marker", "---\nk: old\n", "k", "new", "k: old", "k: new"},
		{"document-end", "k: old\n...\n", "k", "new", "k: old", "k: new"},
		{"quoted-key", "\"k\": old\n", "k", "new", "\"k\": old", "\"k\": new"},
		{"number-stays-number", "port: 3306 # db\n", "port", "3307", "port: 3306 # db", "port: 3307 # db"},
		{"bool-stays-bool", "on: x\nflag: true\n", "flag", "false", "flag: true", "flag: false"},
		{"string-to-yes", "k: server1\n", "k", "yes", "k: server1", "k: 'yes'"},
		{"string-to-number", "k: server1\n", "k", "1", "k: server1", "k: '1'"},
		{"string-to-null", "k: server1\n", "k", "null", "k: server1", "k: 'null'"},
		{"string-to-octal", "k: server1\n", "k", "0777", "k: server1", "k: '0777'"},
		{"string-to-sexagesimal", "k: server1\n", "k", "12:30", "k: server1", "k: '12:30'"},
		{"string-to-date", "k: server1\n", "k", "2026-11-21", "k: server1", "k: '2026-11-21'"},
		{"string-to-empty", "k: server1\n", "k", "", "k: server1", "k: ''"},
		{"mapping-lookalike", "k: server1\n", "k", "a: b", "k: server1", "k: 'a: b'"},
		{"comment-lookalike", "k: server1\n", "k", "a #b", "k: server1", "k: 'a #b'"},
		{"anchor-lookalike", "k: server1\n", "k", "&a", "k: server1", "k: '&a'"},
		{"dash", "k: server1\n", "k", "- a", "k: server1", "k: '- a'"},
		{"blanks-around", "k: server1\n", "k", " a ", "k: server1", "k: ' a '"},
		{"line-break-in-value", "k: server1\n", "k", "a\nb", "k: server1", `k: "a\nb"`},
		{"line-break-in-quoted", "k: 'x'\n", "k", "a\nb", "k: 'x'", `k: "a\nb"`},
		{"next-line-character", "k: x\n", "k", "a\u0085b", "k: x", `k: "a\u0085b"`},
		{"address-stays-plain", "k: host\n", "k", "10.0.0.1", "k: host", "k: 10.0.0.1"},
		{"explicit-key-wins-over-merge", "b: &b {k: 1}\nm:\n  <<: *b\n  k: 2\n", "m.k", "3", "  k: 2", "  k: 3"},
		{"anchored-parent-nobody-uses", "m: &m\n  k: 1\n", "m.k", "2", "  k: 1", "  k: 2"},
		{"template-in-quotes", "k: \"{{ .Values.x }}\"\n", "k", "y", "k: \"{{ .Values.x }}\"", "k: \"y\""},
		{"line-separator-in-comment", "# a\u2028# b\nk: old\n", "k", "new", "k: old", "k: new"},
		{"many-aliases-elsewhere", "a: &a {x: 1}\nb: *a\nc: [*a, *a]\nk: old\n", "k", "new", "k: old", "k: new"},
		{"byte-order-mark", "\ufeffa: 1\nb: 2\n", "a", "3", "a: 1", "a: 3"},
		{"null-word", "k: ~\n", "k", "x", "k: ~", "k: x"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got, err := setValue([]byte(tc.src), strings.Split(tc.key, "."), tc.value)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Count(tc.src, tc.old) != 1 && !strings.Contains(tc.name, "elsewhere") {
				t.Fatalf("the test names no single line: %q", tc.old)
			}
			at := strings.LastIndex(tc.src, tc.old)
			want := tc.src[:at] + tc.new + tc.src[at+len(tc.old):]
			if diff := cmp.Diff(want, string(got)); diff != "" {
				t.Error(diff)
			}
			again, err := setValue(got, strings.Split(tc.key, "."), tc.value)
			if err != nil || !bytes.Equal(again, got) {
				t.Errorf("a second time: %q, %v", again, err)
			}
		})
	}
}

func TestSetValueRefuses(t *testing.T) {
	tests := []struct {
		name, src, key string
		reason         Reason
		line           int
	}{
		{"syntax", "a: [\n", "a", ReasonSyntax, 2},
		{"tab-indent", "a: 1\n\tb: 2\n", "a", ReasonSyntax, 2},
		{"version-directive", "%YAML 1.2\n---\na: 1\n", "a", ReasonDirective, 1},
		{"helm-template", "a: 1\n{{- if .Values.x }}\nb: 2\n{{- end }}\n", "b", ReasonSyntax, 3},
		{"unknown-alias", "a: *x\n", "a", ReasonSyntax, 1},
		{"not-utf8", "a: 1\nb: \xff\n", "a", ReasonEncoding, 2},
		{"two-documents", "a: 1\n---\na: 2\n", "a", ReasonDocuments, 2},
		{"empty-second-document", "a: 1\n---\n", "a", ReasonDocuments, 2},
		{"empty-file", "", "a", ReasonMissing, 0},
		{"only-comments", "# a: 1\n", "a", ReasonMissing, 0},
		{"missing", "a: 1\nb:\n  c: 1\n", "b.d", ReasonMissing, 3},
		{"missing-parent-value", "a: 1\nb:\n", "b.d", ReasonMissing, 2},
		{"key-with-dot-is-not-a-path", "x: 1\na.b: 1\n", "a.b", ReasonMissing, 1},
		{"parent-is-scalar", "a: 1\nb: x\n", "b.d", ReasonNotMapping, 2},
		{"parent-is-sequence", "b:\n- d: 1\n", "b.d", ReasonNotMapping, 2},
		{"root-is-sequence", "- a: 1\n", "a", ReasonNotMapping, 1},
		{"duplicate", "a: 1\nb: 2\na: 3\n", "a", ReasonDuplicate, 3},
		{"duplicate-parent", "a: {k: 1}\nb: 2\na: {k: 2}\n", "a.k", ReasonDuplicate, 3},
		{"alias-value", "x: &x 1\na: *x\n", "a", ReasonAlias, 2},
		{"alias-parent", "x: &x {k: 1}\na: *x\n", "a.k", ReasonAlias, 2},
		{"merged-key", "x: &x {k: 1}\na:\n  <<: *x\n  b: 2\n", "a.k", ReasonMerge, 3},
		{"merged-key-from-list", "x: &x {k: 1}\na:\n  b: 2\n  <<: [*x]\n", "a.k", ReasonMerge, 4},
		{"shared-parent", "x: &x\n  k: 1\na: *x\n", "x.k", ReasonShared, 1},
		{"anchor", "a: &v x\n", "a", ReasonAnchor, 1},
		{"tag", "a: 1\nb: !!str 1\n", "b", ReasonTag, 2},
		{"custom-tag", "b: !vault x\n", "b", ReasonTag, 1},
		{"mapping-value", "a:\n  b: 1\n", "a", ReasonNotScalar, 2},
		{"sequence-value", "a: [x]\n", "a", ReasonNotScalar, 1},
		{"literal", "a: |\n  x\n", "a", ReasonBlock, 1},
		{"folded", "z: 1\na: >-\n  x\n", "a", ReasonBlock, 2},
		{"plain-over-lines", "a: x\n  y\n", "a", ReasonMultiline, 1},
		{"double-over-lines", "a: \"x\n  y\"\n", "a", ReasonMultiline, 1},
		{"double-with-continuation", "a: \"x\\\n  y\"\n", "a", ReasonMultiline, 1},
		{"single-over-lines", "a: 'x\n  y'\n", "a", ReasonMultiline, 1},
		{"no-value", "z: 1\na:\n", "a", ReasonEmpty, 2},
		{"no-value-in-flow", "{a: , b: 1}\n", "a", ReasonEmpty, 1},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			out, err := setValue([]byte(tc.src), strings.Split(tc.key, "."), "new")
			got := (*Refusal)(nil)
			if !errors.As(err, &got) || out != nil && err == nil {
				t.Fatalf("got %q, %v", out, err)
			}
			if got.Reason != tc.reason || got.Line != tc.line {
				t.Errorf("got %v on line %d (%s), want %v on line %d", got.Reason, got.Line, got.Detail, tc.reason, tc.line)
			}
		})
	}
	if _, err := setValue([]byte("a: 1\n"), []string{"a"}, "\xff"); err == nil {
		t.Error("a value that is not UTF-8 was written")
	}
}

// FuzzSetValue: an edit is refused or changes bytes within one line, and the
// result reads as asked with everything else as it was.
func FuzzSetValue(f *testing.F) {
	for _, src := range []string{
		"a: x\nb: 'y'\n", "a: {b: \"c\", d: e}\n", "a: &x y\nb: *x\n", "? a\n: b\r\n", "a: |\n  x\n", "a: x\u2028b: c\n",
		"a:\n  b: 1 # c\n  <<: {c: d}\n", "a: 'it''s'\n---\n", "{a: b\n, c: d}", "\ta: b", "a: b # é\n", "a: \"\\x41\\u00e9\"\n",
	} {
		for _, value := range []string{"new", "yes", "a: b", "", "é\n", "#", "'", "\"\\", "-", "1"} {
			f.Add(src, "a", value)
			f.Add(src, "a.b", value)
		}
	}
	f.Fuzz(func(t *testing.T, src, key, value string) {
		path := strings.Split(key, ".")
		out, err := setValue([]byte(src), path, value)
		if err != nil {
			if r := (*Refusal)(nil); !errors.As(err, &r) {
				t.Fatalf("an error without a reason: %v", err)
			}
			return
		}
		before, after := readPath(t, []byte(src), path), readPath(t, out, path)
		if after != value {
			t.Fatalf("%q with %s=%q became %q, which reads %q", src, key, value, out, after)
		}
		if before == value && string(out) != src {
			t.Fatalf("%q was changed to %q though it read %q", src, out, before)
		}
		prefix, suffix := common(src, string(out))
		if strings.ContainsFunc(src[prefix:len(src)-suffix], lineBreak) || strings.ContainsFunc(string(out[prefix:len(out)-suffix]), lineBreak) {
			t.Fatalf("%q became %q: more than one line", src, out)
		}
	})
}

// readPath reads a value the way a consumer does, independently of locate.
func readPath(t *testing.T, src []byte, path []string) string {
	t.Helper()
	var n yaml.Node
	if err := yaml.Unmarshal(src, &n); err != nil {
		t.Fatalf("%q: %v", src, err)
	}
	at := n.Content[0]
	for _, name := range path {
		var next *yaml.Node
		for i := 0; i < len(at.Content); i += 2 {
			k := at.Content[i]
			if k.Kind == yaml.AliasNode {
				k = k.Alias
			}
			if k.Kind == yaml.ScalarNode && k.Value == name {
				next = at.Content[i+1]
			}
		}
		if next == nil {
			t.Fatalf("%q: no %s", src, name)
		}
		at = next
	}
	return at.Value
}

// common returns how many bytes two texts share at their start and their end.
func common(a, b string) (prefix, suffix int) {
	for prefix < len(a) && prefix < len(b) && a[prefix] == b[prefix] {
		prefix++
	}
	for prefix > 0 && prefix < len(a) && !utf8.RuneStart(a[prefix]) {
		prefix--
	}
	for suffix < len(a)-prefix && suffix < len(b)-prefix && a[len(a)-1-suffix] == b[len(b)-1-suffix] {
		suffix++
	}
	return prefix, suffix
}

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o640); err != nil {
		t.Fatal(err)
	}
	return path
}
