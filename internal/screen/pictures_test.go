package screen

// The pictures of docs are drawn here, from the same lines as the goldens: what they
// show is what the command prints. `go test ./internal/screen -update` draws them again.

import (
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"
)

const (
	pictures   = "../../docs/status"
	cellWidth  = 8.4 // of a monospaced font at 14 px
	lineHeight = 18
	margin     = 14
	mostLines  = 32 // of a picture; the rest of a long screen says nothing new
)

// paint is the colour of a mood on a dark terminal.
func paint(m Mood) string {
	switch m {
	case Well:
		return "#7ec97e"
	case Attention:
		return "#e5c07b"
	case Wrong:
		return "#ff6b68"
	case Faint:
		return "#8b93a1"
	case Heading:
		return "#ffffff"
	case Plain:
	}
	return "#d5d9e0"
}

// svg draws lines as a terminal of so many columns shows them. Each piece has its
// place and its length, so that it stands right in any monospaced font.
func svg(title string, lines []Line, columns int) string {
	var b strings.Builder
	w, h := float64(columns)*cellWidth+2*margin, len(lines)*lineHeight+2*margin
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%d" viewBox="0 0 %.0f %d" font-family="ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace" font-size="14">`+"\n", w, h, w, h)
	fmt.Fprintf(&b, "<title>%s</title>\n", escape(title))
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" rx="8" fill="#1e2228"/>`+"\n")
	for i, l := range lines {
		column := 0
		for _, s := range joined(trimmed(l)) {
			size := ansi.StringWidth(s.text)
			if lead := size - ansi.StringWidth(strings.TrimLeft(s.text, " ")); lead > 0 {
				s.text, column, size = s.text[lead:], column+lead, size-lead
			}
			if s.text == "" {
				continue
			}
			weight := ""
			if s.mood == Wrong || s.mood == Heading {
				weight = ` font-weight="bold"`
			}
			fmt.Fprintf(&b, `<text x="%.1f" y="%d" textLength="%.1f" lengthAdjust="spacingAndGlyphs" xml:space="preserve" fill="%s"%s>%s</text>`+"\n",
				margin+float64(column)*cellWidth, margin+i*lineHeight+13, float64(size)*cellWidth, paint(s.mood), weight, escape(s.text))
			column += size
		}
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String()
}

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
		golden(t, filepath.Join(pictures, name), svg("tanist status: "+s.says, lines[:min(len(lines), mostLines)], 80))
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
