// Package lintcheck breaks the rules of .golangci.yml in a small tree of its
// own and sees each of them fire, so that a typing error in a glob or a pattern
// cannot switch a rule off unnoticed.
package lintcheck

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const linters = "depguard,exhaustive,forbidigo,gochecknoglobals,gochecknoinits,gochecksumtype"

// TestRulesFire lints testdata with the project's configuration. A line that
// must be reported names its linter: `// want depguard`.
func TestRulesFire(t *testing.T) {
	tree := t.TempDir()
	if err := os.CopyFS(tree, os.DirFS("testdata")); err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(filepath.Join("..", "..", "..", ".golangci.yml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tree, ".golangci.yml"), config, 0o600); err != nil {
		t.Fatal(err)
	}

	want, got := wanted(t, tree), reported(t, tree)
	for _, at := range slices.Sorted(maps.Keys(want)) {
		if !got[at] {
			t.Errorf("%s did not fire", at)
		}
	}
	for _, at := range slices.Sorted(maps.Keys(got)) {
		if !want[at] {
			t.Errorf("%s fired without cause", at)
		}
	}
}

// wanted returns "file:line linter" for every want comment under tree.
func wanted(t *testing.T, tree string) map[string]bool {
	t.Helper()
	want := make(map[string]bool)
	err := fs.WalkDir(os.DirFS(tree), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		source, err := os.ReadFile(filepath.Join(tree, path))
		if err != nil {
			return err
		}
		lines := bufio.NewScanner(bytes.NewReader(source))
		for n := 1; lines.Scan(); n++ {
			if _, linter, ok := strings.Cut(lines.Text(), "// want "); ok {
				want[fmt.Sprintf("%s:%d %s", path, n, linter)] = true
			}
		}
		return lines.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(want) == 0 {
		t.Fatal("testdata wants nothing")
	}
	return want
}

// reported returns "file:line linter" for everything the linters say about tree.
func reported(t *testing.T, tree string) map[string]bool {
	t.Helper()
	binary, err := exec.CommandContext(t.Context(), "go", "tool", "-n", "golangci-lint").Output()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), strings.TrimSpace(string(binary)),
		"run", "--enable-only", linters, "--output.json.path", "stdout", "--show-stats=false", "./...")
	cmd.Dir = tree
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output() // exits 1 because it found what it should
	var report struct {
		Issues []struct {
			FromLinter string
			Pos        struct {
				Filename string
				Line     int
			}
		}
	}
	if jsonErr := json.Unmarshal(out, &report); jsonErr != nil {
		t.Fatalf("golangci-lint: %v, %v\n%s%s", err, jsonErr, out, stderr.Bytes())
	}
	got := make(map[string]bool)
	for _, issue := range report.Issues {
		got[fmt.Sprintf("%s:%d %s", issue.Pos.Filename, issue.Pos.Line, issue.FromLinter)] = true
	}
	return got
}
