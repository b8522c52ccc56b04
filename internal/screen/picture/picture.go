// Package picture draws what a command writes to a terminal, as SVG. The pictures of
// docs are made of the same text that the goldens hold.
package picture

import (
	"encoding/xml"
	"fmt"
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"
)

const (
	cellWidth  = 8.4 // of a monospaced font at 14 px
	lineHeight = 18
	margin     = 14
)

// pen is how a piece of text is drawn.
type pen struct {
	fill string
	bold bool
}

// The colours of a dark terminal.
const (
	ground  = "#1e2228"
	pale    = "#d5d9e0"
	bright  = "#ffffff" // bold, without a colour
	leading = " "
)

// fills are the colours that commands use, by SGR parameter (ECMA-48 §8.3.117).
var fills = map[string]string{"31": "#ff6b68", "32": "#7ec97e", "33": "#e5c07b", "90": "#8b93a1"}

// SVG draws text, with its escape sequences for colours, on a terminal of so many
// columns, which breaks longer lines. Each piece has its place and its length, so that it stands right in any
// monospaced font. A sequence that no command of ours writes is an error.
func SVG(title, text string, columns int) (string, error) {
	var b strings.Builder
	lines := strings.Split(ansi.Hardwrap(strings.TrimSuffix(text, "\n"), columns, true), "\n")
	w, h := float64(columns)*cellWidth+2*margin, len(lines)*lineHeight+2*margin
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%d" viewBox="0 0 %.0f %d" font-family="ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace" font-size="14">`+"\n", w, h, w, h)
	fmt.Fprintf(&b, "<title>%s</title>\n", escape(title))
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" rx="8" fill="%s"/>`+"\n", ground)
	now := pen{fill: pale}
	for i, line := range lines {
		column := 0
		for line != "" {
			var piece string
			var err error
			if now, piece, line, err = next(now, line); err != nil {
				return "", fmt.Errorf("draw line %d: %w", i+1, err)
			}
			size := ansi.StringWidth(piece)
			lead := size - ansi.StringWidth(strings.TrimLeft(piece, leading))
			if piece = piece[lead:]; piece != "" {
				b.WriteString(now.text(piece, column+lead, i))
			}
			column += size
		}
	}
	b.WriteString("</svg>\n")
	return b.String(), nil
}

// next cuts the first piece off a line, and what changes the pen in front of it.
func next(now pen, line string) (_ pen, piece, rest string, err error) {
	for strings.HasPrefix(line, "\x1b") {
		sequence, after, ended := strings.Cut(line, "m")
		if !ended || !strings.HasPrefix(sequence, "\x1b[") {
			return now, "", "", fmt.Errorf("not a colour: %q", line)
		}
		if now, err = now.changed(strings.TrimPrefix(sequence, "\x1b[")); err != nil {
			return now, "", "", err
		}
		line = after
	}
	end := strings.IndexByte(line, 0x1b)
	if end < 0 {
		end = len(line)
	}
	return now, line[:end], line[end:], nil
}

// changed is the pen after the parameters of one sequence.
func (p pen) changed(parameters string) (pen, error) {
	list := strings.Split(parameters, ";")
	for _, one := range list {
		switch {
		case one == "" || one == "0":
			p = pen{fill: pale}
		case one == "1":
			p.bold = true
			if !slices.ContainsFunc(list, func(s string) bool { return fills[s] != "" }) {
				p.fill = bright
			}
		case fills[one] != "":
			p.fill = fills[one]
		default:
			return p, fmt.Errorf("no colour of ours: %q", parameters)
		}
	}
	return p, nil
}

func (p pen) text(piece string, column, line int) string {
	weight := ""
	if p.bold {
		weight = ` font-weight="bold"`
	}
	return fmt.Sprintf(`<text x="%.1f" y="%d" textLength="%.1f" lengthAdjust="spacingAndGlyphs" xml:space="preserve" fill="%s"%s>%s</text>`+"\n",
		margin+float64(column)*cellWidth, margin+line*lineHeight+13, float64(ansi.StringWidth(piece))*cellWidth, p.fill, weight, escape(piece))
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String()
}
