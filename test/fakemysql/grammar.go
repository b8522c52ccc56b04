package fakemysql

// A statement is read token by token, as a server does: what the release's
// grammar does not have is error 1064.

import (
	"slices"
	"strings"
)

type token struct {
	text   string
	quoted bool // a string literal
}

type parser struct {
	tokens []token
	at     int
}

// scan cuts a statement into words, numbers, strings and signs. Variables keep
// their @@ and dots.
func scan(statement string) *parser {
	p := &parser{}
	for i := 0; i < len(statement); {
		switch c := statement[i]; {
		case c == ' ' || c == '\n' || c == '\t' || c == ';':
			i++
		case c == '\'' || c == '"':
			text, n := scanString(statement[i:])
			p.tokens = append(p.tokens, token{text, true})
			i += n
		case isWord(c):
			n := i
			for n < len(statement) && isWord(statement[n]) {
				n++
			}
			p.tokens = append(p.tokens, token{statement[i:n], false})
			i = n
		default:
			p.tokens = append(p.tokens, token{string(c), false})
			i++
		}
	}
	return p
}

func isWord(c byte) bool {
	return c == '@' || c == '.' || c == '_' || c == '`' ||
		'0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// scanString reads a literal under the empty sql_mode.
func scanString(s string) (text string, length int) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(map[byte]byte{'0': 0, 'n': '\n', 't': '\t'}[s[i]] | zeroUnless(s[i]))
		case s[i] == s[0] && i+1 < len(s) && s[i+1] == s[0]:
			i++
			b.WriteByte(s[i])
		case s[i] == s[0]:
			return b.String(), i + 1
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), len(s)
}

// zeroUnless is c but for the letters that mean something else.
func zeroUnless(c byte) byte {
	if strings.IndexByte("0nt", c) >= 0 {
		return 0
	}
	return c
}

// take consumes the words if they come next, in any case.
func (p *parser) take(words ...string) bool {
	if len(p.tokens)-p.at < len(words) {
		return false
	}
	for i, w := range words {
		if t := p.tokens[p.at+i]; t.quoted || !strings.EqualFold(t.text, w) {
			return false
		}
	}
	p.at += len(words)
	return true
}

// one consumes one of the words and returns it.
func (p *parser) one(words ...string) (string, bool) {
	for _, w := range words {
		if p.take(w) {
			return w, true
		}
	}
	return "", false
}

// text consumes a string literal.
func (p *parser) text() (string, bool) {
	if p.done() || !p.tokens[p.at].quoted {
		return "", false
	}
	p.at++
	return p.tokens[p.at-1].text, true
}

// word consumes any one token that is no literal.
func (p *parser) word() string {
	if p.done() || p.tokens[p.at].quoted {
		return ""
	}
	p.at++
	return p.tokens[p.at-1].text
}

func (p *parser) done() bool { return p.at >= len(p.tokens) }

// has reports whether a word comes later.
func (p *parser) has(word string) bool {
	return slices.ContainsFunc(p.tokens[p.at:], func(t token) bool { return !t.quoted && strings.EqualFold(t.text, word) })
}

func syntaxError(statement string) *fault {
	return faultf(1064, "42000", "You have an error in your SQL syntax; check the manual that corresponds to your server version near '%s'",
		statement)
}
