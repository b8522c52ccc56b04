package peer

import (
	"bytes"
	"flag"
	"fmt"
	"go/constant"
	"go/importer"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/words"
	"github.com/tanist-ha/tanist/replication"
)

var update = flag.Bool("update", false, "write the golden files anew")

// same compares what a reader can tell apart: an empty list is none.
var same = cmp.Options{
	cmpopts.EquateEmpty(),
	cmp.Comparer(func(a, b replication.Position) bool { return a.Equal(b) }),
	cmp.Comparer(func(a, b replication.BinlogState) bool { return a.Equal(b) }),
}

// full returns a value with every field set to something that is not zero, and
// integers that a float64 cannot hold. A field added to the core and not to the
// wire shows as lost.
func full(t *testing.T) failover.PeerState {
	t.Helper()
	var s failover.PeerState
	n := uint64(0)
	fill(t, reflect.ValueOf(&s).Elem(), &n)
	return s
}

func fill(t *testing.T, v reflect.Value, n *uint64) {
	t.Helper()
	*n++
	if p, ok := v.Addr().Interface().(*replication.Position); ok {
		*p = replication.PositionOf(replication.GTID{Domain: uint32(*n), Server: 1, Sequence: 1<<63 + *n})
		return
	}
	if b, ok := v.Addr().Interface().(*replication.BinlogState); ok {
		*b, _ = replication.ParseBinlogState(fmt.Sprintf("%d-1-7,%d-2-9", *n, *n))
		return
	}
	if s, ok := v.Addr().Interface().(*replication.SemiSync); ok {
		*s = replication.SemiSync{
			SourceStatus: replication.Known(true), NoTx: replication.Known(1<<63 + *n), Clients: replication.Known(*n),
			Waiting: replication.Known(*n + 1), Patience: replication.Known(time.Duration(1<<62 + *n)),
		}
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint8:
		v.SetUint(1 + *n%3) // every enum has 1 to 3, but for two
		if _, two := v.Interface().(interface{ String() string }); two && strings.HasSuffix(fmt.Sprint(v.Interface()), ")") {
			v.SetUint(2)
		}
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(1<<(v.Type().Bits()-1) + *n)
	case reflect.Int64:
		v.SetInt(1<<62 + int64(*n))
	case reflect.String:
		v.SetString(strings.Repeat("é\"\n", int(*n%3)+1))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(t, v.Index(i), n)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), n)
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); v.Type() == reflect.TypeFor[hooks.Result]() && f.Name == "Output" {
				continue // it stays where it was printed
			}
			fill(t, v.Field(i), n)
		}
	default:
		t.Fatalf("a %s in PeerState: teach fill about it", v.Type())
	}
}

func roundTrip(t *testing.T, instance string, s failover.PeerState) failover.PeerState {
	t.Helper()
	frame := frameOf(t, instance, s)
	var r frameReader
	got, err := r.read(frame[headSize:], nil)
	if err != nil || len(got) != 1 {
		t.Fatalf("%v, %d messages\n%s", err, len(got), frame)
	}
	if got[0].Instance != instance {
		t.Errorf("instance %q came back as %q", instance, got[0].Instance)
	}
	return got[0].State
}

func TestEveryFieldTravels(t *testing.T) {
	want := full(t)
	if diff := cmp.Diff(want, roundTrip(t, "compass", want), same); diff != "" {
		t.Errorf("sent (-) and read (+) differ:\n%s", diff)
	}
	bare := failover.PeerState{Boot: 1, Seq: 1}
	if diff := cmp.Diff(bare, roundTrip(t, "compass", bare), same); diff != "" {
		t.Errorf("sent (-) and read (+) differ:\n%s", diff)
	}
}

func TestWireFormatIsGolden(t *testing.T) {
	for _, test := range []struct {
		file  string
		state failover.PeerState
	}{
		{file: "full.bin", state: full(t)},
		{file: "bare.bin", state: failover.PeerState{Boot: 7, Seq: 1, Stamp: 5, State: failover.Backup}},
	} {
		golden(t, test.file, frameOf(t, "compass", test.state))
	}
	var b bytes.Buffer
	if err := writeHello(&b, hello{Node: "primary", Peer: "reserve", Knock: []byte("digest")}); err != nil {
		t.Fatal(err)
	}
	golden(t, "hello.bin", b.Bytes())
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	file = filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-) and this release (+) differ; a change needs another Version:\n%s", file, diff)
	}
}

func TestNewerReleaseIsUnderstood(t *testing.T) {
	read := func(body string) failover.PeerState {
		t.Helper()
		_, s, err := decode([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	const head = `{"instance":"compass","boot":1,"state":"active","why":{"reason":"elected"}`
	t.Run("unknown fields are ignored", func(t *testing.T) {
		s := read(head + `,"weather":{"wind":[1,2]}}`)
		want := failover.PeerState{Boot: 1, State: failover.Active, Why: failover.Why{Reason: failover.Elected}}
		if diff := cmp.Diff(want, s, same); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("unknown names are no known value", func(t *testing.T) {
		s := read(`{"instance":"compass","boot":1,"state":"levitating","why":{"reason":"magic"},"sources":"some",
			"gate":[{"code":"moon"}],"steps":[{"name":"x","outcome":"splendid"}],
			"give":{"id":{"boot":1,"seq":1},"stage":"musing","epoch":3},"granted":{"id":{"boot":1,"seq":1},"outcome":"sort of","why":{}}}`)
		if s.State != words.Unknown || s.Why.Reason != words.Unknown || s.Sources != words.Unknown || s.Give.Stage != words.Unknown {
			t.Errorf("state %v, why %v, sources %v, stage %v", s.State, s.Why, s.Sources, s.Give.Stage)
		}
		if len(s.Gate) != 1 || s.Gate[0].Code != words.Unknown {
			t.Errorf("an unknown reason must keep the gate closed, got %v", s.Gate)
		}
		if s.Steps[0].Outcome.OK() || s.Granted.Outcome == failover.Done {
			t.Errorf("an unknown outcome is a success: %v, %v", s.Steps, s.Granted)
		}
	})
	t.Run("no outcome is no success", func(t *testing.T) {
		if s := read(head + `,"granted":{"id":{"boot":1,"seq":1}}}`); s.Granted.Outcome == failover.Done {
			t.Error("a grant without an outcome reads as done")
		}
	})
	t.Run("a position in another notation is left out", func(t *testing.T) {
		const sets = `"positions":[{"database":"a","executed":"binlog.000042:1234"},{"database":"b","executed":"0-1-5"}]`
		s := read(head + "," + sets + `,"give":{"id":{"boot":1,"seq":1},"stage":"frozen","epoch":3,` + sets + `}}`)
		b := replication.PositionOf(replication.GTID{Server: 1, Sequence: 5})
		if diff := cmp.Diff([]failover.Position{{Database: "b", Executed: b}}, s.Positions, same); diff != "" {
			t.Error(diff)
		}
		if s.Give != nil {
			t.Error("a handover with a target that cannot be read is offered all the same")
		}
	})
	t.Run("positions of MariaDB and MySQL side by side", func(t *testing.T) {
		const set = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:tag:7"
		s := read(head + `,"positions":[{"database":"a","executed":"` + set + `"},{"database":"b","executed":"0-1-5"}]}`)
		if len(s.Positions) != 2 || s.Positions[0].Executed.String() != set || s.Positions[1].Executed.String() != "0-1-5" {
			t.Errorf("read as %v", s.Positions)
		}
	})
}

func TestMalformedMessagesAreErrors(t *testing.T) {
	for name, body := range map[string]string{
		"empty":          ``,
		"not JSON":       `tanist`,
		"two values":     `{"instance":"a","state":"active"}{}`,
		"no instance":    `{"state":"active"}`,
		"no state":       `{"instance":"a"}`,
		"negative epoch": `{"instance":"a","epoch":-1,"state":"active"}`,
		"float boot":     `{"instance":"a","boot":1.5,"state":"active"}`,
		"boot too large": `{"instance":"a","boot":18446744073709551616,"state":"active"}`,
		"holds is text":  `{"instance":"a","state":"active","holds":"yes"}`,
	} {
		if _, s, err := decode([]byte(body)); err == nil {
			t.Errorf("%s: read as %+v", name, s)
		}
	}
}

func TestTooLongIsAnError(t *testing.T) {
	s := failover.PeerState{Seq: 1, Why: failover.Why{Detail: strings.Repeat("x", MaxMessage)}}
	if _, err := encode("compass", s); err == nil || len(err.Error()) > 200 {
		t.Errorf("a message over the limit: %v", err)
	}
}

// Every constant of an enum that travels has a name of its own.
func TestEveryValueHasAName(t *testing.T) {
	im := importer.ForCompiler(token.NewFileSet(), "source", nil)
	const module = "github.com/tanist-ha/tanist/"
	check := func(pkg, typ string, text func(uint8) string) {
		t.Helper()
		p, err := im.Import(module + pkg)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]string{}
		for _, name := range p.Scope().Names() {
			c, ok := p.Scope().Lookup(name).(*types.Const)
			if !ok {
				continue
			}
			if n, ok := c.Type().(*types.Named); !ok || n.Obj().Name() != typ || n.Obj().Pkg() != p {
				continue
			}
			v, _ := constant.Uint64Val(c.Val())
			s := text(uint8(v))
			if s == words.UnknownText || seen[s] != "" || v == words.Unknown {
				t.Errorf("%s.%s = %d travels as %q, as does %q", pkg, name, v, s, seen[s])
			}
			seen[s] = name
		}
		if len(seen) < 2 {
			t.Errorf("%s.%s: found %d constants", pkg, typ, len(seen))
		}
	}
	check("internal/failover", "State", func(v uint8) string { return words.Of(failover.Initialize, failover.State(v)) })
	check("internal/failover", "Reason", func(v uint8) string { return words.Of(failover.Starting, failover.Reason(v)) })
	check("internal/failover", "Sources", func(v uint8) string { return words.Of(failover.NoDatabases, failover.Sources(v)) })
	check("internal/failover", "GiveStage", func(v uint8) string { return words.Of(failover.GivePreparing, failover.GiveStage(v)) })
	check("internal/failover", "TakeStage", func(v uint8) string { return words.Of(failover.TakePreparing, failover.TakeStage(v)) })
	check("internal/failover", "Repair", func(v uint8) string { return words.Of(failover.ReportOnly, failover.Repair(v)) })
	check("internal/failover", "Outcome", func(v uint8) string { return words.Of(failover.Done, failover.Outcome(v)) })
	check("hooks", "Outcome", func(v uint8) string { return toStep(stepOf(v)).Outcome })
	check("replication", "Code", func(v uint8) string { return words.Of(replication.IOStopped, replication.Code(v)) })
}

// FuzzMessage: what can be read can be sent on and reads the same again.
func FuzzMessage(f *testing.F) {
	for _, file := range []string{"full.bin", "bare.bin"} {
		frame, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			f.Fatal(err)
		}
		content := frame[bytes.IndexByte(frame, '{'):]
		f.Add(content)
	}
	f.Add([]byte(`{"instance":"a","state":"?","sources":"?","give":{"positions":[{"executed":"0-1-5, 1-1-1"}]}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		instance, s, err := decode(body)
		if err != nil || len(body) > MaxMessage/8 {
			return
		}
		s.Seq = 1
		if diff := cmp.Diff(s, roundTrip(t, instance, s), same); diff != "" {
			t.Errorf("read (-) and read again (+) differ:\n%s", diff)
		}
	})
}

// FuzzFrame: whatever bytes come, a reader ends with a message or an error, and
// holds no more than the limit.
func FuzzFrame(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02{}"))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, in []byte) {
		body, err := readFrame(bytes.NewReader(in), nil, 64)
		if err == nil && !bytes.Equal(in[4:4+len(body)], body) || cap(body) > 64 {
			t.Errorf("read %q of %q", body, in)
		}
	})
}
