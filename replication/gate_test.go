package replication

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/internal/mono"
)

func TestGateDatabase(t *testing.T) {
	for _, tc := range gateRows() {
		t.Run(tc.name, func(t *testing.T) {
			v := tc.verdict()
			var got []string
			for _, r := range v.Reasons {
				if r.Database != "pivot" {
					t.Errorf("reason %v names no database", r)
				}
				got = append(got, r.Code.String()+": "+r.Detail)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			if v.Open != (len(tc.want) == 0) || v.Databases[0].Open != v.Open {
				t.Errorf("open %v, database open %v", v.Open, v.Databases[0].Open)
			}
		})
	}
}

func TestGateNode(t *testing.T) {
	for _, tc := range nodeRows() {
		t.Run(tc.name, func(t *testing.T) {
			v := Gate(now, tc.policy, tc.q)
			if diff := cmp.Diff(tc.want, v.Reasons); diff != "" {
				t.Error(diff)
			}
			if v.Open != (len(tc.want) == 0) {
				t.Errorf("open %v", v.Open)
			}
		})
	}
}

func TestGateOneBadDatabaseCloses(t *testing.T) {
	bad := goodReplica()
	bad.Name = "team7"
	bad.channel().IO = ThreadStopped
	v := Gate(now, policy, Question{Health: HealthGood, Databases: []Database{goodReplica(), bad, goodReplica()}})
	if diff := cmp.Diff([]Reason{{IOStopped, "team7", "IO thread stopped"}}, v.Reasons); diff != "" {
		t.Error(diff)
	}
	if v.Open || !v.Databases[0].Open || v.Databases[1].Open {
		t.Errorf("%+v", v)
	}
}

func TestGateReportsLoss(t *testing.T) {
	d := orphan()
	d.Facts.Applied = Known(position("0-1-4706"))
	d.Heard = heard("0-1-4611", now-2*second)
	d.Heard.Note(position("0-1-4721"), now-second) // 110 a second
	v := Gate(now, policy, Question{Cause: SourceLost, Health: HealthGood, Databases: []Database{d}})
	want := []DatabaseVerdict{{
		Name: "pivot", Missing: Known(uint64(15)), Unapplied: Known(uint64(5)), AtMost: Known(uint64(125)),
		HeardAge: Known(time.Second),
	}}
	if diff := cmp.Diff(want, v.Databases); diff != "" {
		t.Error(diff)
	}

	d = goodReplica()
	d.channel().SecondsBehind = Known(time.Second)
	d.Heard = heard("0-1-4711", now-30*second)
	d.Heard.Note(position("0-1-4712"), now-2*second)
	v = Gate(now, policy, Question{Health: HealthGood, Databases: []Database{d}})
	if lag, _ := v.Databases[0].Lag.Get(); lag != 2*time.Second || v.Databases[0].LagFrom != LagPositions {
		t.Errorf("lag %v from %v", lag, v.Databases[0].LagFrom)
	}
}

// The words are part of the operator's contract.
func TestCodeWords(t *testing.T) {
	want := "io_stopped sql_stopped lagging unknown undrained behind_source errant unreachable not_replica blocked maintenance unhealthy"
	var got []string
	for c := IOStopped; c <= Unhealthy; c++ {
		text, err := c.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back Code
		if err := back.UnmarshalText(text); err != nil || back != c {
			t.Errorf("%s reads back as %v, %v", text, back, err)
		}
		got = append(got, string(text))
	}
	if diff := cmp.Diff(want, strings.Join(got, " ")); diff != "" {
		t.Error(diff)
	}
	var c Code
	if c.UnmarshalText(nil) == nil {
		t.Error("the empty code reads")
	}
	if _, err := c.MarshalText(); err == nil {
		t.Error("the empty code prints")
	}
}

// worse are changes after which a database is a poorer candidate, or less is known of it.
var worse = map[string]func(*Database, *rand.Rand){
	"measured never":    func(d *Database, _ *rand.Rand) { d.Facts = Facts{} },
	"measured earlier":  func(d *Database, r *rand.Rand) { d.Facts.MeasuredAt -= mono.Instant(r.Int64N(int64(10 * second))) },
	"not reached":       func(d *Database, r *rand.Rand) { d.Facts.Reach = []Reach{0, 2, 3, 4, 5, 6, 7, 8, 9, 200}[r.IntN(10)] },
	"channels unknown":  func(d *Database, _ *rand.Rand) { d.Facts.Channels = Unknown[[]Channel]() },
	"channels NULL":     func(d *Database, _ *rand.Rand) { d.Facts.Channels = Null[[]Channel]() },
	"applied unknown":   func(d *Database, _ *rand.Rand) { d.Facts.Applied = Unknown[Position]() },
	"applied NULL":      func(d *Database, _ *rand.Rand) { d.Facts.Applied = Null[Position]() },
	"applied less":      func(d *Database, r *rand.Rand) { d.Facts.Applied = lessOf(d.Facts.Applied, r) },
	"executed unknown":  func(d *Database, _ *rand.Rand) { d.Facts.Executed = Null[Position]() },
	"server id unknown": func(d *Database, _ *rand.Rand) { d.Facts.ServerID = Unknown[uint32]() },
	"errant write":      errantWrite,
	"vanished":          func(d *Database, r *rand.Rand) { d.MaxReceived = further(d.MaxReceived, 89+r.Uint64N(100)) },
	"strange write":     strangeWrite,
	"filtered":          func(d *Database, _ *rand.Rand) { d.channel().Filtered = Known(true) },
	"filters unknown":   func(d *Database, _ *rand.Rand) { d.channel().Filtered = Unknown[bool]() },
	"server id shared":  func(d *Database, _ *rand.Rand) { d.channel().SourceServerID = d.Facts.ServerID },
	"uuid shared":       func(d *Database, _ *rand.Rand) { d.Facts.ServerUUID = d.channel().SourceUUID },
	"source forgotten":  func(d *Database, _ *rand.Rand) { d.channel().SourceUUID = Null[string]() },
	"gtid mode off":     func(d *Database, _ *rand.Rand) { d.Facts.GTIDMode = Known(false) },
	"heard more":        func(d *Database, r *rand.Rand) { hearMore(d, r) },
	"heard nothing":     func(d *Database, _ *rand.Rand) { d.Heard = Heard{} },
	"io thread":         func(d *Database, r *rand.Rand) { d.channel().IO = worseThread(d.channel().IO, r) },
	"sql thread":        func(d *Database, r *rand.Rand) { d.channel().SQL = worseThread(d.channel().SQL, r) },
	"sql error":         func(d *Database, _ *rand.Rand) { d.channel().LastSQLError = Known(ServerError{1062, "x"}) },
	"sql error unknown": func(d *Database, _ *rand.Rand) { d.channel().LastSQLError = Null[ServerError]() },
	"lag NULL":          func(d *Database, _ *rand.Rand) { d.channel().SecondsBehind = Null[time.Duration]() },
	"lag more":          func(d *Database, r *rand.Rand) { moreLag(d.channel(), r) },
	"received unknown":  func(d *Database, _ *rand.Rand) { d.channel().Received = Null[Position]() },
	"no gtid":           func(d *Database, _ *rand.Rand) { d.channel().UsingGTID = Known(false) },
	"gtid unknown":      func(d *Database, _ *rand.Rand) { d.channel().UsingGTID = Null[bool]() },
	"delayed":           func(d *Database, _ *rand.Rand) { d.channel().SQLDelay = Known(time.Minute) },
	"delay unknown":     func(d *Database, _ *rand.Rand) { d.channel().SQLDelay = Unknown[time.Duration]() },
	"a bad channel more": func(d *Database, _ *rand.Rand) {
		c := *d.channel()
		all, _ := d.Facts.Channels.Get()
		d.Facts.Channels = Known(append(all, Channel{Name: "x", Received: c.Received}))
	},
}

// A property: whatever the gate said, after any fact got worse it is not open
// where it was closed. Lost sources and living ones, every policy.
func TestGateNeverOpensWhenAFactGetsWorse(t *testing.T) {
	// Sorted, so that a seed means the same changes every time.
	names := slices.Sorted(maps.Keys(worse))
	opened := map[bool]int{}
	for seed := range uint64(20000) {
		r := rand.New(rand.NewPCG(seed, 1))
		cause := []Cause{Planned, SourceLost}[r.IntN(2)]
		p := Policy{MaxLag: time.Duration(r.IntN(8)) * time.Second, MaxMissing: r.Uint64N(20), AfterLoss: AfterLoss(r.IntN(3))}
		d := goodReplica()
		if cause == SourceLost {
			d = orphan()
		}
		mysql := r.IntN(2) == 0
		if mysql {
			d = onMySQL(d)
		}
		var done []string
		open := true
		for step := 0; step < 4; step++ {
			v := Gate(now, p, Question{Cause: cause, Health: HealthGood, Databases: []Database{d}})
			if v.Open {
				opened[mysql]++
			}
			if v.Open && !open {
				t.Fatalf("seed %d: %s, MySQL %v, %+v: opened by %v", seed, cause, mysql, p, done)
			}
			open = v.Open
			channels, _ := d.Facts.Channels.Get()
			name := names[r.IntN(len(names))]
			if len(channels) == 0 && needsChannel(name) {
				break
			}
			worse[name](&d, r)
			done = append(done, name)
		}
	}
	if opened[false] < 1000 || opened[true] < 1000 {
		t.Errorf("the gate was open only %v times: the test shows little", opened)
	}
}

// Every change alone, and each combination of what is not known, closes a gate
// that was open, unless the policy allows for it.
func TestGateUnknownIsClosed(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for name, change := range worse {
		if !strings.Contains(name, "unknown") && !strings.Contains(name, "NULL") && !strings.Contains(name, "never") {
			continue
		}
		for i, cause := range []Cause{Planned, SourceLost, Planned, SourceLost} {
			d := goodReplica()
			if cause == SourceLost {
				d = orphan()
			}
			if i > 1 {
				d = onMySQL(d)
			}
			change(&d, r)
			v := Gate(now, Policy{MaxLag: time.Hour, MaxMissing: 1 << 60, AfterLoss: Drained}, Question{Cause: cause, Health: HealthGood, Databases: []Database{d}})
			// Lag says nothing once the source is lost.
			if want := cause == SourceLost && name == "lag NULL"; v.Open != want {
				t.Errorf("%s, MySQL %v, %s: open %v", cause, i > 1, name, v.Open)
			}
		}
	}
}

func needsChannel(name string) bool {
	switch name {
	case "io thread", "sql thread", "sql error", "sql error unknown", "lag NULL", "lag more", "received unknown",
		"no gtid", "gtid unknown", "delayed", "delay unknown", "a bad channel more",
		"filtered", "filters unknown", "server id shared", "uuid shared", "source forgotten":
		return true
	}
	return false
}

// lessOf takes a few of the last transactions away.
func lessOf(p Optional[Position], r *rand.Rand) Optional[Position] {
	old, ok := p.Get()
	if !ok || old.Empty() {
		return p
	}
	n := r.Uint64N(20)
	if set, ok := old.GTIDSet(); ok {
		last := set.parts[0].spans[len(set.parts[0].spans)-1].last
		return Known(set.Subtract(numbers(uuidA, last-min(last-1, n), last)).Position())
	}
	g := old.GTIDs()[0]
	g.Sequence -= min(g.Sequence, n)
	return Known(PositionOf(g))
}

// further returns p and n transactions more of its first writer.
func further(p Position, n uint64) Position {
	if set, ok := p.GTIDSet(); ok && !p.Empty() {
		last := set.parts[0].spans[len(set.parts[0].spans)-1].last
		return set.Union(numbers(uuidA, last, last+n)).Position()
	}
	g := p.GTIDs()
	if len(g) == 0 {
		return p
	}
	g[0].Sequence += n
	return PositionOf(g[0])
}

func numbers(uuid string, first, last uint64) GTIDSet {
	u, err := parseUUID(uuid)
	if err != nil {
		panic(err)
	}
	return GTIDSet{[]setPart{{writer{server: u}, []span{{first, last}}}}}
}

func hearMore(d *Database, r *rand.Rand) {
	last, ok := d.Heard.Last()
	if !ok {
		return
	}
	d.Heard.Note(further(last, r.Uint64N(20)), now-mono.Instant(r.Int64N(int64(second/4))))
}

func errantWrite(d *Database, r *rand.Rand) {
	if d.Facts.Flavor() != FlavorMySQL {
		d.Facts.Executed = Known(PositionOf(GTID{0, 2, 4800 + r.Uint64N(100)}))
		return
	}
	executes(d, numbers(uuidB, 21, 21+r.Uint64N(9)))
}

// strangeWrite is one of a server nobody knows; on MariaDB it does not show.
func strangeWrite(d *Database, r *rand.Rand) {
	if d.Facts.Flavor() == FlavorMySQL {
		executes(d, numbers(uuidC, 1, 1+r.Uint64N(9)))
	}
}

func executes(d *Database, more GTIDSet) {
	if old, ok := d.Facts.Executed.Get(); ok {
		d.Facts.Executed = Known(old.Merge(more.Position()))
	}
}

func worseThread(s ThreadState, r *rand.Rand) ThreadState {
	if s != ThreadRunning {
		return ThreadUnknown
	}
	return []ThreadState{ThreadUnknown, ThreadStopped, ThreadConnecting}[r.IntN(3)]
}

func moreLag(c *Channel, r *rand.Rand) {
	if lag, ok := c.SecondsBehind.Get(); ok {
		c.SecondsBehind = Known(lag + time.Duration(r.IntN(10))*time.Second)
	}
}
