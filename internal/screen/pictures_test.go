package screen

// The pictures of docs are drawn here, from the same lines as the goldens: what they
// show is what the command prints. `go test ./internal/screen -update` draws them again.

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tanist-ha/tanist/internal/screen/picture"
)

const (
	pictures  = "../../docs/status"
	mostLines = 32 // of a picture; the rest of a long screen says nothing new
)

// TestPicturesAreCurrent holds the pictures in docs against the screen, and docs against
// the pictures: each is shown, under its situation.
func TestPicturesAreCurrent(t *testing.T) {
	page, err := os.ReadFile(pictures + ".md")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, s := range situations() {
		lines := at80(s.doc)
		name := s.name + ".svg"
		names[name] = true
		drawn, err := picture.SVG("tanist status: "+s.says, Text(lines[:min(len(lines), mostLines)], true, true), 80)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, filepath.Join(pictures, name), drawn)
		if !strings.Contains(string(page), "](status/"+name+")") || !strings.Contains(string(page), s.says) {
			t.Errorf("docs/status.md does not show %s with %q", name, s.says)
		}
	}
	there, err := os.ReadDir(pictures)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range there {
		if !names[f.Name()] {
			t.Errorf("docs/status/%s is of no situation", f.Name())
		}
	}
}
