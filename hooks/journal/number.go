package journal

// Every entry has a number, which it keeps over rotations and restarts, so that a
// reader can say from where it wants to go on. An entry that no fsync confirmed may be
// gone after a crash, though somebody has seen it. So that its number is never given
// to another, a start leaves out as many as there can be of those behind the last one
// on the disk, and tells of none before one of its own is there.

import (
	"math"
	"os"
)

const (
	// skippedAtStart is more than what maxUnsynced and owedLimit hold of the smallest entries.
	skippedAtStart = 8192
	largestNumber  = math.MaxUint64
)

// Next returns the number that the next entry gets, and how many before it no entry
// has.
func (j *Journal) Next() (number, skipped uint64) { return j.next, j.skipped }

// Tell lets told take what is appended from now on, in the call that appends it; what
// comes before the first successful Sync, in that. It must not block.
func (j *Journal) Tell(told func([]Entry)) { j.told = told }

// numberFrom goes on after the highest number there was.
func (j *Journal) numberFrom(entries []Entry) {
	highest := highestNumber(entries)
	if highest == 0 {
		// A file that could not be read was put aside, with its numbers.
		if data, err := os.ReadFile(j.path + rotatedSuffix); err == nil {
			before, _ := scan(data).entries()
			highest = highestNumber(before)
		}
	}
	j.next, j.skipped = highest+1, 0
	if highest > 0 {
		j.next, j.skipped = j.next+skippedAtStart, skippedAtStart
	}
}

func highestNumber(entries []Entry) (highest uint64) {
	for _, e := range entries {
		highest = max(highest, e.Number)
	}
	return highest
}

// number gives entries the numbers that they get if they can be written.
func (j *Journal) number(entries []Entry) {
	for i := range entries {
		entries[i].Number, entries[i].Skipped = j.next+uint64(i), 0
	}
	if len(entries) > 0 {
		entries[0].Skipped = j.skipped
	}
}

// numbered tells of entries that were written.
func (j *Journal) numbered(all []record) {
	j.next, j.skipped = j.next+uint64(len(all)), 0
	if j.told == nil {
		return
	}
	for _, r := range all {
		j.untold = append(j.untold, *r.entry)
	}
	if j.anchored {
		j.tell()
	}
}

// anchor is called when all that was appended is on the disk.
func (j *Journal) anchor() {
	if !j.anchored && j.skipped == 0 {
		j.anchored = true
		j.tell()
	}
}

func (j *Journal) tell() {
	if len(j.untold) > 0 && j.told != nil {
		j.told(j.untold)
	}
	j.untold = nil
}
