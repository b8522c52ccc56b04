package config

// The text and the places in it. What would make the parser count otherwise than
// an editor is settled before it sees a byte: a byte order mark and CRLF are
// normalised, control characters refused.

import (
	"bytes"
	"fmt"
	"math"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxSize bounds a configuration file, in bytes.
const MaxSize = 1 << 20

// position is a place in the file, both from 1, columns in characters.
type position struct{ line, column int }

// source is the text of a file as places refer to it.
type source struct {
	name  string
	lines []string // secrets starred out
	// essentials makes them from the tree when they are first wanted, and keeps no tree
	// after that: it takes twenty times the room of the text.
	essentials func() ([]byte, error)
}

// normalise returns the text for the parser. CRLF becomes LF and a byte order
// mark goes: neither moves a line or a column an editor shows.
func normalise(name string, data []byte) ([]byte, *source, *Problem) {
	src := &source{name: name}
	if len(data) > MaxSize {
		return nil, src, &Problem{
			File: name, Message: fmt.Sprintf("the file has over %d bytes", MaxSize),
			Hint: "a configuration is a few kilobytes: is this the right file?",
		}
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	src.lines = strings.Split(redact(string(data)), "\n")
	for i, r := range string(data) {
		if r == utf8.RuneError && !bytes.HasPrefix(data[i:], []byte("\ufffd")) {
			return nil, src, ptr(src.problem(placeOf(data, i), "the file is not UTF-8 here", "save it as UTF-8"))
		}
		if unicode.IsControl(r) && r != '\t' && r != '\n' || r == '\u2028' || r == '\u2029' || r == '\ufeff' {
			return nil, src, ptr(src.problem(placeOf(data, i), fmt.Sprintf("the file has a control character, %U, here", r), "remove it"))
		}
	}
	return data, src, nil
}

func ptr[T any](v T) *T { return &v }

// placeOf turns a byte offset into a place.
func placeOf(data []byte, offset int) position {
	before := data[:offset]
	start := bytes.LastIndexByte(before, '\n') + 1
	return position{bytes.Count(before, []byte("\n")) + 1, utf8.RuneCount(before[start:]) + 1}
}

// problem makes a Problem at a place.
func (s *source) problem(at position, message, hint string) Problem {
	at = s.settle(at)
	return Problem{
		File: s.name, Line: at.line, Column: at.column,
		Message: strings.Map(visible, message), Hint: strings.Map(visible, hint),
		Source: strings.Map(visible, strings.TrimRight(s.line(at.line), " \t")),
	}
}

// line returns a line, empty when there is none.
func (s *source) line(n int) string {
	if n < 1 || n > len(s.lines) {
		return ""
	}
	return s.lines[n-1]
}

// has reports whether text begins at a place.
func (s *source) has(at position, text string) bool {
	line := []rune(s.line(at.line))
	return at.column >= 1 && at.column <= len(line) && strings.HasPrefix(string(line[at.column-1:]), text)
}

// settle moves a place that has no text, white space or the end of the file,
// to the next text on its line, else to the end of the text before it.
func (s *source) settle(at position) position {
	if s == nil {
		return position{} // a File that was not parsed
	}
	at.line, at.column = max(at.line, 1), max(at.column, 1)
	if at.line > len(s.lines) {
		at = position{len(s.lines), math.MaxInt32}
	}
	for ; at.line > 1 && strings.TrimSpace(s.line(at.line)) == ""; at.line-- {
		at.column = math.MaxInt32
	}
	line := []rune(strings.TrimRight(s.line(at.line), " \t"))
	for c := at.column; c <= len(line); c++ {
		if line[c-1] != ' ' && line[c-1] != '\t' {
			at.column = c
			return at
		}
	}
	at.column = min(at.column, len(line)+1)
	return at
}

// visible keeps a terminal from obeying the file.
func visible(r rune) rune {
	if r == '\t' || unicode.IsPrint(r) {
		return r
	}
	return '?'
}

var (
	loginPattern  = regexp.MustCompile(`[\w.-]+:[^\s:/@"'{}]+@`)
	secretPattern = regexp.MustCompile(`(?i)([\w.-]*(?:passw|passphrase|secret|token|_pwd|auth_pass|key_file)[\w.-]*)["']?[ \t]*[:=][ \t]*("[^"\n]*"?|'[^'\n]*'?|[^\s,}\]]+(?:[ \t]+[^\s#,}\]][^\s,}\]]*)*)`)
)

// redact stars out what looks like a secret, of which the file should have
// none: its lines are printed. Every character keeps its column. A *_file that
// is no path may be the secret itself.
func redact(text string) string {
	text = loginPattern.ReplaceAllStringFunc(text, func(s string) string {
		user, password, _ := strings.Cut(strings.TrimSuffix(s, "@"), ":")
		return user + ":" + stars(password) + "@"
	})
	var b strings.Builder
	last := 0
	for _, m := range secretPattern.FindAllStringSubmatchIndex(text, -1) {
		key, val := strings.ToLower(text[m[2]:m[3]]), strings.TrimLeft(text[m[4]:m[5]], `"'`)
		if strings.HasSuffix(key, "_file") && strings.HasPrefix(val, "/") {
			continue
		}
		b.WriteString(text[last:m[4]])
		b.WriteString(stars(text[m[4]:m[5]]))
		last = m[5]
	}
	b.WriteString(text[last:])
	return b.String()
}

func stars(s string) string { return strings.Repeat("*", utf8.RuneCountInString(s)) }
