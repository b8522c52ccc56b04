package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Problem is one mistake: where it stands, what is wrong and what to do.
type Problem struct {
	File    string
	Line    int    // from 1; 0 when the mistake has no place in the file
	Column  int    // from 1, in characters
	Message string // one line
	Hint    string // one line, may be empty
	// Source is the line with secrets starred out and without control
	// characters other than tabs.
	Source string
}

// sourceWidth bounds the characters of a printed line; a longer one is cut
// around its caret.
const sourceWidth = 160

// Error is the problem over up to four lines: place and message, the source
// line, a caret, the hint. It ends without a line break.
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	b.WriteString(": " + p.Message)
	if p.Line > 0 && p.Source != "" {
		line, column := clip([]rune(p.Source), p.Column)
		b.WriteString("\n  " + string(line) + "\n  " + under(line, column) + "^")
	}
	if p.Hint != "" {
		b.WriteString("\n  hint: " + p.Hint)
	}
	return b.String()
}

// clip cuts a long line to sourceWidth characters around a column.
func clip(line []rune, column int) ([]rune, int) {
	if len(line) <= sourceWidth {
		return line, column
	}
	start := max(0, min(column-1-sourceWidth/2, len(line)-sourceWidth))
	end := start + sourceWidth
	cut := slices.Clone(line[start:end])
	if start > 0 {
		cut[0] = '…'
	}
	if end < len(line) {
		cut[len(cut)-1] = '…'
	}
	return cut, column - start
}

// under is the space before a caret: a tab stays a tab, so the caret stands
// right whatever the width of a tab.
func under(line []rune, column int) string {
	var b strings.Builder
	for i := range column - 1 {
		if i < len(line) && line[i] == '\t' {
			b.WriteByte('\t')
		} else {
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// Problems are all mistakes of a file in the order of their places.
type Problems []Problem

// Error is every problem, one after another.
func (ps Problems) Error() string {
	parts := make([]string, len(ps))
	for i, p := range ps {
		parts[i] = p.Error()
	}
	return strings.Join(parts, "\n")
}

// sorted orders by place and drops exact repetitions.
func (ps Problems) sorted() Problems {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return slices.Compact(ps)
}

// quote shows text of the file inside a message: on one line, bounded.
func quote(s string) string {
	const most = 60
	if utf8.RuneCountInString(s) > most {
		s = string([]rune(s)[:most-1]) + "…"
	}
	return fmt.Sprintf("%q", s)
}
