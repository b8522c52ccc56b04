package replication

import "testing"

func TestWrittenSince(t *testing.T) {
	const own, other = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
	for _, tt := range []struct {
		name           string
		base, executed string
		applied        string
		server         Optional[uint32]
		uuid           Optional[string]
		want           uint64
		known          bool
	}{
		{"MariaDB/nothing", "0-2-100", "0-2-100", "0-2-100", Known[uint32](1), Unknown[string](), 0, true},
		{"MariaDB/own writes", "0-2-100", "0-1-103", "0-2-100", Known[uint32](1), Unknown[string](), 3, true},
		{"MariaDB/own writes in two domains", "0-2-100,1-1-5", "0-1-103,1-1-7", "", Known[uint32](1), Unknown[string](), 5, true},
		{"MariaDB/a domain of its own", "0-2-100", "0-2-100,7-1-4", "", Known[uint32](1), Unknown[string](), 4, true},
		{"MariaDB/the source's writes are not its own", "0-2-100", "0-2-140", "0-2-140", Known[uint32](1), Unknown[string](), 0, true},
		{"MariaDB/from nothing", "", "0-1-4", "", Known[uint32](1), Unknown[string](), 4, true},
		{"MariaDB/behind the base", "0-1-100", "0-1-90", "", Known[uint32](1), Unknown[string](), 0, true},
		{"MariaDB/server_id not read", "0-2-100", "0-1-103", "", Unknown[uint32](), Unknown[string](), 0, false},
		{"MySQL/own writes", other + ":1-100", other + ":1-100," + own + ":1-3", "", Known[uint32](1), Known(own), 3, true},
		{"MySQL/the source's writes are not its own", other + ":1-100", other + ":1-130", "", Known[uint32](1), Known(own), 0, true},
		{"MySQL/server_uuid not read", other + ":1-100", own + ":1-3", "", Known[uint32](1), Unknown[string](), 0, false},
		{"two flavors", "0-2-100", own + ":1-3", "", Known[uint32](1), Known(own), 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			position := func(s string) Position {
				p, err := ParsePosition(s)
				if err != nil {
					t.Fatal(err)
				}
				return p
			}
			f := Facts{ServerID: tt.server, ServerUUID: tt.uuid, Executed: Known(position(tt.executed)), Applied: Known(position(tt.applied))}
			if n, known := f.WrittenSince(position(tt.base)); n != tt.want || known != tt.known {
				t.Errorf("%d, %t; want %d, %t", n, known, tt.want, tt.known)
			}
		})
	}
}

func TestWrote(t *testing.T) {
	const own, other = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
	set := func(s string) Transactions {
		g, err := ParseGTIDSet(s)
		if err != nil {
			t.Fatal(err)
		}
		return Transactions{set: g}
	}
	mine := Facts{ServerID: Known[uint32](1), ServerUUID: Known(own)}
	for _, tt := range []struct {
		name string
		of   Facts
		ts   Transactions
		want bool
	}{
		{"MariaDB/its own", mine, Transactions{ranges: []GTIDRange{{0, 2, 1, 2}, {0, 1, 5, 9}}}, true},
		{"MariaDB/another's", mine, Transactions{ranges: []GTIDRange{{0, 2, 1, 2}}}, false},
		{"MySQL/its own", mine, set(other + ":1-2," + own + ":4"), true},
		{"MySQL/another's", mine, set(other + ":1-2"), false},
		{"none", mine, Transactions{}, false},
		{"of nobody's name", Facts{}, Transactions{ranges: []GTIDRange{{0, 0, 1, 2}}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.of.Wrote(tt.ts); got != tt.want {
				t.Errorf("%t", got)
			}
		})
	}
}
