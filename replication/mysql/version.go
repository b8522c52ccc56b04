package mysql

// What a server is gets read from its version, never configured. One that is not
// known is refused: a guess would find out in the middle of a failover.

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

type family uint8

const (
	familyUnknown family = iota
	familyMariaDB
	familyMySQL
)

// release is the number of a server's release.
type release struct{ major, minor, patch int }

func (r release) atLeast(other release) bool {
	switch {
	case r.major != other.major:
		return r.major > other.major
	case r.minor != other.minor:
		return r.minor > other.minor
	default:
		return r.patch >= other.patch
	}
}

// version is what VERSION() says.
type version struct {
	family  family
	release release
	text    string
}

// impostors name themselves behind a MySQL version and speak its protocol; their
// replication, where they have any, is another.
var impostors = [...]string{"tidb", "vitess", "oceanbase", "singlestore", "memsql", "doris", "starrocks", "polardb-x"}

// parseVersion reads VERSION(). MariaDB always names itself there; a server that
// names neither itself nor another is of the MySQL family.
func parseVersion(s string) version {
	v := version{text: s, family: familyMySQL}
	number, lower := s, strings.ToLower(s)
	switch {
	case strings.Contains(lower, "mariadb"):
		v.family = familyMariaDB
		// Old MariaDB hides behind a MySQL version for the sake of old replicas.
		number = strings.TrimPrefix(s, "5.5.5-")
	case slices.ContainsFunc(impostors[:], func(name string) bool { return strings.Contains(lower, name) }):
		return version{text: s}
	}
	number, _, _ = strings.Cut(number, "-")
	parts := strings.Split(number, ".")
	if len(parts) < 2 {
		return version{text: s}
	}
	var err error
	for i, p := range []*int{&v.release.major, &v.release.minor, &v.release.patch} {
		if i >= len(parts) {
			break
		}
		if *p, err = strconv.Atoi(parts[i]); err != nil {
			return version{text: s}
		}
	}
	return v
}

// mysqlUnknown is the first major release of MySQL of which nothing is known. MariaDB
// has none: it keeps its old words.
const mysqlUnknown = 10

// dialectOf returns the dialect for a server, or why there is none.
func dialectOf(v version) (*dialect, error) {
	if v.family == familyMySQL && v.release.major >= mysqlUnknown {
		return nil, &unsupportedError{"MySQL " + v.text + " is newer than 9, the last this release knows"}
	}
	for i := range dialects {
		if d := &dialects[i]; d.family == v.family && v.release.atLeast(d.since) {
			return d, nil
		}
	}
	switch v.family {
	case familyMariaDB:
		return nil, &unsupportedError{"MariaDB " + v.text + " is older than 10.5"}
	case familyMySQL:
		return nil, &unsupportedError{"MySQL " + v.text + " is older than 5.7.8"}
	default:
		return nil, &unsupportedError{fmt.Sprintf("server of version %q is not known", v.text)}
	}
}

// unsupportedError says that a server answered and cannot be spoken with.
type unsupportedError struct{ what string }

func (e *unsupportedError) Error() string { return e.what }
