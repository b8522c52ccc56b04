// Package words writes values of an enum by the text of the package that owns it, and
// reads them again: so status, log, journal and peer link share one word for one value.
package words

import (
	"math"
	"strings"
)

// Enum is a type whose String is a word for each of its values, and ends in a bracket
// for what is none of them.
type Enum interface {
	~uint8
	String() string
}

const (
	// Unknown is what a word of a newer release reads as: a value that nothing compares
	// equal to, and so no success, no state with rights and no stage to go on from.
	Unknown = math.MaxUint8
	// UnknownText is what a value without a word is written as.
	UnknownText = "?"
)

// Of returns the word of a value. One before first, the first that has a word, is none
// and has no text.
func Of[E Enum](first, e E) string {
	switch s := e.String(); {
	case e < first:
		return ""
	case isWord(s):
		return s
	}
	return UnknownText
}

// Value reads a word.
func Value[E Enum](first E, s string) E {
	if s == "" && first > 0 {
		return 0
	}
	for e := first; e < Unknown; e++ {
		text := e.String()
		if !isWord(text) {
			break
		}
		if text == s {
			return e
		}
	}
	return Unknown
}

// isWord reports whether a text is more than a type and a number.
func isWord(s string) bool { return s != "" && !strings.HasSuffix(s, ")") }
