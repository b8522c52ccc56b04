package hooks

import (
	"testing"
	"time"
)

// at makes entries a second apart.
func at(records ...Record) []Entry {
	var es []Entry
	for i, r := range records {
		r.Instance = "compass"
		es = append(es, Entry{At: time.Unix(int64(i), 0).UTC(), Record: r})
	}
	return es
}

func step(epoch uint64, role Role, name string) Record {
	return Record{Kind: Stepped, Epoch: epoch, Role: role, Step: Result{Name: name, Outcome: Changed}}
}

func began(epoch uint64, role Role, planned bool) Record {
	return Record{Kind: Began, Epoch: epoch, Role: role, Planned: planned}
}

func ended(epoch uint64, role Role, e Ending) Record {
	return Record{Kind: Ended, Epoch: epoch, Role: role, Ending: e, Duration: time.Second}
}

// summary is a passage without its dates.
type summary struct {
	kind                        RecordKind
	epoch                       uint64
	role                        Role
	ending                      Ending
	next                        uint64
	steps, losses, overrides    int
	open, takenBack, undoes     bool
	acquired, reverted, atLarge bool
}

func summarised(p Passage) summary {
	return summary{
		p.Record.Kind, p.Record.Epoch, p.Record.Role, p.Ending, p.Next, len(p.Steps), len(p.Losses), len(p.Overrides),
		p.Open, p.TakenBack, p.Undoes, !p.Acquired.IsZero(), !p.Reverted.IsZero(), !p.Transition,
	}
}

func TestHistory(t *testing.T) {
	for name, tt := range map[string]struct {
		in   []Record
		want []summary
	}{
		"a takeover with a loss": {
			[]Record{began(5, Active, false), {Kind: Missed, Epoch: 5}, step(5, Active, "writes"), ended(5, Active, Completed)},
			[]summary{{kind: Began, epoch: 5, role: Active, ending: Completed, steps: 1, losses: 1}},
		},
		"a switchover, the old node": {
			[]Record{
				{Kind: Learned, Epoch: 6, Planned: true},
				began(5, Standby, true), step(5, Standby, "writes"),
				step(6, Standby, "vip"), ended(6, Standby, Completed),
			},
			[]summary{{kind: Began, epoch: 5, role: Standby, ending: Completed, next: 6, steps: 2}},
		},
		"a switchover, the new node": {
			[]Record{began(6, Active, true), step(6, Active, "writes"), {Kind: Acquired, Epoch: 6, Role: Active}, ended(6, Active, Completed)},
			[]summary{{kind: Began, epoch: 6, role: Active, ending: Completed, steps: 1, acquired: true}},
		},
		"forced by an operator, the old node": {
			[]Record{
				{Kind: Override, Epoch: 5, Role: Standby, UID: 1000}, {Kind: Learned, Epoch: 6, Planned: true}, began(5, Standby, true),
			},
			[]summary{{kind: Began, epoch: 5, role: Standby, next: 6, overrides: 1, open: true}},
		},
		"forced by an operator, alone": {
			[]Record{{Kind: Override, Epoch: 6, Role: Active}, began(6, Active, false), ended(6, Active, Completed)},
			[]summary{{kind: Began, epoch: 6, role: Active, ending: Completed, overrides: 1}},
		},
		"an override of something else stands by itself": {
			[]Record{{Kind: Override, Epoch: 5, Role: Standby}, began(5, Standby, false), ended(5, Standby, Completed)},
			[]summary{{kind: Override, epoch: 5, role: Standby, atLarge: true}, {kind: Began, epoch: 5, role: Standby, ending: Completed}},
		},
		"taken back before the address moved": {
			[]Record{
				{Kind: Learned, Epoch: 6, Planned: true},
				began(5, Standby, true), step(5, Standby, "writes"),
				began(7, Active, false), ended(7, Active, Completed), began(7, Active, true), step(7, Active, "undo writes"), ended(7, Active, Completed),
			},
			[]summary{
				{kind: Began, epoch: 5, role: Standby, next: 6, steps: 1, takenBack: true},
				{kind: Began, epoch: 7, role: Active, ending: Completed},
				{kind: Began, epoch: 7, role: Active, ending: Completed, steps: 1, undoes: true},
			},
		},
		"a promotion that failed": {
			[]Record{
				began(6, Active, false), step(6, Active, "writes"), ended(6, Active, Aborted), began(6, Standby, false),
				step(6, Standby, "undo writes"), ended(6, Standby, Completed),
				{Kind: Reverted, Epoch: 6, Role: Standby},
			},
			[]summary{
				{kind: Began, epoch: 6, role: Active, ending: Aborted, steps: 1, reverted: true},
				{kind: Began, epoch: 6, role: Standby, ending: Completed, steps: 1, undoes: true},
			},
		},
		"the daemon ended in one": {
			[]Record{began(6, Active, false), step(6, Active, "writes"), began(6, Standby, false), ended(6, Standby, Completed)},
			[]summary{{kind: Began, epoch: 6, role: Active, steps: 1}, {kind: Began, epoch: 6, role: Standby, ending: Completed}},
		},
		"tried again until it was whole": {
			[]Record{
				began(6, Active, false), step(6, Active, "unit"), ended(6, Active, Aborted), step(6, Active, "unit"), ended(6, Active, Completed),
			},
			[]summary{{kind: Began, epoch: 6, role: Active, ending: Completed, steps: 2}},
		},
		"the beginning was rotated out": {
			[]Record{step(5, Active, "unit"), ended(5, Active, Completed), {Kind: Acquired, Epoch: 4}, {Kind: Reverted, Epoch: 4}, {Kind: Missed, Epoch: 4}},
			[]summary{
				{kind: Stepped, epoch: 5, role: Active, atLarge: true},
				{kind: Ended, epoch: 5, role: Active, atLarge: true},
				{kind: Acquired, epoch: 4, atLarge: true},
				{kind: Reverted, epoch: 4, atLarge: true},
				{kind: Missed, epoch: 4, atLarge: true},
			},
		},
		"what this release does not know": {
			[]Record{began(5, Active, false), {Kind: 255, Epoch: 5}, ended(5, Active, Completed), {Kind: Learned, Epoch: 9}},
			[]summary{
				{kind: Began, epoch: 5, role: Active, ending: Completed},
				{kind: 255, epoch: 5, atLarge: true},
				{kind: Learned, epoch: 9, atLarge: true},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := History(at(tt.in...))
			for i := range max(len(got), len(tt.want)) {
				if i >= len(got) || i >= len(tt.want) {
					t.Fatalf("%d passages, want %d: %+v", len(got), len(tt.want), got)
				}
				if s := summarised(got[i]); s != tt.want[i] {
					t.Errorf("passage %d:\n got %+v\nwant %+v", i, s, tt.want[i])
				}
			}
		})
	}
}

// Nothing is lost or told twice, whatever the entries are.
func FuzzHistory(f *testing.F) {
	f.Add([]byte{1, 2, 3, 0x14, 0x24, 0x65, 0xff})
	f.Fuzz(func(t *testing.T, ops []byte) {
		var rs []Record
		for _, b := range ops {
			rs = append(rs, Record{
				Kind: RecordKind(b % 11), Epoch: uint64(b>>4) % 4, Role: Role(b>>3) % 3, Planned: b&0x40 != 0, Ending: Completed,
			})
		}
		told := 0
		for _, p := range History(at(rs...)) {
			told += 1 + len(p.Steps) + len(p.Losses) + len(p.Overrides)
			for _, yes := range []bool{p.Next != 0, !p.Acquired.IsZero(), !p.Reverted.IsZero()} {
				if yes {
					told++
				}
			}
			if !p.Transition && (len(p.Steps) > 0 || p.Open) {
				t.Fatalf("not a transition: %+v", p)
			}
		}
		endings := 0
		for _, r := range rs {
			if r.Kind == Ended || r.Kind == Acquired || r.Kind == Learned {
				endings++ // a later one replaces an earlier one
			}
		}
		if told > len(rs) || told+endings < len(rs) {
			t.Fatalf("%d records, %d told", len(rs), told)
		}
	})
}
