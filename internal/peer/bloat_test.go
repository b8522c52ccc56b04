package peer

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// wholeOf is a frame's item that tells of an instance by its content.
func wholeOf(number int, content string) []byte {
	b := binary.AppendUvarint([]byte{kindWhole}, uint64(number))
	b = binary.AppendUvarint(b, 1)
	b = binary.AppendVarint(b, 1)
	b = binary.AppendVarint(b, 1)
	b = binary.AppendUvarint(b, uint64(len(content)))
	return append(b, content...)
}

// A peer that says as much as it may of as many instances as it may takes tens of
// megabytes and not the host's memory: what it says is bounded by what it comes to.
func TestALongWindedPeer(t *testing.T) {
	list := func(name, one string) string {
		return fmt.Sprintf(`"%s":[%s]`, name, strings.TrimSuffix(strings.Repeat(one+",", (keptContent-200)/(len(one)+1)), ","))
	}
	for _, field := range []string{
		list("gate", "{}"), list("positions", "{}"), list("stopped", `""`), list("steps", "{}"), `"why":{` + list("gate", "{}") + `}`,
		`"give":{` + list("positions", "{}") + `}`, `"give":{` + list("lost", `""`) + `}`, `"take":{"why":{` + list("gate", "{}") + `}}`,
	} {
		r := &frameReader{}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		var out []Said
		var err error
		for i := 0; i < maxInstances && err == nil; i++ {
			out, err = r.read(wholeOf(i, fmt.Sprintf(`{"instance":"i%d","state":"backup",%s}`, i, field)), out[:0])
		}
		if err != nil && !errors.Is(err, errTooMuch) {
			t.Fatal(err)
		}
		clear(out[:cap(out)])
		runtime.GC()
		runtime.ReadMemStats(&after)
		if grew := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) >> 20; grew > 256 {
			t.Errorf("%.20s...: %d MB", field, grew)
		}
		runtime.KeepAlive(r)
	}
}

// What is told anew takes the place of what was told before.
func TestTheWeightOfWhatIsTold(t *testing.T) {
	r := &frameReader{}
	content := `{"instance":"compass","state":"backup","stopped":["` + strings.Repeat(`","`, 300_000) + `"]}`
	for range 5 {
		if _, err := r.read(wholeOf(7, content), nil); err != nil {
			t.Fatal(err)
		}
	}
	if want := len(content) + 300_001*entryWeight; r.weight != want {
		t.Errorf("weighs %d, want %d", r.weight, want)
	}
	content = strings.Replace(content, "compass", "pivot", 1)
	if _, err := r.read(wholeOf(8, content), nil); !errors.Is(err, errTooMuch) {
		t.Errorf("twice as much: %v", err)
	}
}

// Whatever text a peer sends, no record of the journal becomes too long by it, and no
// line of the log.
func TestLongTexts(t *testing.T) {
	long := strings.Repeat("é", 400<<10/2)
	step := fmt.Sprintf(`{"name":%[1]q,"title":%[1]q,"detail":%[1]q}`, long)
	for _, content := range []string{
		fmt.Sprintf(`"why":{"check":%[1]q,"detail":%[1]q}`, long), fmt.Sprintf(`"gate":[{"database":%[1]q,"detail":%[1]q}]`, long),
		`"steps":[` + step[:len(step)-1] + `,"outcome":"changed"}]`, fmt.Sprintf(`"wish":{"request":{"to":"reserve","reason":%q}}`, long),
		fmt.Sprintf(`"maintenance":{"reason":%[1]q,"by":%[1]q}`, long), fmt.Sprintf(`"drift":[{"step":%[1]q,"detail":%[1]q}]`, long),
		fmt.Sprintf(`"labels":[{"file":%[1]q,"error":%[1]q}]`, long), fmt.Sprintf(`"take":{"why":{"detail":%q}}`, long),
	} {
		if len(content) > MaxMessage {
			content = strings.ReplaceAll(content, long, long[:len(long)/2])
		}
		_, s, err := decode([]byte(`{"instance":"compass","state":"backup",` + content + `}`))
		if err != nil {
			t.Fatal(err)
		}
		said, err := json.Marshal(toWire("compass", s))
		if err != nil || len(said) > 16<<10 || !strings.Contains(string(said), "éé...") {
			t.Errorf("%.30s: %d bytes are left, %v", content, len(said), err)
		}
	}
}

// An error quotes what it does not understand: that much of it.
func TestALongError(t *testing.T) {
	_, err := (&frameReader{}).read(wholeOf(0, `{"instance":"compass","state":"backup","epoch":`+strings.Repeat("9", 900<<10)+`}`), nil)
	if err == nil {
		t.Fatal("it was understood")
	}
	if got := failure(err).Text; len(got) > 2*maxText {
		t.Errorf("%d bytes, %.100s...", len(got), got)
	}
}
