package step

// How a value is written: in the quotes that stood there, and quoted when a
// reader of YAML 1.1 or 1.2 would otherwise take the text for something else.

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// class is what a plain scalar reads as. YAML 1.1 (PyYAML, Ruby, older Go) and
// YAML 1.2 disagree on some words; those have classes of their own.
type class uint8

const (
	classString class = iota
	classBool
	classOldBool // a boolean in YAML 1.1 only: yes, no, on, off, y, n
	classNumber
	classOldNumber // read differently by the two: 0777, 1_000, 12:30
	classNull
	classTime
	classIndicator // = and <<
)

var (
	boolText      = regexp.MustCompile(`^(true|True|TRUE|false|False|FALSE)$`)
	oldBoolText   = regexp.MustCompile(`^(y|Y|yes|Yes|YES|n|N|no|No|NO|on|On|ON|off|Off|OFF)$`)
	numberText    = regexp.MustCompile(`^[-+]?(0|[1-9][0-9]*|([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(inf|Inf|INF))$|^\.(nan|NaN|NAN)$`)
	oldNumberText = regexp.MustCompile(`^[-+]?(0[bB][01_]+|0[oO]?[0-9_]+|0[xX][0-9a-fA-F_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?|([0-9][0-9_]*(\.[0-9_]*)?|\.[0-9_]+)([eE][-+]?[0-9]+)?)$`)
	nullWord      = regexp.MustCompile(`^(~|null|Null|NULL|)$`)
	timeText      = regexp.MustCompile(`^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt \t].*)?$`)
)

func plainClass(s string) class {
	switch {
	case nullWord.MatchString(s):
		return classNull
	case boolText.MatchString(s):
		return classBool
	case oldBoolText.MatchString(s):
		return classOldBool
	case numberText.MatchString(s):
		return classNumber
	case oldNumberText.MatchString(s):
		return classOldNumber
	case timeText.MatchString(s):
		return classTime
	case s == "=" || s == "<<":
		return classIndicator
	}
	return classString
}

// encodeScalar writes value in the style of the scalar it replaces; false when
// no YAML scalar can hold it.
func encodeScalar(old *yaml.Node, value string) (string, bool) {
	if !utf8.ValidString(value) {
		return "", false
	}
	printable := !strings.ContainsFunc(value, needsEscape)
	switch {
	case old.Style&yaml.DoubleQuotedStyle != 0 || !printable:
		return doubleQuoted(value), true
	case old.Style&yaml.SingleQuotedStyle != 0 || !plainSafe(old.Value, value):
		return "'" + strings.ReplaceAll(value, "'", "''") + "'", true
	}
	return value, true
}

// plainSafe reports whether value may stand without quotes where old stood: as
// the same kind of thing, and in a block as well as in a flow collection.
func plainSafe(old, value string) bool {
	c := plainClass(value)
	if value == "" || (c != classString && c != plainClass(old)) {
		return false
	}
	if strings.TrimSpace(value) != value || strings.ContainsAny(value, "{}[],\t") ||
		strings.Contains(value, ": ") || strings.Contains(value, " #") || strings.HasSuffix(value, ":") ||
		strings.HasPrefix(value, "---") || strings.HasPrefix(value, "...") {
		return false
	}
	if strings.Contains(value, ":") && !strings.Contains(old, ":") { // older readers stumble over it in flow collections
		return false
	}
	first, _ := utf8.DecodeRuneInString(value)
	if strings.ContainsRune("-?:", first) { // allowed before another character, but only just
		return c == classNumber
	}
	return !strings.ContainsRune("#&*!|>'\"%@`", first)
}

// needsEscape reports a character that only double quotes can carry on one line
// through every reader.
func needsEscape(r rune) bool {
	switch {
	case r < 0x20 || (r >= 0x7f && r < 0xa0), r == 0x2028, r == 0x2029, r == 0xfeff, r == 0xfffe, r == 0xffff:
		return true
	}
	return false
}

func doubleQuoted(value string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range value {
		switch {
		case r == '"' || r == '\\':
			b.WriteRune('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case needsEscape(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
