package config

import (
	_ "embed"
	"slices"
)

//go:embed schema.json
var schema []byte

// Schema is the JSON Schema (draft 2020-12) of the file, for editors. It
// describes every key, those this release does not do yet included; Parse is
// stricter.
func Schema() []byte { return slices.Clone(schema) }
