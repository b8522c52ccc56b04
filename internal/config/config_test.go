package config

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares got with a file, or writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// samples returns the configuration files under testdata/kind.
func samples(t *testing.T, kind string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", kind, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no samples of kind %s: %v", kind, err)
	}
	return files
}

func parseFile(t *testing.T, file string) (*File, error) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return Parse(filepath.Base(file), data)
}

// Each bad file has all its mistakes reported, with place and remedy, as its
// golden file says.
func TestBad(t *testing.T) {
	for _, file := range samples(t, "bad") {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			f, err := parseFile(t, file)
			var problems Problems
			if f != nil || !errors.As(err, &problems) || len(problems) == 0 {
				t.Fatalf("got %v, %v; want Problems", f, err)
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".txt", err.Error()+"\n")
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a secret of the file is printed")
			}
			carets(t, file, problems)
		})
	}
}

// carets wants every problem on the text it is about: in the file, not on white
// space unless the line has nothing else.
func carets(t *testing.T, file string, problems Problems) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimPrefix(data, []byte("\ufeff")), []byte("\n"))
	for _, p := range problems {
		if p.Line == 0 && strings.HasSuffix(p.Message, "are not shown") {
			continue
		}
		if p.Line < 1 || p.Line > len(lines) {
			t.Errorf("line %d is outside the file: %s", p.Line, p.Message)
			continue
		}
		line := []rune(strings.TrimRight(string(lines[p.Line-1]), "\r"))
		if p.Column > len(line)+1 {
			t.Errorf("%d:%d is outside its line: %s", p.Line, p.Column, p.Message)
		}
		if p.Column <= len(line) && strings.ContainsRune(" \t", line[p.Column-1]) && strings.TrimSpace(string(line)) != "" {
			t.Errorf("%d:%d is white space: %s", p.Line, p.Column, p.Message)
		}
	}
}
