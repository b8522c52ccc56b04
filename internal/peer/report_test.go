package peer

import (
	"bytes"
	"fmt"
	"testing"
)

func (e *end) report() string {
	body, _, _ := e.PeerReport()
	return string(body)
}

func TestTheNewestReportArrives(t *testing.T) {
	ap, bp := twoPaths()
	a := start(t, "primary", "reserve", ap)
	if _, _, ok := a.PeerReport(); ok {
		t.Error("a report before the first")
	}
	for i := range 10 {
		if err := a.Report(fmt.Append(nil, "early ", i)); err != nil {
			t.Fatal(err)
		}
	}
	b := start(t, "reserve", "primary", bp)
	eventually(t, "the newest of those from before the connection", func() bool { return b.report() == "early 9" })
	_, at, _ := b.PeerReport()
	if at <= 0 || at > now() {
		t.Errorf("it came at %d", at)
	}
	long := bytes.Repeat([]byte("0123456789abcdef"), MaxReport/16)
	if err := a.Report(long); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the longest", func() bool { return b.report() == string(long) })
	if err := a.Report(append(long, 'x')); err == nil {
		t.Error("a longer one is accepted")
	}
	if err := a.Report(nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "an empty one", func() bool { _, _, ok := b.PeerReport(); return ok && b.report() == "" })
	for i := range 1000 {
		if err := a.Report(fmt.Append(long[:MaxReport/2:MaxReport/2], i)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the last of a thousand", func() bool { return b.report() == fmt.Sprint(string(long[:MaxReport/2]), 999) })
}

// A path that dies during a report costs nothing but time.
func TestAReportGoesByTheNextPath(t *testing.T) {
	ap, bp := twoPaths()
	a := start(t, "primary", "reserve", ap)
	half := start(t, "reserve", "primary", bp[1:])
	a.Report([]byte("by the second"))
	eventually(t, "the second path carries it", func() bool { return half.report() == "by the second" })
	half.stop()
	b := start(t, "reserve", "primary", bp[:1])
	a.Report([]byte("by the first"))
	eventually(t, "the first path carries it", func() bool { return b.report() == "by the first" })
}
