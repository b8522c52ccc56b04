package peer

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/internal/mono"
)

// Refusals one after the other are of one spell, and a pause begins another one. The
// counters know of no spells.
func TestSpellsOfRefusals(t *testing.T) {
	var r refusals
	at := func(d time.Duration) mono.Instant { return mono.Instant(time.Hour + d) }
	why := errors.New("why")
	check := func(count uint64, since, last mono.Instant, all uint64) {
		t.Helper()
		s := r.spell(ReasonWrongKey)
		if diff := cmp.Diff([]uint64{count, uint64(since), uint64(last), all}, []uint64{s.count, uint64(s.since), uint64(s.at), r.load()[ReasonWrongKey]}); diff != "" {
			t.Errorf("count, since, last, all (-want +got)\n%s", diff)
		}
	}
	check(0, 0, 0, 0)
	r.noteAt(at(0), ReasonWrongKey, 1, why)
	r.noteAt(at(spellGap), ReasonWrongKey, 2, why)
	r.noteAt(at(spellGap), ReasonLabel, 1, why)
	check(3, at(0), at(spellGap), 3)
	r.noteAt(at(2*spellGap+1), ReasonWrongKey, 1, why)
	check(1, at(2*spellGap+1), at(2*spellGap+1), 4)
}
