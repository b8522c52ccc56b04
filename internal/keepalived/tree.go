package keepalived

import (
	"fmt"
	"slices"
	"strings"
)

// directive is one line and the block that may follow it.
type directive struct {
	at    place
	words []string // at least one
	inner []directive
	block bool
}

// keyword is the first word.
func (d directive) keyword() string { return d.words[0] }

// value is the second word, empty when there is none.
func (d directive) value() string {
	if len(d.words) < 2 {
		return ""
	}
	return d.words[1]
}

// text is the line as it was meant.
func (d directive) text() string { return strings.Join(d.words, " ") }

// maxBlocks bounds blocks in blocks.
const maxBlocks = 32

// tree makes the blocks of lines.
func (r *reader) tree() ([]directive, error) {
	all, rest, err := r.block(r.lines, 0)
	for err == nil && len(rest) > 0 {
		r.note(rest[0].at, "a } that closes nothing is left out")
		var more []directive
		more, rest, err = r.block(rest[1:], 0)
		all = append(all, more...)
	}
	return all, err
}

// block reads directives until its block is closed, and returns what follows from
// there on.
func (r *reader) block(lines []line, depth int) ([]directive, []line, error) {
	var all []directive
	for len(lines) > 0 {
		l := lines[0]
		switch l.text {
		case "}":
			return all, lines, nil
		case "{":
			if depth >= maxBlocks {
				return nil, nil, fmt.Errorf("%s: more than %d blocks in one another", l.at, maxBlocks)
			}
			if len(all) == 0 || all[len(all)-1].block {
				r.note(l.at, "a block without a name is left out")
				all = append(all, directive{at: l.at, words: []string{"{"}})
			}
			inner, rest, err := r.block(lines[1:], depth+1)
			if err != nil {
				return nil, nil, err
			}
			if len(rest) == 0 {
				return nil, nil, fmt.Errorf("%s: this block is not closed with }", l.at)
			}
			d := &all[len(all)-1]
			d.inner, d.block = inner, true
			lines = rest[1:]
			continue
		}
		if words := split(l.text); len(words) > 0 {
			all = append(all, directive{at: l.at, words: words})
		}
		lines = lines[1:]
	}
	return all, nil, nil
}

// commands are the keywords whose first value is a command, in quotes of either kind.
var commands = []string{
	"script", "notify", "notify_master", "notify_backup", "notify_fault", "notify_stop", "notify_deleted", "notify_master_rx_lower_pri",
}

// split makes the words of a line.
func split(text string) []string {
	keyword, _, _ := strings.Cut(strings.ReplaceAll(text, "\t", " "), " ")
	if slices.Contains(commands, keyword) {
		return quotedWords(text, false)
	}
	var words []string
	for text = strings.TrimLeft(text, " \t"); text != ""; text = strings.TrimLeft(text, " \t") {
		end := strings.IndexAny(text, " \t")
		if text[0] == '"' {
			text = text[1:]
			end = strings.IndexByte(text, '"')
		}
		if end < 0 {
			words = append(words, text)
			break
		}
		words = append(words, text[:end])
		text = strings.TrimPrefix(text[end:], `"`)
	}
	return words
}

// quotedWords makes words that may hold quotes of both kinds, and escapes where they
// mean something.
func quotedWords(text string, escapes bool) []string {
	var words []string
	var b strings.Builder
	inside, quote := false, byte(0)
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '\\' && i+1 < len(text):
			i++
			if !escapes {
				b.WriteByte('\\')
			}
			b.WriteByte(text[i])
			inside = true
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			b.WriteByte(c)
		case c == '"' || c == '\'':
			quote, inside = c, true
		case isBlank(c):
			if inside {
				words = append(words, b.String())
				b.Reset()
				inside = false
			}
		default:
			b.WriteByte(c)
			inside = true
		}
	}
	if inside {
		words = append(words, b.String())
	}
	return words
}
