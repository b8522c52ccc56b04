package replication

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func mustPosition(t testing.TB, s string) Position {
	t.Helper()
	p, err := ParsePosition(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParsePosition(t *testing.T) {
	for _, tc := range []struct{ name, in, out, err string }{
		{"empty", "", "", ""},
		{"blank", " \n", "", ""},
		{"one", "0-1-100", "0-1-100", ""},
		{"sorted", "7-2-5,0-1-100", "0-1-100,7-2-5", ""},
		{"newline between", "0-1-100,\n1-2-5", "0-1-100,1-2-5", ""},
		{"largest", "4294967295-4294967295-18446744073709551615", "4294967295-4294967295-18446744073709551615", ""},
		{"domain too large", "4294967296-1-1", "", `domain of "4294967296-1-1"`},
		{"sequence too large", "0-1-18446744073709551616", "", "not a number of 64 bits"},
		{"two parts", "0-1", "", "is not domain-server-sequence"},
		{"four parts", "0-1-2-3", "", "is not domain-server-sequence"},
		{"sign", "0-1-+5", "", "not a number"},
		{"underscore", "0-1-1_0", "", "not a number"},
		{"trailing comma", "0-1-1,", "", "is not domain-server-sequence"},
		{"domain twice", "0-1-1,0-2-2", "", "domain 0 appears twice"},
		{"MySQL set", uuidB + ":1-5:7,\n" + uuidA + ":1:TAG:2", uuidA + ":1:tag:2," + uuidB + ":1-5:7", ""},
		{"MySQL set out of range", uuidA + ":0", "", "0 is not a transaction number"},
		{"MariaDB first, then MySQL", "0-1-5," + uuidA + ":1", "", "is not a UUID"},
		{"UUID alone", uuidA, "", "is not domain-server-sequence"},
		{"endless", strings.Repeat("1", maxPositionLength+1), "", "longer than"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := ParsePosition(tc.in)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error %v, want one with %q", err, tc.err)
				}
				if len(err.Error()) > 400 {
					t.Errorf("error of %d bytes", len(err.Error()))
				}
				return
			}
			if err != nil || p.String() != tc.out {
				t.Fatalf("%q, %v, want %q", p, err, tc.out)
			}
		})
	}
}

func TestPositionArithmetic(t *testing.T) {
	mysql := func(s string) Position { return mustSet(t, s).Position() }
	for _, tc := range []struct {
		name    string
		p, q    Position
		missing uint64
		merged  string
	}{
		{"equal", mustPosition(t, "0-1-100"), mustPosition(t, "0-1-100"), 0, "0-1-100"},
		{"ahead", mustPosition(t, "0-1-101"), mustPosition(t, "0-1-100"), 0, "0-1-101"},
		{"behind", mustPosition(t, "0-1-88"), mustPosition(t, "0-1-100"), 12, "0-1-100"},
		{"other server", mustPosition(t, "0-2-88"), mustPosition(t, "0-1-100"), 12, "0-1-100"},
		{"each domain on its own", mustPosition(t, "0-1-500,1-1-3"), mustPosition(t, "0-1-100,1-1-5"), 2, "0-1-500,1-1-5"},
		{"unknown domain counts whole", mustPosition(t, "0-1-5"), mustPosition(t, "3-1-7"), 7, "0-1-5,3-1-7"},
		{"empty covers empty", Position{}, Position{}, 0, ""},
		{"empty lacks all", Position{}, mustPosition(t, "0-1-5"), 5, "0-1-5"},
		{"everything covers empty", mustPosition(t, "0-1-5"), Position{}, 0, "0-1-5"},
		{"sum saturates", Position{}, mustPosition(t, "0-1-18446744073709551615,1-1-2"), math.MaxUint64, "0-1-18446744073709551615,1-1-2"},
		{"MariaDB does not cover MySQL", mustPosition(t, "0-1-100"), mysql(uuidA + ":1"), math.MaxUint64, "0-1-100"},
		{"MySQL does not cover MariaDB", mysql(uuidA + ":1"), mustPosition(t, "0-1-100"), math.MaxUint64, uuidA + ":1"},
		{"MySQL equal", mysql(uuidA + ":1-5"), mysql(uuidA + ":1-5"), 0, uuidA + ":1-5"},
		{"MySQL ahead", mysql(uuidA + ":1-9"), mysql(uuidA + ":1-5"), 0, uuidA + ":1-9"},
		{"MySQL behind", mysql(uuidA + ":1-5"), mysql(uuidA + ":1-9," + uuidB + ":1-3"), 7, uuidA + ":1-9," + uuidB + ":1-3"},
		{"MySQL with a gap lacks what is in it", mysql(uuidA + ":1-3:7-9"), mysql(uuidA + ":1-8"), 3, uuidA + ":1-9"},
		{"MySQL, each with its own", mysql(uuidA + ":1-3"), mysql(uuidB + ":1-2"), 2, uuidA + ":1-3," + uuidB + ":1-2"},
		{"MySQL, empty lacks all", Position{}, mysql(uuidA + ":2-5"), 4, uuidA + ":2-5"},
		{"MySQL covers empty", mysql(uuidA + ":2-5"), Position{}, 0, uuidA + ":2-5"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.p.Missing(tc.q); got != tc.missing {
				t.Errorf("missing %d, want %d", got, tc.missing)
			}
			if got := tc.p.Covers(tc.q); got != (tc.missing == 0) {
				t.Errorf("covers %v with %d missing", got, tc.missing)
			}
			if got := tc.p.Merge(tc.q).String(); got != tc.merged {
				t.Errorf("merged %q, want %q", got, tc.merged)
			}
		})
	}
}

func TestPositionDiverged(t *testing.T) {
	ours, theirs, ok := mustPosition(t, "0-2-100,1-1-1").Diverged(mustPosition(t, "0-1-100"))
	if !ok || ours.String() != "0-2-100" || theirs.String() != "0-1-100" {
		t.Errorf("diverged %v: %s and %s", ok, ours, theirs)
	}
	if _, _, ok := mustPosition(t, "0-2-101").Diverged(mustPosition(t, "0-1-100")); ok {
		t.Error("a later transaction of another server counts as diverged")
	}
}

func TestPositionFlavor(t *testing.T) {
	for _, tc := range []struct {
		text   string
		flavor Flavor
		isSet  bool
		gtids  int
	}{
		{"", FlavorNone, true, 0},
		{"0-1-100,1-1-2", FlavorMariaDB, false, 2},
		{uuidA + ":1-5", FlavorMySQL, true, 0},
	} {
		p := mustPosition(t, tc.text)
		set, isSet := p.GTIDSet()
		if p.Flavor() != tc.flavor || isSet != tc.isSet || len(p.GTIDs()) != tc.gtids || p.Empty() != (tc.text == "") {
			t.Errorf("%q: flavor %s, a set %v, %d domains, empty %v", tc.text, p.Flavor(), isSet, len(p.GTIDs()), p.Empty())
		}
		if isSet && !set.Position().Equal(p) {
			t.Errorf("%q: the set %s makes another position", tc.text, set)
		}
	}
	different := []string{"", "0-1-1", "0-1-2", uuidA + ":1", uuidA + ":1-2", uuidA + ":tag:1"}
	for i, a := range different {
		for j, b := range different {
			if got := mustPosition(t, a).Equal(mustPosition(t, b)); got != (i == j) {
				t.Errorf("%q and %q are equal: %v", a, b, got)
			}
		}
	}
	if _, _, diverged := mustPosition(t, uuidA+":1").Diverged(mustPosition(t, uuidB+":1")); diverged {
		t.Error("sets of two servers have diverged by number")
	}
	if got := FlavorNone.String() + FlavorMariaDB.String() + FlavorMySQL.String() + Flavor(9).String(); got != "noneMariaDBMySQLinvalid (9)" {
		t.Error(got)
	}
}

func TestPositionIsImmutable(t *testing.T) {
	p := mustPosition(t, "0-1-1,2-1-1")
	p.Merge(mustPosition(t, "0-1-9,1-1-9"))
	p.GTIDs()[0].Sequence = 77
	if p.String() != "0-1-1,2-1-1" {
		t.Errorf("changed to %s", p)
	}
	q := mustPosition(t, uuidA+":1-3,"+uuidC+":1")
	q.Merge(mustPosition(t, uuidA+":4,"+uuidB+":1"))
	q.Merge(mustPosition(t, uuidA+":2-9"))
	if q.String() != uuidA+":1-3,"+uuidC+":1" {
		t.Errorf("changed to %s", q)
	}
}

func TestBinlogStateErrant(t *testing.T) {
	old, err := ParseBinlogState("0-4011-207,1-4011-3")
	if err != nil {
		t.Fatal(err)
	}
	source, err := ParseBinlogState("0-4012-206,0-4011-204,1-4011-3")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]GTID{{0, 4011, 207}}, old.Errant(source)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]GTID{{0, 4012, 206}}, source.Errant(old)); diff != "" {
		t.Error(diff)
	}
	if got := source.String(); got != "0-4011-204,0-4012-206,1-4011-3" {
		t.Error(got)
	}
	if _, err := ParseBinlogState("0-1-1,0-1-2"); err == nil {
		t.Error("a server twice in a domain parses")
	}
}

func FuzzPosition(f *testing.F) {
	for _, s := range []string{"", "0-1-100", "0-1-100,1-2-5", "5-4-3,2-1-0", "0-1-18446744073709551615,9-9-9", "a:1-2", "0-1-1,0-1-1", uuidA + ":1-5:7:t:1," + uuidB + ":2"} {
		f.Add(s, "0-1-99,1-2-7")
		f.Add(s, uuidA+":2-6:t:1-2")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		p, errP := ParsePosition(a)
		q, errQ := ParsePosition(b)
		if errP != nil || errQ != nil {
			return
		}
		back, err := ParsePosition(p.String())
		if err != nil {
			t.Fatalf("%q does not parse back: %v", p, err)
		}
		if diff := cmp.Diff(p, back); diff != "" {
			t.Fatal(diff)
		}
		if len(a)+len(b) > maxPositionLength/4 {
			return
		}
		merged := p.Merge(q)
		if !p.Empty() && !q.Empty() && p.Flavor() != q.Flavor() {
			if p.Covers(q) || q.Covers(p) || p.Missing(q) != math.MaxUint64 || !merged.Equal(p) {
				t.Fatalf("%s and %s mix", p, q)
			}
			return
		}
		if !merged.Covers(p) || !merged.Covers(q) || !p.Covers(p) {
			t.Fatalf("%s merged with %s gives %s", p, q, merged)
		}
		if !merged.Merge(p).Equal(merged) {
			t.Fatalf("%s merged twice with %s changes", q, p)
		}
		if p.Covers(q) && q.Covers(p) && p.Missing(merged) != 0 {
			t.Fatalf("%s and %s cover each other and not their merger", p, q)
		}
	})
}
