package config

// Steps on files that belong to other programs.

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/tanist-ha/tanist/hooks"
)

// goodKey notes a path of keys, filled in, that names nothing.
func (v value) goodKey(at position, written, filled string) bool {
	if slices.ContainsFunc(hooks.SplitKey(filled), func(part string) bool { return strings.TrimSpace(part) != part || part == "" }) {
		v.d.problem(at, fmt.Sprintf("%s is not a path of keys", quote(written)), "join the keys with single dots: global.active")
		return false
	}
	return true
}

// maxJSONKeys bounds the keys of one json step.
const maxJSONKeys = 100

func (v value) jsonStep(purpose) hooks.Action {
	var j hooks.JSON
	good := v.object("a json step",
		need("file", func(v value) { j.File = v.templateFile() }),
		need("set", func(v value) { j.Set = v.jsonKeys() }),
	)
	if !good || j.File == "" || len(j.Set) == 0 {
		return nil
	}
	return j
}

func (v value) jsonKeys() []hooks.JSONKey {
	const hint = "write set: {\"a.b\": true}"
	list, ok := v.entries("a mapping of keys", hint)
	switch {
	case ok && len(list) == 0:
		v.problem("set names no key", hint)
	case len(list) > maxJSONKeys:
		v.problem(fmt.Sprintf("a json step sets at most %d keys", maxJSONKeys), "use several steps")
	}
	var set []hooks.JSONKey
	for _, e := range list {
		key := value{d: v.d, path: e.val.path, pos: e.pos}
		filled, ok := key.expandKey(e.key)
		ok = ok && key.goodKey(e.pos, e.key, filled)
		if s, fine := e.val.jsonValue(); ok && fine {
			s.Key = e.key
			set = append(set, s)
		}
	}
	if len(set) < len(list) {
		return nil
	}
	return set
}

// jsonValue takes a value as it is written: text is text, true, 5 and null are not.
func (v value) jsonValue() (hooks.JSONKey, bool) {
	if v.node == nil || v.node.Kind != yaml.ScalarNode {
		v.wrong("text, a number, true, false or null", "")
		return hooks.JSONKey{}, false
	}
	s := v.node.Value
	switch v.tag() {
	case "!!null":
		if s == "" {
			v.problem("the key "+quote(v.name())+" has no value", "give it one; null is written out")
			return hooks.JSONKey{}, false
		}
		return hooks.JSONKey{Value: "null"}, true
	case "!!bool":
		return hooks.JSONKey{Value: strings.ToLower(s)}, true
	case "!!int", "!!float":
		if !json.Valid([]byte(s)) {
			v.problem(fmt.Sprintf("JSON has no number %s", quote(s)), "write it in decimal digits, or put it in quotes to make it text")
			return hooks.JSONKey{}, false
		}
		return hooks.JSONKey{Value: s}, true
	}
	_, ok := v.expand(s)
	return hooks.JSONKey{Value: s, Text: true}, ok
}

func (v value) lineStep(purpose) hooks.Action {
	var l hooks.Line
	var ensure uint8
	good := v.object("a line step",
		need("file", func(v value) { l.File = v.templateFile() }),
		need("line", func(v value) { l.Line = v.oneLine() }),
		allow("ensure", func(v value) { oneOf(v, []string{"present", "absent"}, &ensure) }),
		allow("within", func(v value) { l.Within = v.blockLine() }),
		allow("after", func(v value) { l.After = v.oneLine() }),
	)
	if !good || l.File == "" || l.Line == "" {
		return nil
	}
	l.Absent = ensure == 1
	return l
}

// oneLine returns text that is one line of a file. It may be a template.
func (v value) oneLine() string {
	s, filled, ok := v.template()
	if ok && (strings.TrimSpace(filled) == "" || strings.ContainsAny(filled, "\r\n")) {
		v.problem(v.name()+" must be one line", "a step edits one line")
		return ""
	}
	return s
}

// blockLine returns the line that opens a block.
func (v value) blockLine() string {
	s, filled, ok := v.template()
	filled = strings.TrimSpace(filled)
	if ok && (strings.ContainsAny(filled, "\r\n") || !strings.HasSuffix(filled, "{") && !(strings.HasPrefix(filled, "[") && strings.HasSuffix(filled, "]"))) {
		v.problem(v.name()+" must be the line that opens the block", `write it as it stands in the file: "upstream x {" or "[section]"`)
		return ""
	}
	return s
}
