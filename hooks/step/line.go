package step

// The line step: one line of a text file that belongs to somebody else.

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tanist-ha/tanist/hooks"
)

// NewLine returns the step that puts one line into a text file or takes it out. The
// error of a file in which the line or its place is not certain is a *Refusal.
func NewLine(a hooks.Line) Step {
	what := "put in the line "
	if a.Absent {
		what = "take out the line "
	}
	return &fileEdit{
		file: a.File, what: what + strconv.Quote(a.Line),
		edit: func(old []byte) ([]byte, error) { return setLine(old, a) },
	}
}

// setLine returns src with the line present or absent. The error is a *Refusal.
func setLine(src []byte, a hooks.Line) ([]byte, error) {
	if at := bytes.IndexByte(src, 0); at >= 0 {
		return nil, refuse(ReasonEncoding, lineOf(src, at), "a zero byte")
	}
	wanted := trimLine([]byte(a.Line))
	if len(wanted) == 0 || bytes.ContainsAny(wanted, "\n\r\x00") {
		return nil, refuse(ReasonValue, 0, "not one line")
	}
	t := splitLines(src)
	b, err := t.block(a.Within)
	if err != nil {
		return nil, err
	}
	at, err := t.only(b, wanted)
	switch {
	case err != nil:
		return nil, err
	case a.Absent && at < 0, !a.Absent && at >= 0:
		return src, nil
	case a.Absent:
		return t.without(at), nil
	}
	return t.with(b, wanted, a.After)
}

// lines are a file as its lines, each with its end.
type lines [][]byte

func splitLines(src []byte) lines {
	if len(src) == 0 {
		return nil
	}
	t := bytes.SplitAfter(src, []byte("\n"))
	if len(t[len(t)-1]) == 0 {
		t = t[:len(t)-1]
	}
	return t
}

func trimLine(line []byte) []byte { return bytes.Trim(line, " \t\r\n\v\f") }

// read is line i as it is compared.
func (t lines) read(i int) []byte {
	line := t[i]
	if i == 0 {
		line = bytes.TrimPrefix(line, bom)
	}
	return trimLine(line)
}

// span is a stretch of lines [from, to).
type span struct {
	from, to int
	braces   bool // lines in braces of their own are no lines of it
}

// only returns where in b the line stands, -1 for nowhere.
func (t lines) only(b span, line []byte) (int, error) {
	at, again, depth := -1, []string(nil), 0
	for i := b.from; i < b.to; i++ {
		outer := depth
		if b.braces {
			opened, closed, _ := countBraces(t[i])
			outer -= closed
			depth += opened - closed
		}
		switch {
		case outer != 0 || !bytes.Equal(t.read(i), line):
		case at < 0:
			at = i
		case len(again) < namedLines:
			again = append(again, strconv.Itoa(i+1))
		}
	}
	if again != nil {
		return -1, refuse(ReasonAmbiguous, at+1, "%q, and again on line %s", line, strings.Join(again, ", "))
	}
	if at >= 0 && (t.continued(at) || at > 0 && t.continued(at-1)) {
		return -1, refuse(ReasonMultiline, at+1, `\ joins lines here`)
	}
	return at, nil
}

// namedLines bounds what a refusal names.
const namedLines = 10

// continued reports whether the next line is a part of line i.
func (t lines) continued(i int) bool { return bytes.HasSuffix(t.read(i), []byte(`\`)) }

// block finds the lines inside the block that opening opens.
func (t lines) block(opening string) (span, error) {
	if opening == "" {
		return span{to: len(t)}, nil
	}
	line := trimLine([]byte(opening))
	if len(line) == 0 {
		return span{}, refuse(ReasonValue, 0, "the line that opens the block is blank")
	}
	at, err := t.only(span{to: len(t)}, line)
	switch {
	case err != nil:
		return span{}, err
	case at < 0:
		return span{}, refuse(ReasonMissing, 0, "no line reads %q", line)
	case bytes.HasSuffix(line, []byte("{")):
		return t.braces(at)
	case line[0] == '[' && line[len(line)-1] == ']':
		return span{from: at + 1, to: t.section(at + 1)}, nil
	}
	return span{}, refuse(ReasonValue, at+1, "%q opens no block: it neither ends with { nor is a [section]", line)
}

// section returns the line with the next [, or the end.
func (t lines) section(from int) int {
	for i := from; i < len(t); i++ {
		if bytes.HasPrefix(t.read(i), []byte("[")) {
			return i
		}
	}
	return len(t)
}

// braces finds the lines between the brace that ends line at and its counterpart,
// which must have a line of its own.
func (t lines) braces(at int) (span, error) {
	depth := 1
	for i := at + 1; i < len(t); i++ {
		opened, closed, ok := countBraces(t[i])
		if !ok {
			return span{}, refuse(ReasonSyntax, i+1, "a quote that does not end on its line")
		}
		if depth -= closed; depth <= 0 {
			if depth < 0 || !bytes.HasPrefix(t.read(i), []byte("}")) {
				return span{}, refuse(ReasonSyntax, i+1, "the } of line %d has no line of its own", at+1)
			}
			return span{from: at + 1, to: i, braces: true}, nil
		}
		depth += opened
	}
	return span{}, refuse(ReasonSyntax, at+1, "the block is not closed")
}

// countBraces returns how many braces a line opens for lines below and closes of
// lines above. Those in quotes and comments do not count.
func countBraces(line []byte) (opened, closed int, ok bool) {
	var quote byte
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '#' && (i == 0 || bytes.IndexByte([]byte(" \t;{}"), line[i-1]) >= 0):
			return opened, closed, true
		case (c == '"' || c == '\'') && (i == 0 || bytes.IndexByte([]byte(" \t=({,"), line[i-1]) >= 0):
			quote = c
		case c == '{':
			opened++
		case c == '}' && opened > 0:
			opened--
		case c == '}':
			closed++
		}
	}
	return opened, closed, quote == 0
}

// without takes out line at. A file whose last line has no end keeps it so.
func (t lines) without(at int) []byte {
	if at == len(t)-1 && at > 0 && !bytes.HasSuffix(t[at], []byte("\n")) {
		before := bytes.TrimSuffix(bytes.TrimSuffix(t[at-1], []byte("\n")), []byte("\r"))
		return slices.Concat(bytes.Join(t[:at-1], nil), before)
	}
	if at == 0 && bytes.HasPrefix(t[0], bom) {
		return slices.Concat(bom, bytes.Join(t[1:], nil))
	}
	return slices.Concat(bytes.Join(t[:at], nil), bytes.Join(t[at+1:], nil))
}

// with puts the line into b, behind the line after or at the end.
func (t lines) with(b span, line []byte, after string) ([]byte, error) {
	at := b.to
	if after != "" {
		found, err := t.only(b, trimLine([]byte(after)))
		switch {
		case len(trimLine([]byte(after))) == 0:
			return nil, refuse(ReasonValue, 0, "the neighbour is blank")
		case err != nil:
			return nil, err
		case found < 0:
			return nil, refuse(ReasonMissing, b.from, "no line reads %q", trimLine([]byte(after)))
		}
		at = found + 1
	} else {
		for at > b.from && len(t.read(at-1)) == 0 {
			at--
		}
	}
	if at > 0 && t.continued(at-1) {
		return nil, refuse(ReasonMultiline, at, `\ joins lines here`)
	}
	eol := t.eol(at)
	added := fmt.Appendf(nil, "%s%s%s", t.indent(b, at), line, eol)
	if at == len(t) && at > 0 && !bytes.HasSuffix(t[at-1], []byte("\n")) {
		added = slices.Concat([]byte(eol), bytes.TrimSuffix(added, []byte(eol)))
	}
	head, rest := bytes.Join(t[:at], nil), bytes.Join(t[at:], nil)
	if at == 0 && bytes.HasPrefix(rest, bom) {
		head, rest = bom, rest[len(bom):]
	}
	return slices.Concat(head, added, rest), nil
}

// eol is how the lines around at end.
func (t lines) eol(at int) string {
	for _, i := range []int{at - 1, at, at - 2} {
		if i >= 0 && i < len(t) && bytes.HasSuffix(t[i], []byte("\n")) {
			if bytes.HasSuffix(t[i], []byte("\r\n")) {
				return "\r\n"
			}
			return "\n"
		}
	}
	return "\n"
}

// indent is what the nearest line of the block begins with. In an empty block it is
// one step more than the line that opens it.
func (t lines) indent(b span, at int) []byte {
	for i := at - 1; i >= b.from; i-- {
		if len(t.read(i)) > 0 && !bytes.HasPrefix(t.read(i), []byte("}")) && t.depth(b, i) == 0 {
			return leading(t[i])
		}
	}
	for i := at; i < b.to; i++ {
		if len(t.read(i)) > 0 {
			return leading(t[i])
		}
	}
	if b.from == 0 || bytes.HasPrefix(t.read(b.from-1), []byte("[")) {
		return nil
	}
	step := "    "
	if slices.ContainsFunc(t, func(l []byte) bool { return bytes.HasPrefix(l, []byte("\t")) }) {
		step = "\t"
	}
	return append(bytes.Clone(leading(t[b.from-1])), step...)
}

// depth is how many blocks inside b are open above line i.
func (t lines) depth(b span, i int) int {
	depth := 0
	for _, line := range t[b.from:i] {
		opened, closed, _ := countBraces(line)
		depth += opened - closed
	}
	return depth
}

func leading(line []byte) []byte {
	line = bytes.TrimPrefix(line, bom)
	return line[:len(line)-len(bytes.TrimLeft(line, " \t"))]
}
