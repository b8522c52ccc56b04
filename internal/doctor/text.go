package doctor

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Style is how a report is printed.
type Style struct {
	Verbose bool // with what was checked and is fine
	Colour  bool
	// Width is that of the terminal, in columns; 0: lines are as long as they are. What
	// is to be pasted is never broken.
	Width int
}

const (
	red    = "\x1b[31;1m"
	yellow = "\x1b[33;1m"
	green  = "\x1b[32m"
	bold   = "\x1b[1m"
	plain  = "\x1b[0m"
)

func (s Style) paint(colour, text string) string {
	if !s.Colour {
		return text
	}
	return colour + text + plain
}

// Print writes the verdict, and what was found on each node with what to paste.
func (r Report) Print(w io.Writer, s Style) error {
	p := printer{w: w, Style: s}
	verdict := green
	if r.Warnings > 0 {
		verdict = yellow
	}
	if r.Problems > 0 {
		verdict = red
	}
	p.line("%s", p.paint(verdict, r.Verdict))
	for _, node := range r.Nodes {
		p.node(node, r.Findings)
	}
	if hidden := r.hidden(s); hidden > 0 && r.Problems+r.Warnings > 0 {
		p.line("")
		p.line("%s fine: `tanist doctor -v` lists them", count(hidden, "other check"))
	}
	return p.err
}

func (r Report) hidden(s Style) int {
	if s.Verbose {
		return 0
	}
	return len(r.Findings) - r.Problems - r.Warnings
}

// printer keeps the first error.
type printer struct {
	Style
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *printer) node(node string, findings []Finding) {
	headed := false
	for _, f := range findings {
		if f.Node != node || f.Severity == OK && !p.Verbose {
			continue
		}
		if !headed {
			p.line("")
			p.line("%s", p.paint(bold, node))
			headed = true
		}
		p.finding(f)
	}
}

// indent is where what belongs to a finding begins: under its sentence.
const indent = "           "

func (p *printer) finding(f Finding) {
	colour := map[Severity]string{OK: green, Warning: yellow, Problem: red}[f.Severity]
	p.line("  %s%s", p.paint(colour, fmt.Sprintf("%-9s", f.Severity)), p.broken(f.What))
	for _, e := range f.Evidence {
		p.line("%s%s", indent, p.broken(e))
	}
	for i, line := range f.Fix {
		lead := "fix: "
		if i > 0 {
			lead = strings.Repeat(" ", len(lead))
		}
		p.line("%s%s%s", indent, p.paint(bold, lead), legible(line))
	}
}

// broken is a sentence in as many lines as the terminal needs, broken between words: a
// path and a number stay whole.
func (p *printer) broken(s string) string {
	room := p.Width - len(indent)
	if room < len(indent) {
		return legible(s)
	}
	var b strings.Builder
	used := 0
	for i, word := range strings.Fields(legible(s)) {
		size := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case used+1+size > room:
			b.WriteString("\n" + indent)
			used = 0
		default:
			b.WriteByte(' ')
			used++
		}
		b.WriteString(word)
		used += size
	}
	return b.String()
}

// legible leaves out of a line what a terminal obeys, what ends it, and what changes
// the order in which it is read. The other host, servers and files have a say in it.
func legible(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r), unicode.In(r, unicode.Zl, unicode.Zp):
			return ' '
		case unicode.In(r, unicode.Cf, unicode.Co, unicode.Cs):
			return -1
		}
		return r
	}, s)
}
