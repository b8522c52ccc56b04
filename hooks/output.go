package hooks

// What a program printed is kept as it came and shown so that a terminal does
// nothing but show it.

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// outputMark stands where Shorten leaves something out.
const outputMark = "\n[part left out]\n"

// Shorten returns at most limit bytes of what a program printed, its beginning
// and its end, as valid UTF-8: what is none reads as question marks. Limit is at
// least 64.
func Shorten(output []byte, limit int) string {
	if len(output) <= limit {
		return strings.ToValidUTF8(string(output), "?")
	}
	half := (limit - len(outputMark)) / 2
	head, tail := output[:half], output[len(output)-half:]
	return strings.ToValidUTF8(string(head), "?") + outputMark + strings.ToValidUTF8(string(tail), "?")
}

// Legible returns text with everything but line ends, tabs and printable
// characters written out as Go would: an escape sequence shows and does nothing.
func Legible(s string) string {
	if !strings.ContainsFunc(s, unprintable) && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)):
			b.WriteByte('?')
		case unprintable(r):
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func unprintable(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsPrint(r) }
