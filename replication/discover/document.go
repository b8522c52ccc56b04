package discover

// A file's content, as a tree in which only scalars are read: both formats give
// them as they are written, so that 007 stays 007.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

type valueKind uint8

const (
	noValue valueKind = iota // absent
	nullValue
	textValue
	numberValue
	boolValue
	otherValue // a list, a mapping, a date
)

// value is what a field holds.
type value struct {
	kind valueKind
	text string // of text, a number or a truth value, as written
}

func (v value) scalar() bool {
	return v.kind == textValue || v.kind == numberValue || v.kind == boolValue
}

// wrong says what stands where something else is wanted.
func (v value) wrong(want string) string {
	switch v.kind {
	case noValue:
		return "is missing"
	case nullValue:
		return "is null, not " + want
	case textValue:
		return "is empty text, not " + want
	case boolValue:
		return "is true or false, not " + want
	case numberValue, otherValue:
	}
	return "is not " + want
}

// document is the content of a file.
type document interface{ at(p Path) value }

func parse(f Format, content []byte) (document, error) {
	content = bytes.TrimPrefix(content, []byte("\ufeff"))
	if len(bytes.TrimSpace(content)) == 0 {
		return nil, errors.New("is empty")
	}
	if !utf8.Valid(content) {
		return nil, errors.New("is not UTF-8")
	}
	switch f {
	case JSON:
		return parseJSON(content)
	case YAML:
		return parseYAML(content)
	case ByExtension:
	}
	return nil, errors.New("does not tell by its extension how it is written: add format")
}

type jsonDocument struct{ root any }

func parseJSON(content []byte) (document, error) {
	dec := json.NewDecoder(bytes.NewReader(content))
	dec.UseNumber()
	var d jsonDocument
	err := dec.Decode(&d.root)
	if err == nil {
		if _, err = dec.Token(); errors.Is(err, io.EOF) {
			return d, nil
		}
		return nil, fmt.Errorf("has something after the end of its JSON (line %d)", lineAt(content, dec.InputOffset()))
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, errors.New("ends in the middle of its JSON")
	}
	at := dec.InputOffset()
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		at = e.Offset
	}
	return nil, fmt.Errorf("is not valid JSON (line %d)", lineAt(content, at))
}

func lineAt(content []byte, offset int64) int {
	return 1 + bytes.Count(content[:min(max(int(offset), 0), len(content))], []byte("\n"))
}

func (d jsonDocument) at(p Path) value {
	v := d.root
	for _, part := range p {
		switch in := v.(type) {
		case map[string]any:
			child, ok := in[part]
			if !ok {
				return value{}
			}
			v = child
		case []any:
			i, ok := index(part, len(in))
			if !ok {
				return value{}
			}
			v = in[i]
		default:
			return value{}
		}
	}
	switch v := v.(type) {
	case nil:
		return value{kind: nullValue}
	case string:
		return value{textValue, v}
	case json.Number:
		return value{numberValue, v.String()}
	case bool:
		return value{boolValue, strconv.FormatBool(v)}
	}
	return value{kind: otherValue}
}

type yamlDocument struct{ root *yaml.Node }

func parseYAML(content []byte) (d document, err error) {
	// The parser is not ours; what it panics on is no file of databases.
	defer func() {
		if recover() != nil {
			d, err = nil, errors.New("is not valid YAML")
		}
	}()
	loader, err := yaml.NewLoader(bytes.NewReader(content))
	if err != nil {
		return nil, errors.New("is not valid YAML")
	}
	var root *yaml.Node
	for {
		var doc yaml.Node
		switch err := loader.Load(&doc); {
		case errors.Is(err, io.EOF) && root == nil:
			return nil, errors.New("is empty")
		case errors.Is(err, io.EOF):
			return yamlDocument{root}, nil
		case err != nil:
			if e, ok := errors.AsType[*yaml.LoadError](err); ok && e.Mark.Line > 0 {
				return nil, fmt.Errorf("is not valid YAML (line %d)", e.Mark.Line)
			}
			return nil, errors.New("is not valid YAML")
		case len(doc.Content) == 0:
		case root != nil:
			return nil, errors.New("has more than one document")
		default:
			root = doc.Content[0]
		}
	}
}

// at follows aliases; a path ends, so a tree that holds itself does no harm.
func (d yamlDocument) at(p Path) value {
	n := behind(d.root)
	for _, part := range p {
		var child *yaml.Node
		switch n.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				if k := n.Content[i]; k.Kind == yaml.ScalarNode && k.Value == part {
					child = n.Content[i+1]
				}
			}
		case yaml.SequenceNode:
			if i, ok := index(part, len(n.Content)); ok {
				child = n.Content[i]
			}
		case yaml.DocumentNode, yaml.ScalarNode, yaml.AliasNode, yaml.StreamNode:
		}
		if child == nil {
			return value{}
		}
		n = behind(child)
	}
	if n.Kind != yaml.ScalarNode {
		return value{kind: otherValue}
	}
	switch n.ShortTag() {
	case "!!null":
		return value{kind: nullValue}
	case "!!str":
		return value{textValue, n.Value}
	case "!!int", "!!float":
		return value{numberValue, n.Value}
	case "!!bool":
		return value{boolValue, n.Value}
	}
	return value{kind: otherValue}
}

// behind is what an alias stands for.
func behind(n *yaml.Node) *yaml.Node {
	for range maxPathParts {
		if n.Kind != yaml.AliasNode || n.Alias == nil {
			return n
		}
		n = n.Alias
	}
	return n
}

func index(part string, length int) (int, bool) {
	i, err := strconv.ParseUint(part, 10, 31)
	return int(i), err == nil && int(i) < length
}
