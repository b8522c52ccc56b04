package replication

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func binlogState(s string) BinlogState {
	b, err := ParseBinlogState(s)
	if err != nil {
		panic(err)
	}
	return b
}

func mariaDB(state, applied string) History {
	return History{Flavor: FlavorMariaDB, BinlogState: Known(binlogState(state)), Applied: Known(position(applied))}
}

func mySQL(executed string) History {
	return History{Flavor: FlavorMySQL, Executed: Known(position(executed))}
}

func TestErrant(t *testing.T) {
	for _, tc := range []struct {
		name         string
		mine, theirs History
		want         string
		exact        bool
	}{
		{"MariaDB/equal", mariaDB("0-1-100", ""), mariaDB("0-1-100", "0-1-100"), "none", true},
		{"MariaDB/both new", mariaDB("", ""), mariaDB("", ""), "none", true},
		{"MariaDB/behind", mariaDB("0-1-90", ""), mariaDB("0-1-100,0-2-120", ""), "none", true},
		{
			"MariaDB/died with three that nobody received",
			mariaDB("0-4011-207", ""), mariaDB("0-4011-204,0-4012-206", "0-4011-204"), "3 transactions: 0-4011-205..207", true,
		},
		{"MariaDB/the other way round", mariaDB("0-4011-204,0-4012-206", "0-4011-204"), mariaDB("0-4011-207", ""), "about 2 transactions: 0-4012-205..206", false},
		{"MariaDB/one", mariaDB("0-1-101", ""), mariaDB("0-1-100", "0-1-100"), "1 transaction: 0-1-101", true},
		{"MariaDB/each domain on its own", mariaDB("0-1-101,7-1-9", ""), mariaDB("0-1-105,7-1-5", ""), "4 transactions: 7-1-6..9", true},
		{"MariaDB/a domain that the source lacks", mariaDB("0-1-5,9-2-3", ""), mariaDB("0-1-5", ""), "3 transactions: 9-2-1..3", true},
		{"MariaDB/nothing of its second reign arrived", mariaDB("0-1-203,0-2-200", ""), mariaDB("0-1-100,0-2-204", ""), "about 3 transactions: 0-1-201..203", false},
		{"MariaDB/a write beside the source's, on a replica", mariaDB("0-1-110,0-2-101", "0-1-110"), mariaDB("0-1-110", ""), "about 1 transaction: 0-2-101", false},
		{"MariaDB/the source does not log what it applies", mariaDB("0-1-100", ""), mariaDB("0-2-104", "0-1-100"), "none", true},
		{"MariaDB/the same, and more here", mariaDB("0-1-102", ""), mariaDB("0-2-104", "0-1-100"), "2 transactions: 0-1-101..102", true},
		{
			"MariaDB/what the source applied from elsewhere hides it", mariaDB("0-1-100,0-3-90", ""), mariaDB("", "0-1-100"),
			"not known: the source applied domain 0 up to 100 without writing it to its binary log, so whether it has 0-3-90 does not show", false,
		},
		{
			"MariaDB/hidden in one domain, plain in another", mariaDB("0-3-90,1-3-7", ""), mariaDB("1-3-6", "0-1-100"),
			"1 transaction and perhaps more: 1-3-7 (the source applied domain 0 up to 100 without writing it to its binary log, so whether it has 0-3-90 does not show)", false,
		},
		{
			"MariaDB/beyond what the source applied from elsewhere", mariaDB("0-3-105", ""), mariaDB("", "0-9-100"),
			"about 5 transactions: 0-3-101..105", false,
		},
		{"MariaDB/applied here and not logged", mariaDB("", "0-1-104"), mariaDB("0-1-100", ""), "4 transactions: 0-1-101..104", true},
		{"MariaDB/state unknown", History{Flavor: FlavorMariaDB, Applied: Known(Position{})}, mariaDB("0-1-1", ""), "not known: gtid_binlog_state is unknown, that of the source is known", false},
		{
			"MariaDB/applied unknown", mariaDB("0-1-1", ""),
			History{Flavor: FlavorMariaDB, BinlogState: Known(BinlogState{}), Applied: Null[Position]()},
			"not known: gtid_slave_pos is known, that of the source is NULL", false,
		},

		{"MySQL/equal", mySQL(uuidA + ":1-100"), mySQL(uuidA + ":1-100"), "none", true},
		{"MySQL/behind", mySQL(uuidA + ":1-90"), mySQL(uuidA + ":1-100," + uuidB + ":1-7"), "none", true},
		{"MySQL/both new", mySQL(""), mySQL(""), "none", true},
		{"MySQL/died with three that nobody received", mySQL(uuidA + ":1-207"), mySQL(uuidA + ":1-204," + uuidB + ":1"), "3 transactions: " + uuidA + ":205-207", true},
		{"MySQL/in gaps and under a tag", mySQL(uuidA + ":1-9:t:4"), mySQL(uuidA + ":1-3:5-9"), "2 transactions: " + uuidA + ":4:t:4", true},
		{"MySQL/the source has nothing", mySQL(uuidA + ":1-9"), mySQL(""), "9 transactions: " + uuidA + ":1-9", true},
		{"MySQL/unknown", History{Flavor: FlavorMySQL}, mySQL(uuidA + ":1"), "not known: gtid_executed is unknown, that of the source is known", false},
		{"MySQL/not a set", History{Flavor: FlavorMySQL, Executed: Known(position("0-1-1"))}, mySQL(uuidA + ":1"), "not known: gtid_executed is not a GTID set", false},

		{"two kinds", mySQL(uuidA + ":1"), mariaDB("0-1-1", ""), "not known: MySQL and MariaDB do not compare", false},
		{"kind unknown", History{}, mariaDB("0-1-1", ""), "not known: what kind of server it is was not read", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := tc.mine.Errant(tc.theirs)
			if d.String() != tc.want || d.Exact != tc.exact {
				t.Errorf("%s, exact %v, want %s, exact %v", d, d.Exact, tc.want, tc.exact)
			}
			if d.Known == strings.Contains(tc.want, "not") || d.Known && d.Why != "" {
				t.Errorf("known %v, why %q", d.Known, d.Why)
			}
		})
	}
}

func TestLacking(t *testing.T) {
	for _, tc := range []struct {
		name, have, want string // of which is lacking
		lacking          string
	}{
		{"MariaDB", "0-1-4706,1-1-3", "0-2-4711,1-1-3,2-5-2", "0-2-4707..4711,2-5-1..2"},
		{"MariaDB, one", "0-1-4706", "0-1-4707", "0-1-4707"},
		{"MariaDB, none", "0-1-4706", "0-1-4705", ""},
		{"MySQL", uuidA + ":1-5:9", uuidA + ":1-10," + uuidB + ":3", uuidA + ":6-8:10," + uuidB + ":3"},
		{"all of it", "", uuidA + ":1-2", uuidA + ":1-2"},
		{"nothing of nothing", "", "", ""},
	} {
		have, want := mustPosition(t, tc.have), mustPosition(t, tc.want)
		lacking, ok := have.Lacking(want)
		if !ok || lacking.String() != tc.lacking || lacking.Empty() != (tc.lacking == "") {
			t.Errorf("%s: %s, %v, want %s", tc.name, lacking, ok, tc.lacking)
		}
		if lacking.Count() != have.Missing(want) {
			t.Errorf("%s: %d lacking, %d missing", tc.name, lacking.Count(), have.Missing(want))
		}
		if (len(lacking.Ranges()) > 0) == !lacking.GTIDSet().Empty() && tc.lacking != "" {
			t.Errorf("%s: %v and %s", tc.name, lacking.Ranges(), lacking.GTIDSet())
		}
	}
	if _, ok := mustPosition(t, "0-1-1").Lacking(mustPosition(t, uuidA+":1")); ok {
		t.Error("two flavors compare")
	}
}

// logged is a MariaDB of one domain, with its whole binary log.
type logged struct {
	id       uint32
	logsAll  bool // log_slave_updates
	has      []GTID
	wrote    []GTID // what it committed itself
	replayed GTID   // the last it applied
}

func (s *logged) write() {
	var last uint64
	for _, g := range s.has {
		last = max(last, g.Sequence)
	}
	g := GTID{Server: s.id, Sequence: last + 1}
	s.has, s.wrote = append(s.has, g), append(s.wrote, g)
}

// apply takes up to n of what the source has.
func (s *logged) apply(source *logged, n int) {
	for _, g := range source.has {
		if n > 0 && !slices.Contains(s.has, g) {
			s.has, s.replayed = append(s.has, g), g
			n--
		}
	}
}

func (s *logged) history() History {
	log := s.wrote
	if s.logsAll {
		log = s.has
	}
	var b BinlogState
	for _, g := range log {
		b = b.with(PositionOf(g))
	}
	var applied Position
	if s.replayed != (GTID{}) {
		applied = PositionOf(s.replayed)
	}
	return History{Flavor: FlavorMariaDB, BinlogState: Known(b), Applied: Known(applied)}
}

// A property: over random lives of a pair, what is errant never passes for
// none, and what is said to be exact is the truth.
func TestErrantAgainstWholeLogs(t *testing.T) {
	exact, hidden := 0, 0
	for seed := range uint64(20000) {
		r := rand.New(rand.NewPCG(seed, 3))
		logsAll, stray := r.IntN(3) > 0, r.IntN(4) == 0
		source, replica := &logged{id: 11, logsAll: logsAll}, &logged{id: 12, logsAll: logsAll}
		var life []string
		if r.IntN(4) == 0 {
			// Both were made from a third, which is gone.
			third := &logged{id: 10}
			third.write()
			source.apply(third, 1)
			replica.apply(third, 1)
			life = append(life, "born of a third")
		}
		for range 1 + r.IntN(8) {
			for range r.IntN(4) {
				source.write()
			}
			replica.apply(source, r.IntN(5))
			if stray && r.IntN(3) == 0 {
				replica.write()
				life = append(life, "stray write")
			}
			if r.IntN(2) == 0 {
				replica.apply(source, len(source.has))
				source, replica = replica, source
				life = append(life, "switchover")
			}
		}
		// The source dies, its replica goes on with what it has.
		for range r.IntN(3) {
			replica.write()
		}
		var truth []string
		for _, g := range source.has {
			if !slices.Contains(replica.has, g) {
				truth = append(truth, g.String())
			}
		}
		d := source.history().Errant(replica.history())
		describe := fmt.Sprintf("seed %d, logs all %v, %v: old %v, new %v, errant %v, said %s",
			seed, logsAll, life, source.has, replica.has, truth, d)
		var said []string
		for _, one := range d.Errant.Ranges() {
			for n := one.First; n <= one.Last; n++ {
				said = append(said, GTID{one.Domain, one.Server, n}.String())
			}
		}
		if d.Known && len(truth) > 0 && len(said) == 0 {
			t.Fatal("passes for none: " + describe)
		}
		if d.Known && len(truth) == 0 && len(said) > 0 {
			t.Fatal("out of nothing: " + describe)
		}
		if !d.Known {
			hidden++
			continue
		}
		// Where only sources write, the list is right even when it cannot be sure.
		if d.Exact || !stray {
			if diff := cmp.Diff(truth, said); diff != "" {
				t.Fatalf("%s\n%s", describe, diff)
			}
		}
		if d.Exact {
			exact++
		}
	}
	if exact < 5000 || hidden < 100 || hidden > 5000 {
		t.Errorf("%d exact, %d hidden: the test shows little", exact, hidden)
	}
}
