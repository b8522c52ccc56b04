package words

import (
	"fmt"
	"testing"
)

type colour uint8

const (
	red colour = iota + 1
	green
)

func (c colour) String() string {
	names := [...]string{"", "red", "green"}
	if c > 0 && int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("colour(%d)", uint8(c))
}

// A value is read back as what it was; none stays none, and what a newer release
// has a word for is unknown to this one.
func TestWords(t *testing.T) {
	for _, tt := range []struct {
		value colour
		word  string
	}{
		{0, ""},
		{red, "red"},
		{green, "green"},
	} {
		if got := Of(red, tt.value); got != tt.word {
			t.Errorf("%d is written %q", tt.value, got)
		}
		if got := Value(red, tt.word); got != tt.value {
			t.Errorf("%q is read %d", tt.word, got)
		}
	}
	for _, none := range []colour{3, Unknown} {
		if got := Of(red, none); got != UnknownText {
			t.Errorf("%d is written %q", none, got)
		}
	}
	for _, word := range []string{"blue", UnknownText, "colour(2)"} {
		if got := Value(red, word); got != Unknown {
			t.Errorf("%q is read %d", word, got)
		}
	}
}
