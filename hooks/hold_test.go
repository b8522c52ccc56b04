package hooks

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestWhatIsLeftOfAHold(t *testing.T) {
	set := time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC)
	hour := Hold{On: true, For: time.Hour}.Dated(set)
	for name, tt := range map[string]struct {
		h    Hold
		now  time.Time
		left time.Duration
		ends bool
	}{
		"until it is taken back":            {Hold{On: true}.Dated(set), set.Add(time.Hour), 0, false},
		"it was just set":                   {hour, set, time.Hour, true},
		"some of it":                        {hour, set.Add(20 * time.Minute), 40 * time.Minute, true},
		"over":                              {hour, set.Add(2 * time.Hour), 0, true},
		"the wall clock was set back":       {hour, set.Add(-24 * time.Hour), time.Hour, true},
		"in another zone":                   {hour, set.Add(20 * time.Minute).In(time.FixedZone("", 3600)), 40 * time.Minute, true},
		"never dated, from when it is read": {Hold{On: true, For: time.Hour}, set.Add(time.Hour), time.Hour, true},
	} {
		if left, ends := tt.h.Left(tt.now); left != tt.left || ends != tt.ends {
			t.Errorf("%s: %s left, ends %t", name, left, ends)
		}
	}
}

// What outlives the daemon: the lease of a maintenance that is over is what the peer's
// kernel may have, until the peer says otherwise.
func TestFoldOfHolds(t *testing.T) {
	on := Record{Kind: Maintaining, Reason: "kernel", UID: 7, Hold: Hold{On: true, Version: 3, By: "primary", Lease: 2 * time.Minute}}
	off := Record{Kind: Maintaining, Hold: Hold{Version: 4, By: "reserve"}}
	promised := Record{Kind: Leasing, Hold: Hold{Version: 3, By: "primary", Promised: true}}
	settled := Record{Kind: Leasing, Hold: Hold{Version: 4, By: "reserve", Settled: true}}
	block := Record{Kind: Blocking, Reason: "disk", UID: 9, Hold: Hold{On: true, For: time.Hour}}
	for name, tt := range map[string]struct {
		records []Record
		want    Memory
	}{
		"on": {[]Record{on}, Memory{Maintenance: Holding{on.Hold, "kernel", 7}, PeerLease: 2 * time.Minute}},
		"on, and the peer knows": {
			[]Record{on, promised},
			Memory{Maintenance: Holding{on.Hold, "kernel", 7}, PeerLease: 2 * time.Minute, Promised: true},
		},
		"off, and the peer may have the lease": {[]Record{on, promised, off}, Memory{Maintenance: Holding{Hold: off.Hold}, PeerLease: 2 * time.Minute}},
		"off, and it has it no longer":         {[]Record{on, promised, off, settled}, Memory{Maintenance: Holding{Hold: off.Hold}}},
		"what came too late says nothing":      {[]Record{on, settled}, Memory{Maintenance: Holding{on.Hold, "kernel", 7}, PeerLease: 2 * time.Minute}},
		"a block beside the rest":              {[]Record{block}, Memory{Block: Holding{block.Hold, "disk", 9}}},
		"the daemon left and was back":         {[]Record{on, {Kind: Parted}, {Kind: Adopted}}, Memory{Maintenance: Holding{on.Hold, "kernel", 7}, PeerLease: 2 * time.Minute}},
	} {
		var m Memory
		for _, r := range tt.records {
			m = m.Fold(r)
		}
		if diff := cmp.Diff(tt.want, m, cmpopts.IgnoreUnexported(Memory{})); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}
