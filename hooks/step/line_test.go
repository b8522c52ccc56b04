package step

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/hooks"
)

const upstream = `# balancer
upstream bx_cluster {
    ip_hash;
    server srv1:8080;
    server srv2:8080; # { not a block
    keepalive 10;
}

upstream other {
	server srv1:8080;
}

server { listen 80; location / { return 200 "}"; } }
`

// Taken out and put in again with the same neighbour a file is what it was.
func TestSetLineAndBack(t *testing.T) {
	const cluster = "upstream bx_cluster {"
	tests := []struct {
		name, src, line, within, after string
	}{
		{"in-the-middle", upstream, "server srv1:8080;", cluster, "ip_hash;"},
		{"first-of-the-block", "u {\n  a;\n  b;\n}\n", "b;", "u {", "a;"},
		{"last-of-the-block", upstream, "keepalive 10;", cluster, ""},
		{"tabs", "u {\n\ta;\n\tb;\n}\n", "b;", "u {", ""},
		{"crlf", strings.ReplaceAll(upstream, "\n", "\r\n"), "ip_hash;", cluster, ""},
		{"end-of-file", "a\nb\n", "b", "", ""},
		{"end-of-file-without-newline", "a\nb", "b", "", ""},
		{"crlf-without-newline", "x\r\na\r\nb", "b", "", ""},
		{"before-blank-lines", "a\nb\n\n\n", "b", "", ""},
		{"section", "[a]\nx = 1\ny = 2\n\n[b]\nx = 1\n", "y = 2", "[a]", ""},
		{"last-section", "[a]\nx = 1\n[b]\nx = 1\n", "x = 1", "[b]", ""},
		{"behind-a-nested-block", "u {\n  a;\n  n {\n    a;\n  }\n  b;\n}\n", "b;", "u {", ""},
		{"same-line-in-a-nested-block", "u {\n  a;\n  n {\n    b;\n  }\n  b;\n}\n", "b;", "u {", ""},
		{"bytes-that-are-no-utf8", "\xe9\nb\n\xff\n", "b", "", "\xe9"},
		{"byte-order-mark", "\ufeffa\nb\n", "b", "", "a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := hooks.Line{Line: tt.line, Within: tt.within, After: tt.after, Absent: true}
			if strings.HasSuffix(tt.name, "crlf") {
				a.After = cluster // not in the block: only the way out counts
			}
			out, err := setLine([]byte(tt.src), a)
			if err != nil {
				t.Fatal(err)
			}
			if removed := len(tt.src) - len(out); removed < len(tt.line) || removed > len(tt.line)+6 {
				t.Errorf("%d bytes went: %q", removed, out)
			}
			if tt.name == "last-section" || strings.HasSuffix(tt.name, "crlf") {
				return // it was the only line, or another place
			}
			a.Absent = false
			back, err := setLine(out, a)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.src, string(back)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSetLine(t *testing.T) {
	tests := []struct {
		name, src string
		a         hooks.Line
		want      string
	}{
		{"there-already", "u {\n  b;\n}\n", hooks.Line{Line: " b; ", Within: "u {"}, "u {\n  b;\n}\n"},
		{"gone-already", "u {\n  b;\n}\nc;\n", hooks.Line{Line: "c;", Within: "u {", Absent: true}, "u {\n  b;\n}\nc;\n"},
		{"gone-already-and-empty", "", hooks.Line{Line: "c;", Absent: true}, ""},
		{"a-comment-is-another-line", "u {\n  #b;\n}\n", hooks.Line{Line: "b;", Within: "u {"}, "u {\n  #b;\n  b;\n}\n"},
		{"behind-the-byte-order-mark", "\ufeff\n\n", hooks.Line{Line: "a"}, "\ufeffa\n\n\n"},
		{"behind-nothing-but-the-byte-order-mark", "\ufeff", hooks.Line{Line: "a"}, "\ufeffa\n"},
		{"empty-block", "http {\n    u {\n    }\n}\n", hooks.Line{Line: "b;", Within: "u {"}, "http {\n    u {\n        b;\n    }\n}\n"},
		{"empty-block-with-tabs", "http {\n\tu {\n\t}\n}\n", hooks.Line{Line: "b;", Within: "u {"}, "http {\n\tu {\n\t\tb;\n\t}\n}\n"},
		{"empty-file", "", hooks.Line{Line: "b"}, "b\n"},
		{"empty-section", "[a]\n[b]\n", hooks.Line{Line: "x = 1", Within: "[a]"}, "[a]\nx = 1\n[b]\n"},
		{"crlf", "a\r\nc\r\n", hooks.Line{Line: "b", After: "a"}, "a\r\nb\r\nc\r\n"},
		{"lua", "u {\n  -- don't\n  a;\n}\n", hooks.Line{Line: "b;", Within: "u {"}, "u {\n  -- don't\n  a;\n  b;\n}\n"},
		{"brace-in-quotes", "u {\n  a \"}\";\n}\n", hooks.Line{Line: "b;", Within: "u {"}, "u {\n  a \"}\";\n  b;\n}\n"},
		{"brace-in-comment", "u {\n  a; # }\n}\n", hooks.Line{Line: "b;", Within: "u {"}, "u {\n  a; # }\n  b;\n}\n"},
		{"else-on-the-closing-line", "u {\n  if (x) {\n    a;\n  } else {\n    a;\n  }\n  c;\n}\n", hooks.Line{Line: "b;", Within: "u {"}, "u {\n  if (x) {\n    a;\n  } else {\n    a;\n  }\n  c;\n  b;\n}\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := setLine([]byte(tt.src), tt.a)
			if diff := cmp.Diff(tt.want, string(got)); err != nil || diff != "" {
				t.Errorf("%v\n%s", err, diff)
			}
			again, err := setLine(got, tt.a)
			if err != nil || string(again) != string(got) {
				t.Errorf("a second time: %q, %v", again, err)
			}
		})
	}
}

func TestSetLineRefuses(t *testing.T) {
	tests := []struct {
		name, src string
		a         hooks.Line
		reason    Reason
		line      int
		detail    string
	}{
		{"twice", "a\nb\na\n a\n", hooks.Line{Line: "a", Absent: true}, ReasonAmbiguous, 1, "3, 4"},
		{"twice-and-wanted", "a\nb\na\n", hooks.Line{Line: "a"}, ReasonAmbiguous, 1, "3"},
		{"block-twice", "u {\n}\nu {\n}\n", hooks.Line{Line: "a", Within: "u {"}, ReasonAmbiguous, 1, "3"},
		{"neighbour-twice", "u {\na;\na;\n}\n", hooks.Line{Line: "b;", Within: "u {", After: "a;"}, ReasonAmbiguous, 2, "3"},
		{"no-block", "v {\n}\n", hooks.Line{Line: "a", Within: "u {"}, ReasonMissing, 0, "u {"},
		{"no-neighbour", "u {\n}\na;\n", hooks.Line{Line: "b;", Within: "u {", After: "a;"}, ReasonMissing, 1, "a;"},
		{"neighbour-in-a-nested-block", "u {\n n {\n  a;\n }\n}\n", hooks.Line{Line: "b;", Within: "u {", After: "a;"}, ReasonMissing, 1, "a;"},
		{"not-closed", "x\nu {\na;\n", hooks.Line{Line: "a;", Within: "u {"}, ReasonSyntax, 2, ""},
		{"closed-elsewhere", "u {\na; }\n", hooks.Line{Line: "b;", Within: "u {"}, ReasonSyntax, 2, "line 1"},
		{"closed-twice", "u {\n} }\n", hooks.Line{Line: "b;", Within: "u {"}, ReasonSyntax, 2, ""},
		{"quote-over-lines", "u {\n a \"x\n y\";\n}\n", hooks.Line{Line: "b;", Within: "u {"}, ReasonSyntax, 2, "quote"},
		{"no-block-opener", "u\n", hooks.Line{Line: "b;", Within: "u"}, ReasonValue, 1, "u"},
		{"continued", "a \\\nb\n", hooks.Line{Line: "b", Absent: true}, ReasonMultiline, 2, ""},
		{"continues", "b \\\na\n", hooks.Line{Line: `b \`, Absent: true}, ReasonMultiline, 1, ""},
		{"end-continued", "a \\\n", hooks.Line{Line: "b"}, ReasonMultiline, 1, ""},
		{"zero-byte", "a\n\x00\n", hooks.Line{Line: "b"}, ReasonEncoding, 2, ""},
		{"nothing", "a\n", hooks.Line{Line: " "}, ReasonValue, 0, ""},
		{"two-lines", "a\n", hooks.Line{Line: "a\nb"}, ReasonValue, 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, err := setLine([]byte(tt.src), tt.a)
			got := (*Refusal)(nil)
			if !errors.As(err, &got) {
				t.Fatalf("got %q, %v", out, err)
			}
			if got.Reason != tt.reason || got.Line != tt.line || !strings.Contains(got.Detail, tt.detail) {
				t.Errorf("got %v on line %d (%s), want %v on line %d", got.Reason, got.Line, got.Detail, tt.reason, tt.line)
			}
		})
	}
}

// TestLineStep is the balancer that loses a host and gets it back.
func TestLineStep(t *testing.T) {
	path := writeFile(t, "upstream.conf", upstream)
	out := hooks.Line{File: path, Line: "server srv1:8080;", Absent: true, Within: "upstream bx_cluster {", After: "ip_hash;"}
	s := NewLine(out)
	wantState(t, s, WouldChange)
	apply(t, s, time.Minute)
	wantState(t, s, Ok)
	if data, _ := os.ReadFile(path); string(data) != strings.Replace(upstream, "    server srv1:8080;\n", "", 1) {
		t.Errorf("got %s", data)
	}
	plan := hooks.Plan{{Name: "out", Action: out}}
	back := hooks.Undo(plan, []hooks.Result{{Outcome: hooks.Changed}}, hooks.Vars{}, nil, hooks.Vars{})[0].Action.(hooks.Line)
	apply(t, NewLine(back), time.Minute)
	if data, _ := os.ReadFile(path); string(data) != upstream {
		t.Errorf("got %s", data)
	}
	err := NewLine(hooks.Line{File: path, Line: "server srv1:8080;"}).Apply(t.Context())
	if err == nil || !strings.Contains(err.Error(), `put in the line "server srv1:8080;" in `+path+":4: the line is there more than once") {
		t.Errorf("got %v", err)
	}
}

// FuzzSetLine: a line that was put in can be taken out again, and the file is what it
// was.
func FuzzSetLine(f *testing.F) {
	f.Add(upstream, "server srv3:8080;", "upstream bx_cluster {", "ip_hash;")
	f.Add("a\nb", "c", "", "")
	f.Add("[a]\r\nx\r\n", "y", "[a]", "x")
	f.Add("u {\n}", "y;", "u {", "")
	f.Fuzz(func(t *testing.T, src, line, within, after string) {
		a := hooks.Line{Line: line, Within: within, After: after}
		in, err := setLine([]byte(src), a)
		if err != nil {
			if r := (*Refusal)(nil); !errors.As(err, &r) {
				t.Fatalf("an error without a reason: %v", err)
			}
			return
		}
		if string(in) == src {
			return
		}
		a.Absent = true
		out, err := setLine(in, a)
		switch {
		case strings.ContainsAny(line, "{}\\\"'#[]"):
			return // the line is more than a line of this block
		case err != nil:
			t.Fatalf("%q became %q, and then %v", src, in, err)
		case string(out) != src:
			t.Fatalf("%q became %q, and then %q", src, in, out)
		}
	})
}
