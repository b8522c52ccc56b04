package control

import (
	"strings"
	"testing"

	"github.com/tanist-ha/tanist/hooks"
)

// What a failed step's program printed is short in a status and harmless.
func TestStepOutput(t *testing.T) {
	printed := "\x1b[31mfirst\n" + strings.Repeat("x", hooks.OutputLimit-20) + "\nlast\n"
	for o, want := range map[hooks.Outcome]bool{
		hooks.Changed: false, hooks.Unchanged: false, hooks.Failed: true, hooks.TimedOut: true, hooks.Cancelled: true,
	} {
		got := newSteps([]hooks.Result{{Name: "a", Outcome: o, Output: printed}})[0].Output
		if !want {
			if got != "" {
				t.Errorf("%s: %q", o, got)
			}
			continue
		}
		if len(got) > outputLimit+10 || !strings.HasPrefix(got, `\x1b[31mfirst`+"\n") || !strings.HasSuffix(got, "\nlast\n") {
			t.Errorf("%s: %d bytes: %q", o, len(got), got)
		}
	}
}
