package step

// The yaml step: one key of a file that belongs to somebody else.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/tanist-ha/tanist/hooks"
)

type yamlKey struct{ action hooks.YAML }

// NewYAML returns the step that sets one key of a YAML file. A file that cannot
// be edited without touching anything else is left alone: the error is then a
// *Refusal.
func NewYAML(a hooks.YAML) Step { return yamlKey{a} }

func (y yamlKey) Check(ctx context.Context) (State, error) {
	if err := ctx.Err(); err != nil {
		return cannot(y.explain(err))
	}
	path, err := filepath.EvalSymlinks(y.action.File)
	if err != nil {
		return cannot(y.explain(err))
	}
	f, st, old, err := readRegular(path)
	if err != nil {
		return cannot(y.explain(err))
	}
	defer f.Close()
	data, err := y.edit(old)
	switch {
	case err != nil:
		return cannot(y.explain(err))
	case bytes.Equal(old, data):
		return Ok, nil
	case st.Nlink > 1:
		return cannot(y.explain(refuse(ReasonHardLinked, 0, "%d", st.Nlink)))
	}
	return WouldChange, nil
}

func (y yamlKey) Apply(ctx context.Context) error {
	return y.explain(replace(ctx, y.action.File, y.edit))
}

func (y yamlKey) edit(old []byte) ([]byte, error) {
	return setValue(old, strings.Split(y.action.Key, "."), y.action.Value)
}

// explain adds the file and the key.
func (y yamlKey) explain(err error) error {
	if err == nil {
		return nil
	}
	if r := (*Refusal)(nil); errors.As(err, &r) {
		full := *r
		full.File, full.Key = y.action.File, y.action.Key
		return &full
	}
	return fmt.Errorf("set %s in %s: %w", y.action.Key, y.action.File, err)
}

// ReadYAML returns the scalar that a key of a YAML file has, as the file's own
// readers see it. key is a path of mapping keys joined by dots.
func ReadYAML(file, key string) (string, error) {
	y := yamlKey{hooks.YAML{File: file, Key: key}}
	path, err := filepath.EvalSymlinks(file)
	if err != nil {
		return "", fmt.Errorf("read %s of %s: %w", key, file, err)
	}
	f, _, src, err := readRegular(path)
	if err != nil {
		return "", fmt.Errorf("read %s of %s: %w", key, file, err)
	}
	defer f.Close()
	doc, err := parseDocument(src)
	if err != nil {
		return "", y.explain(err)
	}
	n, err := locate(doc, strings.Split(key, "."))
	if err != nil {
		return "", y.explain(err)
	}
	return n.Value, nil
}
