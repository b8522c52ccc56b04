package program

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"unicode"
)

// OutputLimit bounds what is kept of a program's output, in bytes: the first
// half says what it began with, the last half how it ended.
const OutputLimit = 64 << 10

const (
	half          = OutputLimit / 2
	lastLineLimit = 200 // characters of output in an error
)

// Output keeps the head and the tail of what is written to it. It never fails,
// so the program that writes is never held up.
type Output struct {
	// Head is how much of the head to keep, in bytes, if that is more than half of
	// OutputLimit: for output that is read by a program. It is set before the first use.
	Head int

	mu    sync.Mutex // guards the fields below
	head  []byte
	tail  []byte // a ring once it is full
	at    int    // where the ring goes on
	total int64
}

func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(p)
	o.total += int64(n)
	room := min(max(half, o.Head)-len(o.head), len(p))
	o.head = append(o.head, p[:room]...)
	p = p[room:]
	if len(p) > half {
		p = p[len(p)-half:]
	}
	room = min(half-len(o.tail), len(p))
	o.tail = append(o.tail, p[:room]...)
	for p = p[room:]; len(p) > 0; {
		k := copy(o.tail[o.at:], p)
		p, o.at = p[k:], (o.at+k)%half
	}
	return n, nil
}

// Bytes returns what was kept, with a line that counts what was not.
func (o *Output) Bytes() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	var b bytes.Buffer
	b.Write(o.head)
	if missing := o.total - int64(len(o.head)+len(o.tail)); missing > 0 {
		fmt.Fprintf(&b, "\n[%d bytes left out]\n", missing)
	}
	b.Write(o.tail[o.at:])
	b.Write(o.tail[:o.at])
	return b.Bytes()
}

// LastLine returns the last line that is not blank, shortened and with
// everything a terminal would act on taken out.
func LastLine(out []byte) string {
	lines := strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' || r == '\r' })
	for i := len(lines) - 1; i >= 0; i-- {
		line := strings.TrimSpace(strings.Map(func(r rune) rune {
			if r == '\t' {
				return ' '
			}
			if !unicode.IsPrint(r) {
				return -1
			}
			return r
		}, lines[i]))
		if line == "" {
			continue
		}
		if text := []rune(line); len(text) > lastLineLimit {
			line = string(text[:lastLineLimit]) + "..."
		}
		return line
	}
	return ""
}
