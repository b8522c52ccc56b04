package vrrp

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	namedTest  = regexp.MustCompile("`(Test[A-Za-z0-9]+)(?:/([^`]+))?`")
	testSource = regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+)\(t \*testing\.T\)`)
)

// TestLedger requires of every requirement in docs/rfc9568.md that it names
// tests which exist, with the rows it names, or says why there is none.
func TestLedger(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "rfc9568.md"))
	if err != nil {
		t.Fatal(err)
	}
	tests := testsUnder(t, ".")
	for _, dir := range []string{filepath.Join("..", "test", "interop"), filepath.Join("..", "internal", "failover")} {
		maps.Copy(tests, testsUnder(t, dir))
	}
	for _, match := range namedTest.FindAllStringSubmatch(string(text), -1) {
		name, row := match[1], match[2]
		source, exists := tests[name]
		switch {
		case !exists:
			t.Errorf("%s: no such test", name)
		case row != "" && !strings.Contains(source, `"`+row+`"`):
			t.Errorf("%s: no row %q in the package of the test", name, row)
		}
	}
	requirements := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "|") || len(cells) != 3 || strings.TrimSpace(cells[0]) == "§" || strings.HasPrefix(cells[0], "-") {
			continue
		}
		requirements++
		covered := strings.TrimSpace(cells[2])
		reason, excused := strings.CutPrefix(covered, "not applicable: ")
		if !namedTest.MatchString(covered) && (!excused || len(reason) < len("a reason")) {
			t.Errorf("§%s, %s: neither a test nor a reason", strings.TrimSpace(cells[0]), strings.TrimSpace(cells[1]))
		}
	}
	if requirements < 50 {
		t.Errorf("%d requirements read from the tables", requirements)
	}
}

// testsUnder returns every test function in dir and below, and the text of its
// package's tests.
func testsUnder(t *testing.T, dir string) map[string]string {
	t.Helper()
	packages := map[string]*strings.Builder{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		if packages[filepath.Dir(path)] == nil {
			packages[filepath.Dir(path)] = &strings.Builder{}
		}
		packages[filepath.Dir(path)].Write(source)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]string{}
	for _, source := range packages {
		for _, match := range testSource.FindAllStringSubmatch(source.String(), -1) {
			tests[match[1]] = source.String()
		}
	}
	return tests
}
