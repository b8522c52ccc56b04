package config

import (
	"strings"
	"testing"
)

// What is checked apart, lengths, is checked.
func TestLengths(t *testing.T) {
	label, long := strings.Repeat("a", 63), strings.Repeat("a", 64)
	for _, tc := range []struct {
		what string
		is   func(string) bool
		good []string
		bad  []string
	}{
		{"name", validName, []string{"a", label}, []string{"", "-a", "a b", long}},
		{"container", validContainer, []string{"a", strings.Repeat("a", 255)}, []string{"", ".a", strings.Repeat("a", 256)}},
		{
			"host", validHost,
			[]string{"a", "db-1.example.", label, label + "." + label, "192.0.2.1"},
			[]string{"", ".", "a..b", "db_1", "-a", "a-", "a-.b", long, "a." + long, long + ".a", strings.Repeat("a.", 127) + "a"},
		},
	} {
		for _, s := range tc.good {
			if !tc.is(s) {
				t.Errorf("%q is no %s", s, tc.what)
			}
		}
		for _, s := range tc.bad {
			if tc.is(s) {
				t.Errorf("%q is a %s", s, tc.what)
			}
		}
	}
}
