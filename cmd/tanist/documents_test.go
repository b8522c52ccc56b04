package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	relativeLink = regexp.MustCompile(`\]\(([^)#:\s]+)(#[^)\s]*)?\)`)
	mentioned    = regexp.MustCompile(`\b(?:docs|packaging)/[\w./-]*\.(?:md|json|yml|catalog|service)\b|\bdocs/adr/\d{4}\b`)
	heading      = regexp.MustCompile(`(?m)^#+ +(.*)$`)
	notAnchor    = regexp.MustCompile(`[^\w\- ]`)
)

// Every relative link of a document, and every document that code or text names, is there.
func TestDocumentsResolve(t *testing.T) {
	top := filepath.Join("..", "..")
	seen := 0
	err := filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			if slices.Contains([]string{".git", "bin", "testdata"}, e.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		ext := filepath.Ext(path)
		if !slices.Contains([]string{".md", ".go", ".yml", ".catalog", ".service", ".sh"}, ext) {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if ext == ".md" {
			for _, m := range relativeLink.FindAllStringSubmatch(string(b), -1) {
				seen++
				checkLink(t, path, filepath.Join(filepath.Dir(path), m[1]), m[2])
			}
		}
		if strings.HasSuffix(path, "_test.go") {
			return nil
		}
		for _, name := range mentioned.FindAllString(string(b), -1) {
			seen++
			if all, _ := filepath.Glob(filepath.Join(top, name) + "*"); len(all) == 0 {
				t.Errorf("%s names %s, which is not there", path, name)
			}
		}
		return nil
	})
	if err != nil || seen < 100 {
		t.Errorf("%d links and names: %v", seen, err)
	}
}

func checkLink(t *testing.T, from, to, anchor string) {
	t.Helper()
	b, err := os.ReadFile(to)
	if info, statErr := os.Stat(to); statErr == nil && info.IsDir() {
		return
	}
	if err != nil {
		t.Errorf("%s: %v", from, err)
		return
	}
	if anchor == "" {
		return
	}
	for _, m := range heading.FindAllStringSubmatch(string(b), -1) {
		is := strings.ReplaceAll(notAnchor.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")
		if "#"+is == anchor {
			return
		}
	}
	t.Errorf("%s: %s has no heading %s", from, to, anchor)
}
