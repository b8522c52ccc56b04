package health

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A board that recalls another one says the same of every sample that follows.
func TestRecall(t *testing.T) {
	checks := []Check{{Name: "disk", Rise: 2, Fall: 3}, {Name: "gateway", Rise: 1, Fall: 1, Effect: Fault}}
	all := cmp.AllowUnexported(Status{}, flap{})
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		now, old := boot, NewBoard(checks)
		sample := func(b ...*Board) {
			now = now.Add(time.Duration(rnd.IntN(40)) * time.Second)
			name, ok := checks[rnd.IntN(2)].Name, rnd.IntN(2) > 0
			for _, b := range b {
				b.Sample(now, name, ok, "a sample")
			}
		}
		for range rnd.IntN(40) {
			sample(old)
		}
		anew := NewBoard(checks)
		anew.Recall(old.Statuses())
		for range 40 {
			sample(old, anew)
			if diff := cmp.Diff(old.Statuses(), anew.Statuses(), all); diff != "" {
				t.Fatalf("seed %d (-old +new):\n%s", seed, diff)
			}
		}
	}
	t.Run("what a check is counts as it is now, and others are left", func(t *testing.T) {
		old := NewBoard([]Check{{Name: "disk", Rise: 9, Fall: 9, Effect: Fault}, {Name: "gone", Rise: 1, Fall: 1}})
		old.Sample(boot, "disk", false, "full")
		b := NewBoard(checks)
		b.Recall(old.Statuses())
		want := []Status{{Check: checks[0], Verdict: Failing, Detail: "full"}, {Check: checks[1]}}
		if diff := cmp.Diff(want, b.Statuses(), all); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}
