// Package screen draws the status document for a person: what is the case on both
// nodes, why, and what to do. It reads no clock and writes nowhere.
package screen

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
)

// Mood is what a piece of text means to its reader; a terminal shows it by colour.
type Mood uint8

// The moods.
const (
	Plain     Mood = iota
	Well           // green
	Attention      // yellow: look at it when there is time
	Wrong          // red: it wants somebody now
	Faint          // grey: of interest when something is wrong
	Heading        // bold
)

type span struct {
	text string
	mood Mood
}

// Line is one line of text, or one cell of a table.
type Line []span

// say makes a piece of text of what anybody may have written: it steers no terminal.
func say(mood Mood, text string) Line {
	if text == "" {
		return nil
	}
	return Line{{legible(text), mood}}
}

func plain(text string) Line { return say(Plain, text) }

// join puts pieces one after the other.
func join(parts ...Line) Line {
	var all Line
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// list puts pieces one after the other with commas.
func list(parts ...Line) Line {
	var all Line
	for _, p := range parts {
		if len(p) == 0 {
			continue
		}
		if len(all) > 0 {
			all = append(all, span{", ", Plain})
		}
		all = append(all, p...)
	}
	return all
}

// legible replaces what a terminal obeys and what changes the order or the place of
// other characters.
func legible(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError, unicode.IsControl(r), unicode.In(r, unicode.Zl, unicode.Zp, unicode.Zs):
			return ' '
		case unicode.In(r, unicode.Cf, unicode.Co, unicode.Cs), unicode.IsMark(r), !unicode.IsPrint(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, " "))
}

func text(l Line) string {
	var b strings.Builder
	for _, s := range l {
		b.WriteString(s.text)
	}
	return b.String()
}

func width(l Line) int {
	w := 0
	for _, s := range l {
		w += ansi.StringWidth(s.text)
	}
	return w
}

// wrap breaks a line into lines of at most so many columns, at spaces where there are
// some. More than most of them end in an ellipsis; 0 is without limit.
func wrap(l Line, columns, most int) []Line {
	columns = max(1, columns)
	var all []Line
	var now Line
	used := 0
	flush := func() { all, now, used = append(all, trimmed(now)), nil, 0 }
	for _, w := range wordsOf(l) {
		if used > 0 && used+ansi.StringWidth(w.text) > columns && strings.TrimSpace(w.text) != "" {
			flush()
		}
		if used == 0 && len(all) > 0 {
			w.text = strings.TrimLeft(w.text, " ")
		}
		pieces := []string{w.text}
		if ansi.StringWidth(w.text) > columns {
			pieces = strings.Split(ansi.Hardwrap(w.text, columns, true), "\n")
		}
		for i, piece := range pieces {
			if i > 0 {
				flush()
			}
			now, used = append(now, span{piece, w.mood}), used+ansi.StringWidth(piece)
		}
		if most > 0 && len(all) > most {
			break
		}
	}
	if len(now) > 0 || len(all) == 0 {
		flush()
	}
	if most > 0 && len(all) > most {
		all = all[:most]
		last := all[most-1]
		mood := last[len(last)-1].mood
		all[most-1] = append(cut(last, columns-1), span{"…", mood})
	}
	return all
}

// wordsOf splits a line at its spaces, each word with what is in front of it.
func wordsOf(l Line) []span {
	var all []span
	for _, s := range l {
		rest := s.text
		for rest != "" {
			lead := len(rest) - len(strings.TrimLeft(rest, " "))
			end := strings.IndexByte(rest[lead:], ' ')
			if end < 0 {
				end = len(rest) - lead
			}
			all = append(all, span{rest[:lead+end], s.mood})
			rest = rest[lead+end:]
		}
	}
	return all
}

// cut shortens a line to so many columns.
func cut(l Line, columns int) Line {
	var all Line
	for _, s := range l {
		size := ansi.StringWidth(s.text)
		if size > columns {
			s.text = ansi.Truncate(s.text, max(0, columns), "")
			return append(all, s)
		}
		all, columns = append(all, s), columns-size
	}
	return all
}

// fit shortens a line to so many columns and says so with an ellipsis.
func fit(l Line, columns int) Line {
	if width(l) <= columns || len(l) == 0 {
		return l
	}
	return append(cut(l, columns-1), span{"…", l[len(l)-1].mood})
}

func trimmed(l Line) Line {
	l = append(Line(nil), l...)
	for len(l) > 0 {
		last := &l[len(l)-1]
		if last.text = strings.TrimRight(last.text, " "); last.text != "" {
			break
		}
		l = l[:len(l)-1]
	}
	return l
}

func pad(l Line, columns int) Line {
	if gap := columns - width(l); gap > 0 {
		return append(append(Line(nil), l...), span{strings.Repeat(" ", gap), Plain})
	}
	return l
}

// ascii stands in for the few characters of ours that an old terminal lacks.
func ascii(s string) string {
	return strings.NewReplacer("─", "-", "►", ">", "◄", "<", "…", "~", "✗", "x", "—", "-", "→", ">").Replace(s)
}

// Text writes lines out, each with its end.
func Text(lines []Line, colour, unicode bool) string {
	var b strings.Builder
	for _, l := range lines {
		for _, s := range joined(trimmed(l)) {
			piece := s.text
			if !unicode {
				piece = ascii(piece)
			}
			if style, styled := s.mood.style(); colour && styled {
				piece = style.Styled(piece)
			}
			b.WriteString(piece)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// joined makes one piece of neighbours that mean the same.
func joined(l Line) Line {
	var all Line
	for _, s := range l {
		if n := len(all); n > 0 && all[n-1].mood == s.mood {
			all[n-1].text += s.text
			continue
		}
		all = append(all, s)
	}
	return all
}

func (m Mood) style() (s ansi.Style, styled bool) {
	switch m {
	case Well:
		return s.ForegroundColor(ansi.Green), true
	case Attention:
		return s.ForegroundColor(ansi.Yellow), true
	case Wrong:
		return s.Bold().ForegroundColor(ansi.Red), true
	case Faint:
		return s.ForegroundColor(ansi.BrightBlack), true
	case Heading:
		return s.Bold(), true
	case Plain:
	}
	return s, false
}

// Say makes a line of one piece; what would steer a terminal is taken out of the text.
func Say(mood Mood, text string) Line { return say(mood, text) }

// Fit shortens a line to so many columns.
func Fit(l Line, columns int) Line { return fit(l, columns) }

// Fade makes lines grey, for what is no longer known to be so.
func Fade(lines []Line) []Line {
	faded := make([]Line, len(lines))
	for i, l := range lines {
		faded[i] = say(Faint, text(l))
	}
	return faded
}
