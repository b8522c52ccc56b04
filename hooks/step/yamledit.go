package step

// One value of a YAML document changes and no other byte does. The parser only
// says where the value stands; the bytes are spliced, both versions are parsed
// again, and the edit is refused unless they differ in that value alone.

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/tanist-ha/tanist/hooks"
)

var bom = []byte("\xef\xbb\xbf")

// setValue returns src with the scalar at path replaced by value, or src itself
// when it already reads so. The error is a *Refusal without file and key.
func setValue(src []byte, path []string, value string) ([]byte, error) {
	head := src[:len(src)-len(bytes.TrimPrefix(src, bom))] // readers of YAML skip it
	body := src[len(head):]
	doc, err := parseDocument(body)
	if err != nil {
		return nil, err
	}
	target, err := locate(doc, path)
	if err != nil {
		return nil, err
	}
	if target.Value == value {
		return src, nil
	}
	out, err := splice(body, target, value)
	if err != nil {
		return nil, err
	}
	return slices.Concat(head, out), verifyEdit(doc, out, target, value)
}

func parseDocument(src []byte) (*yaml.Node, error) {
	if !utf8.Valid(src) {
		return nil, refuse(ReasonEncoding, invalidLine(src), "")
	}
	if line := directive(src); line > 0 {
		return nil, refuse(ReasonDirective, line, "")
	}
	dec := yaml.NewDecoder(bytes.NewReader(src))
	var doc, second yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return &yaml.Node{Kind: yaml.DocumentNode}, nil
	case err != nil:
		return nil, syntaxRefusal(err, src)
	}
	switch err := dec.Decode(&second); {
	case errors.Is(err, io.EOF):
		return &doc, nil
	case err != nil:
		return nil, syntaxRefusal(err, src)
	}
	return nil, refuse(ReasonDocuments, second.Line, "")
}

// directive returns the line of the first directive, 0 for none. What a directive
// changes is not worth to know: it stands before the first document or between two.
func directive(src []byte) int {
	for i, line := range bytes.Split(src, []byte("\n")) {
		if bytes.HasPrefix(line, []byte("%")) {
			return i + 1
		}
		if text := bytes.TrimSpace(line); len(text) > 0 && text[0] != '#' {
			return 0
		}
	}
	return 0
}

func syntaxRefusal(err error, src []byte) *Refusal {
	// The parser gives no line for a character that YAML does not have at all.
	if at := bytes.IndexFunc(src, func(r rune) bool { return r < ' ' && !strings.ContainsRune("\t\n\r", r) || r == 0x7f }); at >= 0 {
		return refuse(ReasonSyntax, lineOf(src, at), "a control character")
	}
	if load := (*yaml.LoadError)(nil); errors.As(err, &load) {
		return refuse(ReasonSyntax, load.Mark.Line, "%s", load.Message)
	}
	return refuse(ReasonSyntax, 0, "%v", err)
}

func invalidLine(src []byte) int {
	line := 1
	for len(src) > 0 {
		r, n := utf8.DecodeRune(src)
		if r == utf8.RuneError && n == 1 {
			break
		}
		if r == '\n' {
			line++
		}
		src = src[n:]
	}
	return line
}

// locate follows path from the root and refuses a value that cannot be replaced
// by itself.
func locate(doc *yaml.Node, path []string) (*yaml.Node, error) {
	if len(doc.Content) == 0 {
		return nil, refuse(ReasonMissing, 0, "the file is empty")
	}
	n := doc.Content[0]
	if n.Kind == yaml.ScalarNode && n.Value == "" && n.Tag == "!!null" {
		return nil, refuse(ReasonMissing, 0, "the file is empty")
	}
	shared := aliased(doc, nil)
	line := n.Line
	for i, name := range path {
		switch {
		case n.Kind == yaml.AliasNode:
			return nil, refuse(ReasonAlias, n.Line, "*%s", n.Value)
		case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
			return nil, refuse(ReasonMissing, line, "%s", hooks.JoinKey(path[:i+1]...))
		case n.Kind != yaml.MappingNode:
			return nil, refuse(ReasonNotMapping, n.Line, "%s", hooks.JoinKey(path[:i]...))
		case slices.Contains(shared, n):
			return nil, refuse(ReasonShared, n.Line, "*%s", n.Anchor)
		}
		key, value, err := entry(n, name)
		if err != nil {
			return nil, err
		}
		if value == nil {
			return nil, refuse(ReasonMissing, n.Line, "%s", hooks.JoinKey(path[:i+1]...))
		}
		line, n = key.Line, value
	}
	return n, replaceable(n, line)
}

// aliased appends the nodes that some alias below n repeats.
func aliased(n *yaml.Node, to []*yaml.Node) []*yaml.Node {
	if n.Kind == yaml.AliasNode {
		return append(to, n.Alias)
	}
	for _, c := range n.Content {
		to = aliased(c, to)
	}
	return to
}

// entry finds name among the keys of a mapping; without one, value is nil.
func entry(m *yaml.Node, name string) (key, value *yaml.Node, err error) {
	merged := 0
	for i := 0; i+1 < len(m.Content); i += 2 {
		k := m.Content[i]
		if k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		if k.Kind != yaml.ScalarNode {
			continue
		}
		if k.Value == "<<" && providesKey(m.Content[i+1], name) {
			merged = m.Content[i].Line
		}
		if k.Value != name {
			continue
		}
		if value != nil {
			return nil, nil, refuse(ReasonDuplicate, m.Content[i].Line, "first on line %d", key.Line)
		}
		key, value = m.Content[i], m.Content[i+1]
	}
	if value == nil && merged > 0 {
		return nil, nil, refuse(ReasonMerge, merged, "<<")
	}
	return key, value, nil
}

// providesKey reports whether merging n would bring in the key name.
func providesKey(n *yaml.Node, name string) bool {
	switch n.Kind {
	case yaml.AliasNode:
		return n.Alias.Kind != yaml.AliasNode && providesKey(n.Alias, name)
	case yaml.SequenceNode:
		return slices.ContainsFunc(n.Content, func(c *yaml.Node) bool {
			return c.Kind != yaml.SequenceNode && providesKey(c, name)
		})
	case yaml.MappingNode:
		for i := 0; i < len(n.Content); i += 2 {
			if n.Content[i].Value == name || n.Content[i].Value == "<<" {
				return true
			}
		}
	}
	return false
}

func replaceable(n *yaml.Node, keyLine int) error {
	switch {
	case n.Kind == yaml.AliasNode:
		return refuse(ReasonAlias, n.Line, "*%s", n.Value)
	case n.Anchor != "":
		return refuse(ReasonAnchor, n.Line, "&%s", n.Anchor)
	case n.Style&yaml.TaggedStyle != 0:
		return refuse(ReasonTag, n.Line, "%s", n.Tag)
	case n.Kind != yaml.ScalarNode:
		return refuse(ReasonNotScalar, n.Line, "")
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return refuse(ReasonBlock, n.Line, "")
	case n.Value == "" && n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) == 0:
		return refuse(ReasonEmpty, keyLine, "")
	}
	return nil
}

// splice replaces the bytes of one scalar.
func splice(src []byte, n *yaml.Node, value string) ([]byte, error) {
	at, ok := offset(src, n.Line, n.Column)
	if !ok {
		return nil, refuse(ReasonUnverified, n.Line, "column %d is outside the line", n.Column)
	}
	if bytes.HasPrefix(src[at:], []byte("!")) {
		return nil, refuse(ReasonTag, n.Line, "!")
	}
	length := scalarLength(src[at:], n)
	if length < 0 {
		return nil, refuse(ReasonMultiline, n.Line, "")
	}
	text, ok := encodeScalar(n, value)
	if !ok {
		return nil, refuse(ReasonValue, n.Line, "not UTF-8")
	}
	return slices.Concat(src[:at], []byte(text), src[at+length:]), nil
}

// offset is the byte at which a line and column of the parser stand. The parser
// ends lines at CR, LF, CRLF, NEL, LS and PS, and counts columns in characters.
func offset(src []byte, line, column int) (int, bool) {
	at := 0
	for l := 1; l < line; {
		if at >= len(src) {
			return 0, false
		}
		r, n := utf8.DecodeRune(src[at:])
		at += n
		switch {
		case r == '\r' && at < len(src) && src[at] == '\n':
		case lineBreak(r):
			l++
		}
	}
	for c := 1; c < column; c++ {
		if at >= len(src) {
			return 0, false
		}
		r, n := utf8.DecodeRune(src[at:])
		if lineBreak(r) {
			return 0, false
		}
		at += n
	}
	return at, true
}

func lineBreak(r rune) bool {
	return r == '\n' || r == '\r' || r == 0x85 || r == 0x2028 || r == 0x2029
}

// scalarLength is the number of bytes that a one-line scalar takes at the start
// of src, quotes included, or -1 when it spans lines.
func scalarLength(src []byte, n *yaml.Node) int {
	switch {
	case n.Style&yaml.SingleQuotedStyle != 0:
		return quotedLength(src, '\'')
	case n.Style&yaml.DoubleQuotedStyle != 0:
		return quotedLength(src, '"')
	case bytes.HasPrefix(src, []byte(n.Value)) && !strings.ContainsFunc(n.Value, lineBreak):
		return len(n.Value)
	}
	return -1
}

func quotedLength(src []byte, quote rune) int {
	if len(src) == 0 || rune(src[0]) != quote {
		return -1
	}
	for at := 1; at < len(src); {
		r, n := utf8.DecodeRune(src[at:])
		at += n
		switch {
		case lineBreak(r):
			return -1
		case quote == '"' && r == '\\':
			if at < len(src) && !lineBreak(rune(src[at])) {
				at++
			}
		case r == quote && quote == '\'' && at < len(src) && src[at] == '\'':
			at++
		case r == quote:
			return at
		}
	}
	return -1
}

// verifyEdit parses the edited bytes and compares the trees.
func verifyEdit(before *yaml.Node, out []byte, target *yaml.Node, value string) error {
	after, err := parseDocument(out)
	if err != nil {
		return refuse(ReasonUnverified, target.Line, "%v", err)
	}
	c := comparison{target: target, value: value}
	if line := c.differ(before, after); line != 0 || !c.met {
		return refuse(ReasonUnverified, max(line, target.Line), "")
	}
	return nil
}

type comparison struct {
	target *yaml.Node
	value  string
	met    bool // the target was reached and reads as it should
}

// differ returns the line of the first node that differs, 0 for none.
func (c *comparison) differ(a, b *yaml.Node) int {
	const quotes = yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle
	line := max(a.Line, 1)
	if a.Kind != b.Kind || a.Line != b.Line || a.Anchor != b.Anchor || len(a.Content) != len(b.Content) ||
		a.HeadComment != b.HeadComment || a.LineComment != b.LineComment || a.FootComment != b.FootComment {
		return line
	}
	if a == c.target {
		c.met = b.Value == c.value && a.Style&^quotes == b.Style&^quotes
		if !c.met {
			return line
		}
		return 0
	}
	moved := a.Column != b.Column && (a.Line != c.target.Line || a.Column < c.target.Column)
	if a.Tag != b.Tag || a.Value != b.Value || a.Style != b.Style || moved {
		return line
	}
	for i := range a.Content {
		if l := c.differ(a.Content[i], b.Content[i]); l != 0 {
			return l
		}
	}
	return 0
}
