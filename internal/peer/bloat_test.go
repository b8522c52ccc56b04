package peer

import (
	"encoding/binary"
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
