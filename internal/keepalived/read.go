package keepalived

// The lines of a configuration: comments gone, files included, conditions,
// definitions and sequences worked out. What follows has words and braces only.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Bounds of what is read.
const (
	maxBytes    = 4 << 20 // of all files together
	maxFiles    = 256
	maxLines    = 100_000 // read, and worked out
	maxLine     = 8 << 10 // bytes
	maxNesting  = 16      // of included files, and of definitions
	maxSequence = 1000
)

// place is where something stands.
type place struct {
	file string
	line int // from 1
}

func (p place) String() string { return fmt.Sprintf("%s:%d", p.file, p.line) }

// line is what one line says.
type line struct {
	at   place
	text string
}

// reader reads the files of one host.
type reader struct {
	id      string // keepalived's --config-id: which @ lines count
	defined map[string]string
	open    *openDefinition
	lines   []line
	notes   []note
	files   int
	bytes   int
	steps   int
	unasked bool // the lines of @ conditions were told of
}

// openDefinition is a definition that goes on in the next line.
type openDefinition struct {
	name  string
	parts []string
}

// errBounds is the answer to a configuration that grows without end.
var errBounds = errors.New("the configuration has more than what can be read: includes or definitions that go in circles?")

func (r *reader) file(path string, depth int) error {
	if r.files++; r.files > maxFiles || depth > maxNesting {
		return errBounds
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, int64(maxBytes-r.bytes)+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return r.text(path, data, depth)
}

func (r *reader) text(path string, data []byte, depth int) error {
	if r.bytes += len(data); r.bytes > maxBytes {
		return errBounds
	}
	for i, raw := range bytes.Split(data, []byte("\n")) {
		at := place{path, i + 1}
		text := strings.ToValidUTF8(strings.TrimRight(string(raw), "\r"), "\uFFFD")
		if len(text) > maxLine {
			r.note(at, "a line of more than 8 KiB is left out")
			continue
		}
		text = uncomment(text)
		if r.definition(text) {
			continue
		}
		if err := r.process(line{at, text}, depth, 0); err != nil {
			return err
		}
	}
	return nil
}

// uncomment takes off what stands behind a ! or # outside quotes, and the backslash
// that keeps one from being that.
func uncomment(s string) string {
	var b strings.Builder
	quoted := false
	s = strings.TrimLeft(s, " \t")
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && i+1 < len(s):
			if i++; quoted || s[i] != '#' && s[i] != '!' {
				b.WriteByte(c)
			}
		case !quoted && (c == '#' || c == '!'):
			return strings.TrimRight(b.String(), " \t")
		}
		b.WriteByte(s[i])
	}
	return strings.TrimRight(b.String(), " \t")
}

var definition = regexp.MustCompile(`^\$([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*(.*)$`)

// definition takes a line that goes on with a definition.
func (r *reader) definition(text string) bool {
	d := r.open
	if d == nil {
		return false
	}
	rest, more := strings.CutSuffix(text, `\`)
	if rest = strings.TrimSpace(rest); rest != "" {
		d.parts = append(d.parts, rest)
	}
	if !more {
		r.defined[d.name] = strings.Join(d.parts, "\n")
		r.open = nil
	}
	return true
}

// process takes one line and works out what it means.
func (r *reader) process(l line, depth, expanded int) error {
	if r.steps++; r.steps > maxLines || len(r.lines) > maxLines || expanded > maxNesting {
		return errBounds
	}
	text, ok := r.condition(l)
	if !ok || text == "" {
		return nil
	}
	l.text = text
	if m := definition.FindStringSubmatch(text); m != nil {
		if value, more := strings.CutSuffix(m[2], `\`); more {
			r.open = &openDefinition{name: m[1]}
			if value = strings.TrimSpace(value); value != "" {
				r.open.parts = []string{value}
			}
		} else {
			r.defined[m[1]] = m[2]
		}
		return nil
	}
	if strings.HasPrefix(text, "~SEQ") || strings.HasPrefix(text, "~LST") {
		return r.sequence(l, depth, expanded)
	}
	if changed := r.replace(l); changed != text {
		if len(changed) > maxLine {
			return errBounds
		}
		for part := range strings.SplitSeq(changed, "\n") {
			if err := r.process(line{l.at, uncomment(part)}, depth, expanded+1); err != nil {
				return err
			}
		}
		return nil
	}
	if pattern, ok := included(text); ok {
		return r.include(l.at, pattern, depth)
	}
	r.split(l)
	return nil
}

// condition keeps the lines that begin with @ and this host's id, or @^ and another.
func (r *reader) condition(l line) (string, bool) {
	if !strings.HasPrefix(l.text, "@") {
		return l.text, true
	}
	id, reversed := strings.CutPrefix(l.text[1:], "^")
	end := strings.IndexAny(id, " \t")
	if end < 0 {
		return "", false
	}
	if r.id == "" && !r.unasked {
		r.unasked = true
		r.note(l.at, "lines that begin with @ are for a host that keepalived was told of with --config-id: name both hosts with --id and --peer-id")
	}
	if (r.id != "" && id[:end] == r.id) == reversed {
		return "", false
	}
	return strings.TrimSpace(id[end:]), true
}

var parameter = regexp.MustCompile(`\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))`)

// replace fills in what is defined.
func (r *reader) replace(l line) string {
	unknown := ""
	text := parameter.ReplaceAllStringFunc(l.text, func(s string) string {
		name := strings.Trim(s, "${}")
		if value, ok := r.defined[name]; ok {
			return value
		}
		unknown = s
		return s
	})
	if unknown != "" && (len(r.defined) > 0 || strings.HasPrefix(strings.Trim(unknown, "${"), "_")) {
		r.note(l.at, unknown+" is not defined in the files that were read: write its value out")
	}
	return text
}

var sequenceForm = regexp.MustCompile(`^~SEQ(x?)\(([A-Za-z_][A-Za-z0-9_]*),\s*(-?\d+)(?:,\s*(-?\d+))?(?:,\s*(-?\d+))?\)\s*(.*)$`)

// sequence repeats a line: ~SEQ(var, last), ~SEQ(var, first, last) or ~SEQ(var, first,
// step, last).
func (r *reader) sequence(l line, depth, expanded int) error {
	m := sequenceForm.FindStringSubmatch(l.text)
	if m == nil || m[1] != "" {
		r.note(l.at, "a line that is repeated in a way that is not read here: write the lines out")
		return nil
	}
	var numbers []int
	for _, s := range m[3:6] {
		if n, err := strconv.Atoi(s); err == nil {
			numbers = append(numbers, n)
		}
	}
	first, step, last := 1, 1, numbers[0]
	switch len(numbers) {
	case 2:
		first, last = numbers[0], numbers[1]
	case 3:
		first, step, last = numbers[0], numbers[1], numbers[2]
	}
	if step == 1 && last < first {
		step = -1
	}
	if step == 0 || (last-first)/step < 0 || (last-first)/step >= maxSequence {
		r.note(l.at, "a sequence without an end, or of more than 1000 lines: write the lines out")
		return nil
	}
	was, had := r.defined[m[2]]
	for n := first; step > 0 && n <= last || step < 0 && n >= last; n += step {
		r.defined[m[2]] = strconv.Itoa(n)
		if err := r.process(line{l.at, m[6]}, depth, expanded+1); err != nil {
			return err
		}
	}
	delete(r.defined, m[2])
	if had {
		r.defined[m[2]] = was
	}
	return nil
}

// included returns the pattern of an include line.
func included(text string) (string, bool) {
	rest, ok := strings.CutPrefix(text, "include")
	if !ok || rest == "" {
		return "", false
	}
	if !isBlank(rest[0]) {
		if !strings.ContainsRune("rmwba", rune(rest[0])) || len(rest) < 2 || !isBlank(rest[1]) {
			return "", false
		}
		rest = rest[1:]
	}
	return strings.TrimSpace(rest), true
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// include reads the files of a pattern, which is relative to the file around it.
func (r *reader) include(at place, pattern string, depth int) error {
	pattern = strings.Trim(pattern, `"`)
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(filepath.Dir(at.file), pattern)
	}
	paths, _ := filepath.Glob(pattern) // a malformed pattern matches nothing
	if len(paths) == 0 {
		r.note(at, "include "+pattern+": there is no such file here; what is in it is missing from this import")
		return nil
	}
	slices.Sort(paths)
	for _, p := range paths {
		switch err := r.file(p, depth+1); {
		case errors.Is(err, errBounds):
			return err
		case err != nil:
			r.note(at, "include "+p+": "+err.Error())
		}
	}
	return nil
}

// split makes a brace outside quotes a line of its own.
func (r *reader) split(l line) {
	rest := l.text
	for rest != "" && len(r.lines) < maxLines {
		end, quoted := 0, false
		for end < len(rest) && (quoted || rest[end] != '{' && rest[end] != '}') {
			if rest[end] == '"' {
				quoted = !quoted
			}
			end++
		}
		if end == 0 {
			end = 1
		}
		if text := strings.TrimSpace(rest[:end]); text != "" {
			r.lines = append(r.lines, line{l.at, text})
		}
		rest = strings.TrimLeft(rest[end:], " \t")
	}
}

func (r *reader) note(at place, text string) { r.notes = append(r.notes, note{at, text}) }
