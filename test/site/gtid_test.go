package site

import (
	"testing"
)

func TestPosition(t *testing.T) {
	parse := func(text string) Position {
		t.Helper()
		p, err := ParsePosition(text)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, tc := range []struct {
		have, want string
		lacks      uint64
	}{
		{"", "", 0},
		{"", "0-1-5", 5},
		{"0-1-5", "", 0},
		{"0-1-5", "0-1-5", 0},
		{"0-2-7", "0-1-5", 0},
		{"0-1-5", "0-2-7", 2},
		{"0-1-5,1-1-3", "1-2-4,0-1-9", 5},
		{"0-1-5", "2-1-1", 1},
	} {
		if got := parse(tc.have).Lacks(parse(tc.want)); got != tc.lacks {
			t.Errorf("%q lacks %d of %q, want %d", tc.have, got, tc.want, tc.lacks)
		}
		if got := parse(tc.have).Covers(parse(tc.want)); got != (tc.lacks == 0) {
			t.Errorf("%q covers %q: %t", tc.have, tc.want, got)
		}
	}
	for _, bad := range []string{"0", "0-1", "0-1-2-3", "a-1-2", "0-1-x", "4294967296-1-1"} {
		if p, err := ParsePosition(bad); err == nil {
			t.Errorf("%q is taken for %v", bad, p)
		}
	}
}

func TestCompareRows(t *testing.T) {
	acks := []Ack{{ID: 1}, {ID: 2}, {ID: 3}}
	r := compareRows(1, acks, map[int64]int{1: 1, 3: 2, 9: 1})
	if r.Found != 2 || len(r.Missing) != 1 || r.Missing[0].ID != 2 || len(r.Duplicated) != 1 || r.Duplicated[0] != 3 || r.Unheard != 1 {
		t.Errorf("%+v", r)
	}
}
