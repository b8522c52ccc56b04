package step

// The json step: keys of a file that belongs to somebody else, all in one write.

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tanist-ha/tanist/hooks"
)

// NewJSON returns the step that sets keys of a JSON file. Every byte but those of
// the values stays; a key that is missing from an object that is there is added. A
// file that cannot be edited so is left alone: the error is then a *Refusal.
func NewJSON(a hooks.JSON) Step {
	keys := make([]string, len(a.Set))
	for i, s := range a.Set {
		keys[i] = s.Key
	}
	return &fileEdit{
		file: a.File, what: "set " + strings.Join(keys, ", "),
		edit: func(old []byte) ([]byte, error) { return setJSON(old, a.Set) },
	}
}

// ReadJSON returns the value that a key of a JSON file has: text without its quotes,
// anything else as it is written.
func ReadJSON(file, key string) (string, error) {
	e := &fileEdit{file: file, what: "read " + key}
	src, err := e.read()
	if err != nil {
		return "", err
	}
	src = bytes.TrimPrefix(src, bom)
	root, err := scanJSON(src)
	if err != nil {
		return "", e.explain(err)
	}
	m, err := locateJSON(src, root, hooks.SplitKey(key))
	switch {
	case err != nil:
		return "", e.explain(err)
	case m.value == nil:
		return "", e.explain(refuse(ReasonMissing, lineOf(src, m.parent.start), "%s", key))
	case m.value.kind == jsonString:
		return m.value.text, nil
	}
	return m.value.raw, nil
}

// setJSON returns src with every key set. The error is a *Refusal.
func setJSON(src []byte, set []hooks.JSONKey) ([]byte, error) {
	if err := distinct(set); err != nil {
		return nil, err
	}
	head := src[:len(src)-len(bytes.TrimPrefix(src, bom))]
	out := src[len(head):]
	for _, s := range set {
		var err error
		if out, err = setOne(out, s); err != nil {
			return nil, err
		}
	}
	if err := verifyJSON(src[len(head):], out, set); err != nil {
		return nil, err
	}
	return slices.Concat(head, out), nil
}

// distinct refuses paths of which one is, or leads through, another: templates may
// have made them so.
func distinct(set []hooks.JSONKey) error {
	paths := make([][]string, len(set))
	for i, s := range set {
		paths[i] = hooks.SplitKey(s.Key)
		for j, p := range paths[:i] {
			if n := min(len(p), len(paths[i])); slices.Equal(p[:n], paths[i][:n]) {
				return refuse(ReasonOverlap, 0, "%s and %s", set[j].Key, s.Key)
			}
		}
	}
	return nil
}

func setOne(src []byte, s hooks.JSONKey) ([]byte, error) {
	value, err := encodeJSON(s)
	if err != nil {
		return nil, err
	}
	root, err := scanJSON(src)
	if err != nil {
		return nil, err
	}
	path := hooks.SplitKey(s.Key)
	m, err := locateJSON(src, root, path)
	switch {
	case err != nil:
		return nil, err
	case m.value == nil:
		return addMember(src, root, m.parent, path[len(path)-1], value)
	case m.value.kind == jsonObject || m.value.kind == jsonArray:
		return nil, refuse(ReasonNotScalar, lineOf(src, m.value.start), "%s is %s", s.Key, m.value.kind)
	case s.Text && m.value.kind == jsonString && m.value.text == s.Value, !s.Text && m.value.raw == value:
		return src, nil
	}
	return slices.Concat(src[:m.value.start], []byte(value), src[m.value.end:]), nil
}

// encodeJSON writes a value as JSON has it.
func encodeJSON(s hooks.JSONKey) (string, error) {
	if !s.Text {
		if v, err := scanJSON([]byte(s.Value)); err != nil || v.raw != s.Value || v.kind == jsonObject || v.kind == jsonArray {
			return "", refuse(ReasonValue, 0, "%s is no JSON value", s.Value)
		}
		return s.Value, nil
	}
	if !utf8.ValidString(s.Value) {
		return "", refuse(ReasonValue, 0, "not UTF-8")
	}
	return quoteJSON(s.Value), nil
}

// quoteJSON leaves <, > and & as they are: nothing here is embedded in HTML.
func quoteJSON(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic(fmt.Sprintf("encode a string as JSON: %v", err)) // no string does that
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// member is where a key stands or belongs.
type member struct {
	parent *jsonNode
	value  *jsonNode // nil: parent has no such key
}

// locateJSON follows path from the root. Only its last key may be missing.
func locateJSON(src []byte, n *jsonNode, path []string) (member, error) {
	for i, name := range path {
		if n.kind != jsonObject {
			return member{}, refuse(ReasonNotMapping, lineOf(src, n.start), "%s is %s", cmp.Or(hooks.JoinKey(path[:i]...), "the file"), n.kind)
		}
		var found *jsonMember
		for k := range n.members {
			if n.members[k].name != name {
				continue
			}
			if found != nil {
				return member{}, refuse(ReasonDuplicate, lineOf(src, n.members[k].start), "%s, first on line %d", hooks.JoinKey(path[:i+1]...), lineOf(src, found.start))
			}
			found = &n.members[k]
		}
		switch {
		case i == len(path)-1 && found == nil:
			return member{parent: n}, nil
		case i == len(path)-1:
			return member{n, found.value}, nil
		case found == nil:
			return member{}, refuse(ReasonMissing, lineOf(src, n.start), "%s", hooks.JoinKey(path[:i+1]...))
		}
		n = found.value
	}
	return member{}, refuse(ReasonMissing, 0, "no key is named")
}

// addMember puts a key behind the last one of an object, spaced as that one is.
func addMember(src []byte, root, object *jsonNode, name, value string) ([]byte, error) {
	if !utf8.ValidString(name) {
		return nil, refuse(ReasonValue, lineOf(src, object.start), "the key is not UTF-8")
	}
	key := quoteJSON(name)
	if len(object.members) == 0 {
		colon := ": "
		if len(root.members) > 0 {
			colon = root.members[0].colon(src)
		}
		return slices.Concat(src[:object.start+1], []byte(key+colon+value), src[object.start+1:]), nil
	}
	last := object.members[len(object.members)-1]
	before := object.start + 1 // what stands before the last key: the brace or a comma, and blanks
	if n := len(object.members); n > 1 {
		before = object.members[n-2].value.end
		before += bytes.IndexByte(src[before:], ',') + 1
	}
	space := src[before:last.start]
	if object.members[0].start == last.start && !bytes.ContainsRune(space, '\n') && len(bytes.TrimSpace(src[last.value.end:object.end-1])) == 0 {
		space = []byte(" ") // { "a": 1} and {"a": 1}: blanks inside the brace say nothing of those behind a comma
		if last.colon(src) == ":" {
			space = nil
		}
	}
	at := last.value.end
	return slices.Concat(src[:at], []byte(","), space, []byte(key+last.colon(src)+value), src[at:]), nil
}

// verifyJSON has another parser read both versions: they differ in the values of set
// alone.
func verifyJSON(before, after []byte, set []hooks.JSONKey) error {
	want, err := decodeJSON(before)
	if err != nil {
		return refuse(ReasonUnverified, 0, "%v", err)
	}
	for _, s := range set {
		put(want, hooks.SplitKey(s.Key), s)
	}
	got, err := decodeJSON(after)
	if err != nil {
		return refuse(ReasonUnverified, 0, "%v", err)
	}
	if !same(want, got) {
		return refuse(ReasonUnverified, 0, "")
	}
	return nil
}

// object is a JSON object with its order and its keys that come twice.
type object struct {
	keys   []string
	values []any
}

func decodeJSON(src []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(src))
	d.UseNumber()
	v, err := decodeValue(d)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the value")
	}
	return v, nil
}

func decodeValue(d *json.Decoder) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('{'):
		o := &object{}
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return nil, err
			}
			v, err := decodeValue(d)
			if err != nil {
				return nil, err
			}
			o.keys, o.values = append(o.keys, fmt.Sprint(key)), append(o.values, v)
		}
		_, err := d.Token()
		return o, err
	case json.Delim('['):
		list := []any{}
		for d.More() {
			v, err := decodeValue(d)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := d.Token()
		return list, err
	}
	return t, nil
}

// put sets what an edit should have set. A path that leads nowhere is left out and
// found by the comparison.
func put(v any, path []string, s hooks.JSONKey) {
	o, ok := v.(*object)
	if !ok {
		return
	}
	at := slices.Index(o.keys, path[0])
	if len(path) > 1 {
		if at >= 0 {
			put(o.values[at], path[1:], s)
		}
		return
	}
	if at < 0 {
		at, o.keys, o.values = len(o.keys), append(o.keys, path[0]), append(o.values, nil)
	}
	o.values[at] = s.Value
	if !s.Text {
		if v, err := decodeJSON([]byte(s.Value)); err == nil {
			o.values[at] = v
		}
	}
}

func same(a, b any) bool {
	switch a := a.(type) {
	case *object:
		b, ok := b.(*object)
		return ok && slices.Equal(a.keys, b.keys) && slices.EqualFunc(a.values, b.values, same)
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, same)
	}
	return a == b
}
