package step

// The yaml step: one key of a file that belongs to somebody else.

import (
	"bytes"

	"github.com/tanist-ha/tanist/hooks"
)

// NewYAML returns the step that sets one key of a YAML file. A file that cannot
// be edited without touching anything else is left alone: the error is then a
// *Refusal.
func NewYAML(a hooks.YAML) Step {
	return &fileEdit{
		file: a.File, what: "set " + a.Key,
		edit: func(old []byte) ([]byte, error) { return setValue(old, hooks.SplitKey(a.Key), a.Value) },
	}
}

// ReadYAML returns the scalar that a key of a YAML file has, as the file's own
// readers see it. key is a path as of hooks.YAML.Key.
func ReadYAML(file, key string) (string, error) {
	e := &fileEdit{file: file, what: "read " + key}
	src, err := e.read()
	if err != nil {
		return "", err
	}
	doc, err := parseDocument(bytes.TrimPrefix(src, bom))
	if err != nil {
		return "", e.explain(err)
	}
	n, err := locate(doc, hooks.SplitKey(key))
	if err != nil {
		return "", e.explain(err)
	}
	return n.Value, nil
}
