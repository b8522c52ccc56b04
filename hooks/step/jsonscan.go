package step

// A scanner of JSON (RFC 8259) that says where every value stands, so that one can be
// replaced and all other bytes kept.

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

type jsonKind uint8

const (
	jsonNull jsonKind = iota
	jsonBool
	jsonNumber
	jsonString
	jsonArray
	jsonObject
)

func (k jsonKind) String() string {
	return [...]string{"null", "true or false", "a number", "text", "an array", "an object"}[k]
}

// jsonDepth is how deeply values may be nested, as encoding/json has it.
const jsonDepth = 10000

// jsonNode is a value and its bytes [start, end). Elements of an array are not kept:
// nothing can name them.
type jsonNode struct {
	kind       jsonKind
	start, end int
	text       string
	raw        string // of a value that is neither array nor object
	members    []jsonMember
}

type jsonMember struct {
	name          string
	start, keyEnd int // of the key
	value         *jsonNode
}

// colon returns what stands between the key and the value.
func (m jsonMember) colon(src []byte) string { return string(src[m.keyEnd:m.value.start]) }

type jsonScanner struct {
	src   []byte
	at    int
	depth int
}

// scanJSON reads one value with nothing but blanks around it. The error is a *Refusal.
func scanJSON(src []byte) (*jsonNode, error) {
	if !utf8.Valid(src) {
		return nil, refuse(ReasonEncoding, invalidLine(src), "")
	}
	s := &jsonScanner{src: src}
	s.blanks()
	if s.at == len(src) {
		return nil, refuse(ReasonMissing, 0, "the file is empty")
	}
	n, err := s.value()
	if err != nil {
		return nil, err
	}
	if s.blanks(); s.at < len(src) {
		return nil, s.wrong("something follows the value")
	}
	return n, nil
}

func (s *jsonScanner) wrong(what string) error {
	return refuse(ReasonSyntax, lineOf(s.src, s.at), "%s", what)
}

// lineOf is the line, from 1, of a byte.
func lineOf(src []byte, at int) int {
	return 1 + bytes.Count(src[:min(at, len(src))], []byte("\n"))
}

func (s *jsonScanner) peek() byte {
	if s.at < len(s.src) {
		return s.src[s.at]
	}
	return 0
}

func (s *jsonScanner) blanks() {
	for s.at < len(s.src) && bytes.IndexByte([]byte(" \t\r\n"), s.src[s.at]) >= 0 {
		s.at++
	}
}

func (s *jsonScanner) value() (*jsonNode, error) {
	n := &jsonNode{start: s.at}
	var err error
	switch c := s.peek(); {
	case c == '{':
		n.kind, err = jsonObject, s.nested(func() error { return s.object(n) })
	case c == '[':
		n.kind, err = jsonArray, s.nested(s.array)
	case c == '"':
		n.kind = jsonString
		n.text, err = s.string()
	case c == '-' || digit(c):
		n.kind, err = jsonNumber, s.number()
	default:
		n.kind, err = s.word()
	}
	if err != nil {
		return nil, err
	}
	n.end = s.at
	if n.kind < jsonArray {
		n.raw = string(s.src[n.start:n.end])
	}
	return n, nil
}

func (s *jsonScanner) nested(read func() error) error {
	if s.depth++; s.depth > jsonDepth {
		return s.wrong("nested too deeply")
	}
	defer func() { s.depth-- }()
	s.at++
	return read()
}

func (s *jsonScanner) word() (jsonKind, error) {
	for word, kind := range map[string]jsonKind{"null": jsonNull, "true": jsonBool, "false": jsonBool} {
		if bytes.HasPrefix(s.src[s.at:], []byte(word)) {
			s.at += len(word)
			return kind, nil
		}
	}
	return 0, s.wrong("a value is missing")
}

// object reads what follows the brace.
func (s *jsonScanner) object(n *jsonNode) error {
	if s.blanks(); s.peek() == '}' {
		s.at++
		return nil
	}
	for {
		s.blanks()
		if s.peek() != '"' {
			return s.wrong("a key in quotes is missing")
		}
		m := jsonMember{start: s.at}
		var err error
		if m.name, err = s.string(); err != nil {
			return err
		}
		m.keyEnd = s.at
		if s.blanks(); s.peek() != ':' {
			return s.wrong("a colon is missing")
		}
		s.at++
		s.blanks()
		if m.value, err = s.value(); err != nil {
			return err
		}
		n.members = append(n.members, m)
		if more, err := s.more('}'); !more {
			return err
		}
	}
}

// array reads what follows the bracket.
func (s *jsonScanner) array() error {
	if s.blanks(); s.peek() == ']' {
		s.at++
		return nil
	}
	for {
		s.blanks()
		if _, err := s.value(); err != nil {
			return err
		}
		if more, err := s.more(']'); !more {
			return err
		}
	}
}

// more reads a comma or the end of a list.
func (s *jsonScanner) more(end byte) (bool, error) {
	s.blanks()
	switch s.peek() {
	case ',':
		s.at++
		return true, nil
	case end:
		s.at++
		return false, nil
	}
	return false, s.wrong("a comma or the closing " + string(end) + " is missing")
}

func (s *jsonScanner) string() (string, error) {
	start := s.at
	for s.at++; ; s.at++ {
		switch c := s.peek(); {
		case s.at >= len(s.src):
			return "", s.wrong("a closing quote is missing")
		case c < 0x20:
			return "", s.wrong("a control character in text")
		case c == '\\':
			s.at++
		case c == '"':
			s.at++
			var text string
			if err := json.Unmarshal(s.src[start:s.at], &text); err != nil {
				return "", s.wrong("an escape that does not exist")
			}
			return text, nil
		}
	}
}

func (s *jsonScanner) number() error {
	if s.peek() == '-' {
		s.at++
	}
	switch {
	case s.peek() == '0':
		s.at++
	case !s.digits():
		return s.wrong("a number without digits")
	}
	if s.peek() == '.' {
		if s.at++; !s.digits() {
			return s.wrong("a number without digits behind its point")
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		if s.at++; s.peek() == '+' || s.peek() == '-' {
			s.at++
		}
		if !s.digits() {
			return s.wrong("a number without digits in its exponent")
		}
	}
	return nil
}

func (s *jsonScanner) digits() bool {
	start := s.at
	for digit(s.peek()) {
		s.at++
	}
	return s.at > start
}

func digit(c byte) bool { return c >= '0' && c <= '9' }
