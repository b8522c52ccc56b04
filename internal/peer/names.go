package peer

// The names of enum values on the wire are those of status, log and journal: the text
// of the package that owns the enum. A name once sent keeps its meaning for the life
// of Version.

import (
	"math"
	"strings"
)

// unknown is what a name of a newer release reads as: a value that nothing
// compares equal to and that is no success, no state with rights and no stage to
// go on from. unknownName is what it is sent as.
const (
	unknown     = math.MaxUint8
	unknownName = "?"
)

// enum is one that travels by the text of its owner.
type enum interface {
	~uint8
	String() string
}

// textOf names a value. One before first, the first that has a word, is none and has no
// text; one that has none but its number is not sent as it is.
func textOf[E enum](first, e E) string {
	switch s := e.String(); {
	case e < first:
		return ""
	case isWord(s):
		return s
	}
	return unknownName
}

// valueOf reads a name.
func valueOf[E enum](first E, s string) E {
	if s == "" && first > 0 {
		return 0
	}
	for e := first; e < unknown; e++ {
		text := e.String()
		if !isWord(text) {
			break
		}
		if text == s {
			return e
		}
	}
	return unknown
}

// isWord reports whether a text is more than a type and a number.
func isWord(s string) bool { return s != "" && !strings.HasSuffix(s, ")") }
