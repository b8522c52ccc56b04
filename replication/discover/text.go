package discover

// A path names one field of a file: .mysql.port. A text is a field, or words with
// fields in between: team-{{.id}}.

import (
	"errors"
	"fmt"
	"strings"
)

// Path is the way to a field: the names of keys, or positions in lists from 0.
type Path []string

const (
	maxPathParts = 16
	maxText      = 1024 // bytes, of a path or a text
)

// ParsePath reads a path like .mysql.port.
func ParsePath(s string) (Path, error) {
	rest, ok := strings.CutPrefix(s, ".")
	switch {
	case !ok:
		return nil, errors.New("a field begins with a dot: .mysql.port")
	case len(s) > maxText:
		return nil, fmt.Errorf("a field has at most %d bytes", maxText)
	}
	parts := strings.Split(rest, ".")
	if len(parts) > maxPathParts {
		return nil, fmt.Errorf("a field has at most %d parts", maxPathParts)
	}
	for _, part := range parts {
		if part == "" {
			return nil, errors.New("a part of the field is empty")
		}
		if strings.ContainsFunc(part, notInKey) {
			return nil, errors.New("a field is made of letters, digits, _ and -, with dots in between")
		}
	}
	return parts, nil
}

func notInKey(r rune) bool {
	return r != '_' && r != '-' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
}

// String returns the path as ParsePath reads it.
func (p Path) String() string { return "." + strings.Join(p, ".") }

// Text is words, fields and variables one after the other. The zero Text is none.
type Text struct{ pieces []piece }

// piece is a field or a variable if it has a path, else words.
type piece struct {
	words string
	path  Path
}

// The variables: paths that name nothing in the file.
const (
	varNode     = "Node"
	varPeer     = "Peer"
	varInstance = "Instance"
	varMatch    = "Match"
)

// ParseText reads a field like .mysql.port, or words with fields and the
// variables .Node, .Peer, .Instance and .Match in between: db-{{.id}}-{{.Node}}.
func ParseText(s string) (Text, error) {
	if s == "" || len(s) > maxText {
		return Text{}, fmt.Errorf("a text has 1 to %d bytes", maxText)
	}
	if strings.HasPrefix(s, ".") {
		p, err := ParsePath(s)
		if err != nil {
			return Text{}, err
		}
		return Text{[]piece{{path: p}}}, nil
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return Text{}, errors.New("a text has no control characters")
	}
	var t Text
	for rest := s; rest != ""; {
		words, inside, opened := strings.Cut(rest, "{{")
		if strings.Contains(words, "}}") {
			return Text{}, errors.New("}} closes nothing")
		}
		if words != "" {
			t.pieces = append(t.pieces, piece{words: words})
		}
		if !opened {
			break
		}
		field, after, closed := strings.Cut(inside, "}}")
		if !closed {
			return Text{}, errors.New("{{ is not closed with }}")
		}
		p, err := ParsePath(strings.Trim(field, " "))
		if err != nil {
			return Text{}, err
		}
		t.pieces, rest = append(t.pieces, piece{path: p}), after
	}
	return t, nil
}

// IsZero reports whether there is no text.
func (t Text) IsZero() bool { return len(t.pieces) == 0 }

// String returns the text as ParseText reads it.
func (t Text) String() string {
	if len(t.pieces) == 1 && t.pieces[0].path != nil {
		return t.pieces[0].path.String()
	}
	var b strings.Builder
	for _, p := range t.pieces {
		if p.path == nil {
			b.WriteString(p.words)
		} else {
			b.WriteString("{{" + p.path.String() + "}}")
		}
	}
	return b.String()
}

// UsesMatch reports whether the text names .Match.
func (t Text) UsesMatch() bool {
	for _, p := range t.pieces {
		if len(p.path) == 1 && p.path[0] == varMatch {
			return true
		}
	}
	return false
}

// Constant returns a text that names no field and no variable.
func (t Text) Constant() (string, bool) {
	if len(t.pieces) != 1 || t.pieces[0].path != nil {
		return "", false
	}
	return t.pieces[0].words, true
}

// Fill returns a text without fields: words and the variables .Node, .Peer and
// .Instance.
func (t Text) Fill(v Vars) (string, error) {
	if t.UsesMatch() {
		return "", errors.New("{{.Match}} has no meaning here")
	}
	s, err := t.expand(expander{vars: v, doc: jsonDocument{}})
	if err != nil {
		return "", errors.New("only {{.Node}}, {{.Peer}} and {{.Instance}} have a meaning here")
	}
	return s, nil
}

func (t Text) expand(e expander) (string, error) {
	var b strings.Builder
	for _, p := range t.pieces {
		if p.path == nil {
			b.WriteString(p.words)
			continue
		}
		if s, ok := e.variable(p.path); ok {
			b.WriteString(s)
			continue
		}
		v := e.doc.at(p.path)
		if v.kind != textValue && v.kind != numberValue || v.text == "" {
			return "", &fieldError{p.path.String(), v.wrong("text or a number")}
		}
		b.WriteString(v.text)
	}
	return b.String(), nil
}

func (e expander) variable(p Path) (string, bool) {
	if len(p) != 1 {
		return "", false
	}
	switch p[0] {
	case varNode:
		return e.vars.Node, true
	case varPeer:
		return e.vars.Peer, true
	case varInstance:
		return e.vars.Instance, true
	case varMatch:
		return e.match, true
	}
	return "", false
}
