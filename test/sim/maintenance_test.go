package sim

import "testing"

// maintenanceSeeds is what a few seconds allow.
const maintenanceSeeds = 250

func TestMaintenance(t *testing.T) {
	seeds, total := uint64(maintenanceSeeds), Tally{}
	if testing.Short() {
		seeds /= 10
	}
	for seed := uint64(1); seed <= seeds; seed++ {
		n, err := Play("maintenance", seed)
		if err != nil {
			t.Fatalf("SEED=%d %v\nreplay: go run ./test/sim/simctl -scenario maintenance -seed %d -seeds 1 -v", seed, err, seed)
		}
		total.Add(n)
	}
	t.Logf("%+v", total)
	// A world in which these do not happen tests nothing.
	if total.Parted == 0 || total.Adopted == 0 || total.Failovers < int(seeds)/2 {
		t.Errorf("%d left, %d adopted, %d failovers", total.Parted, total.Adopted, total.Failovers)
	}
}

// TestFoundMaintenanceSeeds replays what long searches found.
func TestFoundMaintenanceSeeds(t *testing.T) {
	for name, seed := range map[string]uint64{
		"a lease that was forced was renewed before its end was on the disk":   9012351,
		"a command's record was followed by one of what it replaced":           112,
		"the end of a long lease was journaled behind a command's maintenance": 204564,
	} {
		if _, err := Play("maintenance", seed); err != nil {
			t.Errorf("%s: SEED=%d %v", name, seed, err)
		}
	}
}

// TestMovesUnderMaintenance hands over by force again and again, while the old node may
// stop in the middle. The first seeds are those that found the long lease in the hands
// of a node which had offered its address.
func TestMovesUnderMaintenance(t *testing.T) {
	seeds := []uint64{1444, 1605, 2101, 2244}
	for seed := uint64(1); !testing.Short() && seed <= maintenanceSeeds/5; seed++ {
		seeds = append(seeds, seed)
	}
	for _, seed := range seeds {
		if err := maintenanceOf(seed, Broken{}, []func(*faults){(*faults).maintain, (*faults).moveAnyway}).Finish(); err != nil {
			t.Errorf("SEED=%d %v", seed, err)
		}
	}
}

// TestMaintenanceCheckersFire breaks one thing at a time.
func TestMaintenanceCheckersFire(t *testing.T) {
	only := func(kinds ...func(*faults)) []func(*faults) { return kinds }
	tests := []struct {
		name    string
		broken  Broken
		kinds   []func(*faults)
		checker string
	}{
		{"holds are forgotten over a restart, a block", Broken{NoHolds: true}, only((*faults).block, (*faults).restart, (*faults).power), "block"},
		{"holds are forgotten over a restart, a maintenance", Broken{NoHolds: true}, only((*faults).maintain, (*faults).restart, (*faults).power, (*faults).power), "maintenance"},
		{"the long lease is taken at once", Broken{HastyLease: true}, only((*faults).maintain, (*faults).partition), "lease"},
		{"the peer does not wait for the long lease", Broken{NoPatience: true}, only((*faults).maintain, (*faults).stallUnseen), "I1"},
		{"a daemon takes the address along", Broken{Goodbye: true}, only((*faults).maintain, (*faults).upgrade), "maintenance"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fires(t, tt.checker, 1500, func(seed uint64) *World { return maintenanceOf(seed, tt.broken, tt.kinds) })
		})
	}
}
