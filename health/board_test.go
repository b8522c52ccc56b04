package health

import "testing"

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
				changed := b.Sample("disk", c == '+', "")
				_, failing := b.Failing(Fault)
				if want := tc.want[i] == '-'; failing != want {
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
	if _, failing := b.Failing(Fault); failing {
		t.Error("a check without a sample fails")
	}
	b.Sample("a", false, "gone")
	if _, failing := b.Failing(Fault); failing {
		t.Error("a yielding check is a fault")
	}
	if s, failing := b.Failing(Yield); !failing || s.Detail != "gone" {
		t.Errorf("Failing(Yield) = %+v, %v", s, failing)
	}
	if b.Sample("unknown", false, "") {
		t.Error("an unknown check changed a verdict")
	}
}
