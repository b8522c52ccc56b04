package screen

import (
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/replication"
)

// spoil puts a text into every string of a value, and numbers into the rest.
func spoil(v reflect.Value, text string, n int64) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(noon.Add(time.Duration(n))))
			return
		}
		for i := range v.NumField() {
			spoil(v.Field(i), text, n)
		}
	case reflect.Slice:
		for i := range v.Len() {
			spoil(v.Index(i), text, n)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			spoil(v.Elem(), text, n)
		}
	case reflect.Map:
		if v.Type().Key().Kind() == reflect.String && !v.IsNil() {
			v.SetMapIndex(reflect.ValueOf(text), reflect.ValueOf(uint64(n)))
		}
	case reflect.Uint8:
		v.SetUint(uint64(n) & 0xff)
	case reflect.Int64:
		v.SetInt(n)
	case reflect.Uint64:
		v.SetUint(uint64(n))
	case reflect.Float64:
		v.SetFloat(float64(n))
	default:
	}
}

// ours are the colours that Text writes.
var ours = regexp.MustCompile(`\x1b\[(?:\d+(?:;\d+)*)?m`)

// Whatever a server, a program or the other node wrote, a screen steers no terminal,
// keeps to its width and does not panic.
func FuzzScreen(f *testing.F) {
	f.Add("a\x1b[2J\x07\u202eb\u0085", "active", int64(12), 80, uint8(0))
	f.Add("\x9b31m\xff", "backup", int64(-5), 0, uint8(7))
	f.Add(strings.Repeat("長い名前", 40), "refused", int64(1)<<62, 61, uint8(13))
	f.Add("e\u0301\u200d\u2028", "", int64(-1)<<62, 200, uint8(4))
	f.Fuzz(func(t *testing.T, text, state string, n int64, columns int, which uint8) {
		if len(text) > 500 || len(state) > 100 || columns > 1000 {
			return
		}
		all := situations()
		doc := all[int(which)%len(all)].doc
		doc.Instances = doc.Instances[:min(len(doc.Instances), 5)]
		spoil(reflect.ValueOf(&doc).Elem(), text, n)
		for i := range doc.Instances {
			doc.Instances[i].State = state
		}
		if n%2 == 0 && len(doc.Instances) > 0 {
			doc.Instances[0].Gate.Reasons = []control.GateReason{{Code: replication.Code(n), Database: text, Detail: text}}
		}
		for _, whole := range []bool{true, false} {
			lines := Draw(doc, Options{Now: noon, Got: noon.Add(-time.Second), Width: columns, Whole: whole, Words: words()})
			for i, l := range lines {
				if w := width(l); w > max(columns, LeastWidth) {
					t.Fatalf("line %d has %d columns of %d: %q", i, w, columns, Text([]Line{l}, false, true))
				}
			}
			for _, signs := range []bool{true, false} {
				plainText, coloured := Text(lines, false, signs), Text(lines, true, signs)
				if ours.ReplaceAllString(coloured, "") != plainText {
					t.Errorf("colours change the text: %q", coloured)
				}
				for _, r := range plainText {
					if r != '\n' && (unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)) || r == utf8.RuneError {
						t.Fatalf("%U in %q", r, plainText)
					}
				}
				if strings.Count(plainText, "\n") != len(lines) {
					t.Errorf("%d lines became %q", len(lines), plainText)
				}
			}
		}
	})
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0 ms", 0: "0 ms", 999 * time.Millisecond: "999 ms", 1250 * time.Millisecond: "1.2 s", 9990 * time.Millisecond: "9.9 s",
		59900 * time.Millisecond: "59 s", time.Minute: "1m 0s", 59*time.Minute + 59*time.Second: "59m 59s", 25*time.Hour + 59*time.Minute: "1d 1h",
		24 * time.Hour: "1d 0h", 23*time.Hour + 59*time.Minute: "23h 59m",
	} {
		if got := Age(d); got != want {
			t.Errorf("%d: %q, want %q", d, got, want)
		}
	}
}

func TestWrap(t *testing.T) {
	for _, c := range []struct {
		text    string
		columns int
		most    int
		want    string
	}{
		{"one two three", 7, 0, "one two\nthree\n"},
		{"abcdefghij", 4, 0, "abcd\nefgh\nij\n"},
		{"one two three", 7, 1, "one tw…\n"},
		{"", 7, 0, "\n"},
		{"日本語", 4, 0, "日本\n語\n"},
		{"   lead", 20, 0, "   lead\n"},
	} {
		if got := Text(wrap(plain(c.text), c.columns, c.most), false, true); got != c.want {
			t.Errorf("%q in %d: %q, want %q", c.text, c.columns, got, c.want)
		}
	}
}

// Every gate code has words and, but for an unknown one, advice: a code without either
// would leave an operator alone.
func TestEveryCodeHasWordsAndAdvice(t *testing.T) {
	d := &drawing{doc: &control.Document{}}
	for c := replication.Code(1); !strings.HasSuffix(c.String(), ")") && c.String() != ""; c++ {
		if codeText(c) == "closed" || d.gateAdvice("compass", control.GateReason{Code: c, Database: "pivot"}) == "" {
			t.Errorf("%s: %q", c, codeText(c))
		}
	}
}

// Ages count on while a document is looked at.
func TestAgesCount(t *testing.T) {
	doc := oneWay()
	at := func(later time.Duration) string {
		return Text(Draw(doc, Options{Now: noon.Add(later), Got: noon, Width: 80, Words: words()}), false, true)
	}
	for later, want := range map[time.Duration][]string{
		0:               {"for 3d 4h", "silent for 12 s", "heard 40 ms ago"},
		2 * time.Second: {"silent for 14 s", "heard 2.0 s ago"},
		time.Hour:       {"for 3d 5h", "as of 1h 0m ago"},
	} {
		for _, w := range want {
			if got := at(later); !strings.Contains(got, w) {
				t.Errorf("after %s there is no %q:\n%s", later, w, got)
			}
		}
	}
}
