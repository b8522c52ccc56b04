package config

// A value is a place in the syntax tree that knows its path. Reading one never
// stops at a mistake: it is noted, and what can be read is read, so that no
// mistake hides another.

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"
)

// decoder collects what reading finds.
type decoder struct {
	src      *source
	problems Problems
	dropped  int // problems beyond maxProblems
	notices  Problems
	// positions are the places of values by path: instances[0].vrid.
	positions map[string]position
	// priorities are read last: their keys are the labels of the nodes.
	priorities map[string]value
	// shapes are the keys each mapping may have, by its path.
	shapes map[string][]string
}

func newDecoder(src *source) *decoder {
	return &decoder{src: src, positions: map[string]position{}, priorities: map[string]value{}, shapes: map[string][]string{}}
}

type value struct {
	d    *decoder
	node *yaml.Node // nil where nothing can be read
	path string
	pos  position
}

// value wraps a node. YAML's indirections are refused, and looked through
// where something stands behind them.
func (d *decoder) value(n *yaml.Node, path string) value {
	v := value{d: d, node: n, path: path, pos: start(n)}
	d.positions[path] = v.pos
	if n.Anchor != "" {
		v.problem("anchors have no meaning in this file", "remove the anchor and write the value out wherever it is used")
	}
	switch {
	case n.Kind == yaml.AliasNode:
		v.problem("aliases have no meaning in this file", "write the value out")
		v.node = nil
	case n.Style&yaml.TaggedStyle != 0 || n.Tag == "!":
		v.problem("tags have no meaning in this file", "remove the tag")
	}
	return v
}

func start(n *yaml.Node) position { return position{n.Line, n.Column} }

// maxProblems bounds what is collected of one file.
const maxProblems = 100

func (d *decoder) add(p Problem) {
	if len(d.problems) == maxProblems {
		d.dropped++
		return
	}
	d.problems = append(d.problems, p)
}

func (d *decoder) problem(at position, message, hint string) {
	d.add(d.src.problem(at, message, hint))
}

func (d *decoder) notice(path, message, hint string) {
	d.notices = append(d.notices, d.src.problem(d.at(path), message, hint))
}

// at is the place of a path, or of the nearest thing around it.
func (d *decoder) at(path string) position { return locate(d.positions, path) }

// locate finds the place of a path, or of the nearest thing around it.
func locate(positions map[string]position, path string) position {
	for path != "" {
		if p, ok := positions[path]; ok && p.line > 0 {
			return p
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return positions[""]
}

func (v value) problem(message, hint string) { v.d.problem(v.pos, message, hint) }

// name is the last part of the path, for messages: vrid, vips[0].
func (v value) name() string {
	if v.path == "" {
		return "the file"
	}
	return v.path[strings.LastIndexByte(v.path, '.')+1:]
}

// child is the path of a key inside v.
func (v value) child(key string) string {
	if v.path == "" {
		return key
	}
	return v.path + "." + key
}

// kind says what stands here, for messages.
func (v value) kind() string {
	switch {
	case v.node == nil:
		return "empty"
	case v.node.Kind == yaml.MappingNode:
		return "a mapping"
	case v.node.Kind == yaml.SequenceNode:
		return "a list"
	}
	switch v.tag() {
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	case "!!null":
		return "empty"
	}
	return "text"
}

// tag is the type of a scalar, as YAML 1.2 resolves it.
func (v value) tag() string {
	if v.node == nil || v.node.Kind != yaml.ScalarNode {
		return ""
	}
	return v.node.ShortTag()
}

// wrong notes a value of another type than wanted. What is behind a refused
// alias is not known, and was reported.
func (v value) wrong(want, hint string) {
	if v.node == nil {
		return
	}
	if v.node.Kind == yaml.MappingNode && v.d.src.has(v.pos, "{{") {
		hint = `put a template in quotes: "{{.Active}}"`
	}
	v.problem(fmt.Sprintf("%s must be %s, not %s", v.name(), want, v.kind()), hint)
}

// field is one key that a mapping may have.
type field struct {
	name     string
	required bool
	read     func(value)
}

func need(name string, read func(value)) field  { return field{name, true, read} }
func allow(name string, read func(value)) field { return field{name, false, read} }

// entry is one key of a mapping as it stands.
type entry struct {
	key string
	pos position // of the key
	val value
}

// entries returns the keys of a mapping in their order. Of keys that come twice
// all are returned, and the later ones noted.
func (v value) entries(want, hint string) ([]entry, bool) {
	if v.node == nil || v.node.Kind != yaml.MappingNode {
		v.wrong(want, hint)
		return nil, false
	}
	first := map[string]int{}
	var list []entry
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		k := v.node.Content[i]
		if k.Kind != yaml.ScalarNode || k.ShortTag() == "!!merge" {
			v.d.problem(start(k), "only plain text can be a key in this file", "write the keys out one by one")
			continue
		}
		if line, again := first[k.Value]; again {
			v.d.problem(start(k), fmt.Sprintf("the key %s stands twice", quote(k.Value)), fmt.Sprintf("first on line %d: keep one", line))
		} else {
			first[k.Value] = k.Line
		}
		list = append(list, entry{k.Value, start(k), v.d.value(v.node.Content[i+1], v.child(k.Value))})
	}
	return list, true
}

// object reads a mapping with known keys. What is it called in messages: `an
// instance`. It reports whether v is a mapping.
func (v value) object(what string, fields ...field) bool {
	hint := "write " + v.name() + ": {" + fields[0].name + ": …}"
	if v.path == "" {
		hint = "begin with " + fields[0].name + ": …"
	}
	list, ok := v.entries("a mapping", hint)
	if !ok {
		return false
	}
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	v.d.shapes[v.path] = names
	seen := map[string]bool{}
	for _, e := range list {
		seen[e.key] = true
		f, known := find(fields, e.key)
		switch {
		case !known:
			v.d.problem(e.pos, fmt.Sprintf("%s has no key %s", what, quote(e.key)), remedy(e.key, names))
			seen[nearest(e.key, names)] = true // it was meant: do not miss it as well
		case e.val.missing():
			v.d.problem(e.pos, fmt.Sprintf("the key %s has no value", quote(e.key)), "give it one, or remove the line for its default")
		default:
			f.read(e.val)
		}
	}
	for _, f := range fields {
		if f.required && !seen[f.name] {
			v.problem(fmt.Sprintf("%s lacks the key %q", what, f.name), "add "+f.name+": …")
		}
	}
	return true
}

func find(fields []field, name string) (field, bool) {
	for _, f := range fields {
		if f.name == name {
			return f, true
		}
	}
	return field{}, false
}

// missing reports a key without a value, or with an explicit null.
func (v value) missing() bool { return v.tag() == "!!null" }

// list returns the elements of a sequence. One that is empty is noted, and then
// read in silence, so that indices stay those of the file.
func (v value) list(hint string) ([]value, bool) {
	if v.node == nil || v.node.Kind != yaml.SequenceNode {
		v.wrong("a list", hint)
		return nil, false
	}
	var elements []value
	for i, e := range v.node.Content {
		el := v.d.value(e, fmt.Sprintf("%s[%d]", v.path, i))
		if el.missing() {
			el.problem(fmt.Sprintf("%s is empty", el.name()), "fill it in or remove it")
			el.node = nil
		}
		elements = append(elements, el)
	}
	return elements, true
}
