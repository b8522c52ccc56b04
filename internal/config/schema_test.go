package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
)

func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("tanist.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("tanist.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// instance is a YAML file as the validator wants it, or ok false.
func instanceOf(t *testing.T, file string) (any, bool) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := yaml.Unmarshal(bytes.TrimPrefix(data, []byte("\ufeff")), &v); err != nil {
		return nil, false
	}
	text, err := json.Marshal(v)
	if err != nil {
		return nil, false
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return doc, true
}

func TestSchemaAccepts(t *testing.T) {
	s := compiled(t)
	for _, file := range append(samples(t, "good"), filepath.Join("testdata", "contract.yaml")) {
		doc, ok := instanceOf(t, file)
		if !ok {
			t.Fatalf("%s is no YAML", file)
		}
		if err := s.Validate(doc); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// The schema refuses every bad sample but those whose mistake only a comparison
// of several values, or of the text, shows.
func TestSchemaRefuses(t *testing.T) {
	s := compiled(t)
	beyond := strings.Fields(`address-count advert-high advert-low advert-step advert-v2 advert-v2-low advert-zero anchors
		database-socket-long demote-order fence-required-alone http-address http-peer-port http-virtual duplicate-instance duplicate-vip duplicate-vrid hostnames
		hostnames-same lease-and-interval lease-default-and-interval lease-fraction lease-short lease-zero
		heartbeat-family priority-owners same-address step-names templates two-documents vrid-forms`)
	for _, file := range samples(t, "bad") {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		doc, ok := instanceOf(t, file)
		if !ok {
			continue
		}
		err := s.Validate(doc)
		if refused := err != nil; refused == slices.Contains(beyond, name) {
			t.Errorf("%s: refused %v", name, refused)
		}
	}
}

// The keys the schema knows are those the decoder reads, at every place.
func TestSchemaKeys(t *testing.T) {
	var root map[string]any
	if err := json.Unmarshal(Schema(), &root); err != nil {
		t.Fatal(err)
	}
	read := map[string][]string{}
	files := append(samples(t, "good"), samples(t, "bad")...)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text, src, problem := normalise(file, data)
		if problem != nil {
			continue
		}
		node, problem := tree(text, src)
		if problem != nil {
			continue
		}
		d := newDecoder(src)
		d.file(d.value(node, ""))
		for path, keys := range d.shapes {
			path = regexp.MustCompile(`\[\d+\]`).ReplaceAllString(path, "[]")
			path = regexp.MustCompile(`^nodes\..*`).ReplaceAllString(path, "nodes.*")
			read[path] = keys
		}
	}
	seen := map[string]bool{}
	for path, keys := range read {
		props := properties(t, root, path, seen)
		slices.Sort(keys)
		if diff := cmp.Diff(props, keys); diff != "" {
			t.Errorf("%q (-schema +decoder):\n%s", path, diff)
		}
	}
	for name, def := range root["$defs"].(map[string]any) {
		if _, object := def.(map[string]any)["properties"]; object && !seen[name] {
			t.Errorf("no sample reaches the definition %s", name)
		}
	}
}

// properties lists the keys of the schema at a path like instances[].gate.
func properties(t *testing.T, root map[string]any, path string, seen map[string]bool) []string {
	t.Helper()
	at := root
	resolve := func() {
		for {
			if branches, ok := at["anyOf"].([]any); ok {
				at = branches[len(branches)-1].(map[string]any)
				continue
			}
			ref, ok := at["$ref"].(string)
			if !ok {
				return
			}
			name := strings.TrimPrefix(ref, "#/$defs/")
			seen[name] = true
			at = root["$defs"].(map[string]any)[name].(map[string]any)
		}
	}
	for _, part := range strings.FieldsFunc(strings.ReplaceAll(path, "[]", ".[]"), func(r rune) bool { return r == '.' }) {
		resolve()
		next := at["items"]
		if part != "[]" {
			props, _ := at["properties"].(map[string]any)
			if next = props[part]; part == "*" {
				next = at["additionalProperties"]
			}
		}
		m, ok := next.(map[string]any)
		if !ok {
			t.Fatalf("the schema has nothing at %s of %s", part, path)
		}
		at = m
	}
	resolve()
	var keys []string
	for k := range at["properties"].(map[string]any) {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// The defaults the schema tells are those Parse fills in.
func TestSchemaDefaults(t *testing.T) {
	doc, ok := instanceOf(t, filepath.Join("testdata", "good", "minimal.yaml"))
	if !ok {
		t.Fatal("minimal.yaml is no YAML")
	}
	var root map[string]any
	if err := json.Unmarshal(Schema(), &root); err != nil {
		t.Fatal(err)
	}
	defs := root["$defs"].(map[string]any)
	fill := func(into, def map[string]any) {
		for k, p := range def["properties"].(map[string]any) {
			if v, ok := p.(map[string]any)["default"]; ok {
				into[k] = v
			}
		}
	}
	file := doc.(map[string]any)
	fill(file, root)
	file["log"] = map[string]any{}
	fill(file["log"].(map[string]any), defs["log"].(map[string]any))
	in := file["instances"].([]any)[0].(map[string]any)
	fill(in, defs["instance"].(map[string]any))
	for _, name := range []string{"heartbeat", "garp", "gate"} {
		in[name] = map[string]any{}
		fill(in[name].(map[string]any), defs[name].(map[string]any))
	}
	text, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse("minimal.json", text)
	var problems Problems
	if errors.As(err, &problems) {
		t.Fatal(problems)
	}
	if diff := same(minimal(), f); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
