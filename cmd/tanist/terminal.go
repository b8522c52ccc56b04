package main

import (
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// What a command may do with what it writes to.

// terminal returns w if it is one.
func terminal(w io.Writer) (*os.File, bool) {
	f, ok := w.(*os.File)
	if !ok {
		return nil, false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return f, err == nil
}

// colours reports whether a person looks at w who wants them (no-color.org).
func colours(w io.Writer) bool {
	_, ok := terminal(w)
	return ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// columns is the width of a terminal, as far as it says so.
func columns(f *os.File) int {
	if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 {
		return int(size.Col)
	}
	return 80
}

// unicodeLocale reports whether the terminal shows more than ASCII, as far as the
// environment says so.
func unicodeLocale() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(os.Getenv(name)); v != "" {
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}

// paint is a colour of a terminal.
type paint string

const (
	bold   paint = "1"
	red    paint = "31"
	yellow paint = "33"
	green  paint = "32"
)

// on paints text if it is on.
func (p paint) on(is bool, text string) string {
	if !is || text == "" || p == "" {
		return text
	}
	return "\x1b[" + string(p) + "m" + text + "\x1b[0m"
}
