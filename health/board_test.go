package health

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/internal/mono"
)

const boot = mono.Instant(time.Hour)

func TestVerdicts(t *testing.T) {
	for _, tc := range []struct {
		name       string
		rise, fall int
		samples    string // + good, - bad
		want       string // verdict after each
	}{
		{"first sample decides/good", 2, 3, "+", "+"},
		{"first sample decides/bad", 2, 3, "-", "-"},
		{"falls after fall in a row", 2, 3, "+---", "+++-"},
		{"one good sample restarts the count", 2, 3, "+--+---", "++++++-"},
		{"rises after rise in a row", 2, 3, "-++", "--+"},
		{"one bad sample restarts the count", 2, 3, "-+-++", "----+"},
		{"rise and fall of one", 1, 1, "+-+-", "+-+-"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := NewBoard([]Check{{Name: "disk", Rise: tc.rise, Fall: tc.fall, Effect: Fault}})
			before := true
			for i, c := range tc.samples {
				s, changed := b.Sample(boot.Add(time.Duration(i)*time.Second), "disk", c == '+', "")
				_, failing := b.Failing(Fault)
				if want := tc.want[i] == '-'; failing != want || s.Fails() != want {
					t.Fatalf("after %q: failing = %v, want %v", tc.samples[:i+1], failing, want)
				}
				if want := i == 0 || failing == before; changed != want {
					t.Errorf("after %q: changed = %v, want %v", tc.samples[:i+1], changed, want)
				}
				before = !failing
			}
		})
	}
}

func TestOnlyTheOwnEffectCounts(t *testing.T) {
	b := NewBoard([]Check{{Name: "a", Rise: 1, Fall: 1, Effect: Yield}, {Name: "b", Rise: 1, Fall: 1, Effect: Fault}})
	if _, failing := b.Failing(Fault); failing || len(b.Unfit()) > 0 {
		t.Error("a check without a sample fails")
	}
	if s, missing := b.Unsampled(); !missing || s.Check.Name != "a" {
		t.Errorf("Unsampled() = %+v, %v", s, missing)
	}
	b.Sample(boot, "a", false, "gone")
	if _, failing := b.Failing(Fault); failing {
		t.Error("a yielding check is a fault")
	}
	if s, failing := b.Failing(Yield); !failing || s.Detail != "gone" || len(b.Unfit()) != 1 {
		t.Errorf("Failing(Yield) = %+v, %v", s, failing)
	}
	if s, missing := b.Unsampled(); !missing || s.Check.Name != "b" {
		t.Errorf("Unsampled() = %+v, %v", s, missing)
	}
	if _, changed := b.Sample(boot, "unknown", false, ""); changed {
		t.Error("an unknown check changed a verdict")
	}
}

// TestFlap plays changes of a check with rise and fall of one, at seconds since the
// start: + it is well, - it fails, . nothing happens but time.
func TestFlap(t *testing.T) {
	type at struct {
		second  int
		sample  byte
		verdict Verdict
		until   int // second, 0: no hold runs
	}
	minute := 60
	for _, tc := range []struct {
		name string
		want []at
	}{
		{"two failures are no flapping", []at{{0, '+', Well, 0}, {1, '-', Failing, 0}, {2, '+', Well, 0}, {3, '-', Failing, 0}, {4, '+', Well, 0}}},
		{"the third within the window is, and the recovery is held back", []at{
			{0, '+', Well, 0},
			{1, '-', Failing, 0},
			{2, '+', Well, 0},
			{3, '-', Failing, 0},
			{4, '+', Well, 0},
			{5, '-', Failing, 0},
			{6, '+', Flapping, 66},
			{65, '+', Flapping, 66},
			{66, '.', Well, 0},
		}},
		{"a first sample that is bad is no failure that came", []at{
			{0, '-', Failing, 0}, {1, '+', Well, 0}, {2, '-', Failing, 0}, {3, '+', Well, 0}, {4, '-', Failing, 0}, {5, '+', Well, 0},
		}},
		{"slower than the window is no flapping", []at{
			{0, '+', Well, 0},
			{1, '-', Failing, 0},
			{2, '+', Well, 0},
			{150, '-', Failing, 0},
			{151, '+', Well, 0},
			{301, '-', Failing, 0},
			{302, '+', Well, 0},
		}},
		{"each failure doubles the hold, to the bound", []at{
			{0, '+', Well, 0},
			{1, '-', Failing, 0},
			{2, '+', Well, 0},
			{3, '-', Failing, 0},
			{4, '+', Well, 0},
			{5, '-', Failing, 0},
			{10, '+', Flapping, 10 + minute},
			{11, '-', Failing, 0},
			{20, '+', Flapping, 20 + 2*minute},
			{21, '-', Failing, 0},
			{30, '+', Flapping, 30 + 4*minute},
			{31, '-', Failing, 0},
			{40, '+', Flapping, 40 + 8*minute},
			{41, '-', Failing, 0},
			{50, '+', Flapping, 50 + 10*minute},
			{51, '-', Failing, 0},
			{60, '+', Flapping, 60 + 10*minute},
		}},
		{"after a hold it is not forgotten at once", []at{
			{0, '+', Well, 0},
			{1, '-', Failing, 0},
			{2, '+', Well, 0},
			{3, '-', Failing, 0},
			{4, '+', Well, 0},
			{5, '-', Failing, 0},
			{6, '+', Flapping, 66},
			{66, '.', Well, 0},
			{500, '-', Failing, 0},
			{501, '+', Flapping, 501 + 2*minute},
		}},
		{"after a quiet time it is", []at{
			{0, '+', Well, 0},
			{1, '-', Failing, 0},
			{2, '+', Well, 0},
			{3, '-', Failing, 0},
			{4, '+', Well, 0},
			{5, '-', Failing, 0},
			{6, '+', Flapping, 66},
			{66, '.', Well, 0},
			{666, '-', Failing, 0},
			{667, '+', Well, 0},
		}},
		{"a failure that lasts does not shorten the hold", []at{
			{0, '+', Well, 0},
			{1, '-', Failing, 0},
			{2, '+', Well, 0},
			{3, '-', Failing, 0},
			{4, '+', Well, 0},
			{5, '-', Failing, 0},
			{3600, '.', Failing, 0},
			{3601, '+', Flapping, 3661},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := NewBoard([]Check{{Name: "nginx", Rise: 1, Fall: 1, Effect: Yield}})
			for _, x := range tc.want {
				now := boot.Add(time.Duration(x.second) * time.Second)
				if x.sample == '.' {
					b.Tick(now)
				} else {
					b.Sample(now, "nginx", x.sample == '+', "")
				}
				s := b.Statuses()[0]
				until := 0
				deadline := mono.Never
				if s.Until != 0 {
					until, deadline = int(s.Until.Sub(boot)/time.Second), s.Until
				}
				if s.Verdict != x.verdict || until != x.until {
					t.Fatalf("at %d after %c: %s until %d, want %s until %d", x.second, x.sample, s.Verdict, until, x.verdict, x.until)
				}
				if b.Deadline() != deadline {
					t.Errorf("at %d: deadline %d, want %d", x.second, b.Deadline(), deadline)
				}
				if _, failing := b.Failing(Yield); failing != (x.verdict == Failing || x.verdict == Flapping) {
					t.Errorf("at %d: failing = %t", x.second, failing)
				}
			}
		})
	}
}

func TestFailingBeforeFlapping(t *testing.T) {
	b := NewBoard([]Check{{Name: "a", Rise: 1, Fall: 1}, {Name: "b", Rise: 1, Fall: 1}})
	for i := range 7 {
		b.Sample(boot.Add(time.Duration(i)*time.Second), "a", i%2 == 0, "")
	}
	if s, _ := b.Failing(Yield); s.Verdict != Flapping || s.String() != "a: flapping, counts as failing until it was well for 1m0s" {
		t.Fatalf("%+v", s)
	}
	b.Sample(boot.Add(time.Minute), "b", false, "gone")
	if s, _ := b.Failing(Yield); s.String() != "b: gone" {
		t.Errorf("%s", s)
	}
}

// TestFlappingIsBounded lets checks change at random and at the worst moments, and
// holds how often one may begin to count as failing, and for how long it may be
// held after it is well.
func TestFlappingIsBounded(t *testing.T) {
	const window, most = 10 * time.Minute, 8
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		b := NewBoard([]Check{{Name: "a", Rise: 1, Fall: 1}})
		now, ok := boot, true
		b.Sample(now, "a", true, "")
		var fell []mono.Instant
		var rose mono.Instant
		for range 2000 {
			if d := b.Deadline(); seed%2 == 0 && d != mono.Never {
				now = d // it fails again the moment it is believed
			} else {
				now = now.Add(time.Duration(r.Int64N(int64([...]time.Duration{time.Second, time.Minute, 12 * time.Minute}[r.IntN(3)]))))
			}
			b.Tick(now)
			before := b.Statuses()[0]
			ok = !ok
			if ok {
				rose = now
			} else if before.Verdict == Flapping && now.Sub(rose) >= HoldMost {
				t.Fatalf("seed %d: held for %s", seed, now.Sub(rose))
			}
			s, _ := b.Sample(now, "a", ok, "")
			if !ok && s.Verdict != Failing {
				t.Fatalf("seed %d: a failure is held back", seed)
			}
			if !ok && before.Verdict == Well {
				fell = append(fell, now)
			}
		}
		for i := most; i < len(fell); i++ {
			if in := fell[i].Sub(fell[i-most]); in < window {
				t.Fatalf("seed %d: began to fail %d times within %s", seed, most+1, in)
			}
		}
		if len(fell) < 10 {
			t.Fatalf("seed %d: began to fail %d times: this tests nothing", seed, len(fell))
		}
	}
}

func TestNames(t *testing.T) {
	got := map[string]string{}
	for e := Yield; e <= Fault; e++ {
		got["effect "+e.String()] = ""
	}
	for v := Unknown; v <= Flapping; v++ {
		got["verdict "+v.String()] = ""
	}
	got[Effect(9).String()], got[Verdict(9).String()] = "", ""
	want := map[string]string{
		"effect yield": "", "effect fault": "", "verdict unknown": "", "verdict well": "", "verdict failing": "",
		"verdict flapping": "", "Effect(9)": "", "Verdict(9)": "",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
