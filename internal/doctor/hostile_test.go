package doctor

import (
	"math"
	"strings"
	"testing"
	"time"
)

// What the other host says of itself steers no terminal, makes no line of its own, and
// puts nothing into a command that is to be pasted.
func TestHostileWords(t *testing.T) {
	nasty := "a\x1b[2J\x1b]0;x\a\nb\r\u009b31m\u202ec\u2028d"
	r := NewReport(nodes(), []string{"primary"}, []Finding{
		wrong(CheckFailed, nasty, "%s", nasty).because("%s", nasty).fix(nasty, nasty).on("primary"),
	})
	var out strings.Builder
	if err := r.Print(&out, Style{}); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.ContainsAny(got, "\x1b\a\r\u009b\u202e\u2028") {
		t.Errorf("%q", got)
	}
	if got, want := strings.Count(out.String(), "\n"), 7; got != want {
		t.Errorf("%d lines, want %d:\n%s", got, want, out.String())
	}
}

func TestForeignPathIsNoCommand(t *testing.T) {
	for _, path := range []string{"/x; rm -rf /", "/x $(id)", "/x`id`", "-oProxyCommand=id", "", "/x\n", "/x'", "x", "/ä"} {
		other := Running{File: path, Sections: map[string]string{"nodes": "2"}}
		f := sameConfiguration(nodes(), Running{File: "/etc/tanist/tanist.yaml", Sections: map[string]string{"nodes": "1"}}, other)
		for _, line := range f.Fix {
			if path != "" && path != "x" && strings.Contains(line, path) {
				t.Errorf("%q got into %q", path, line)
			}
			if !strings.Contains(line, "/etc/tanist/tanist.yaml") {
				t.Errorf("%q: no path in %q", path, line)
			}
		}
	}
	if got := pasted("/srv/t-1/tanist_2.yaml"); got != "/srv/t-1/tanist_2.yaml" {
		t.Error(got)
	}
}

func TestClockOfALiar(t *testing.T) {
	for _, ahead := range []time.Duration{math.MinInt64, math.MaxInt64} {
		if f := ClocksAgree(nodes(), Offset{Ahead: ahead, Error: time.Millisecond}); f.Severity != Problem {
			t.Errorf("%d ns: %+v", ahead, f)
		}
	}
}
