package peer

// The names of enum values on the wire are those of status, log and journal: the text
// of the package that owns the enum. A name once sent keeps its meaning for the life
// of Version.

import (
	"math"
	"strings"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/replication"
)

// unknown is what a name of a newer release reads as: a value that nothing
// compares equal to and that is no success, no state with rights and no stage to
// go on from. unknownName is what it is sent as.
const (
	unknown     = math.MaxUint8
	unknownName = "?"
)

// textOf names a value. One without a name is not sent but for 0, which then
// stands for none.
func textOf[E ~uint8](names map[E]string, e E) string {
	if s, ok := names[e]; ok || e == 0 {
		return s
	}
	return unknownName
}

// valueOf reads a name.
func valueOf[E ~uint8](names map[E]string, s string) E {
	if _, ok := names[0]; s == "" && !ok {
		return 0
	}
	for e, name := range names {
		if name == s {
			return e
		}
	}
	return unknown
}

// named returns the names of an enum from its first value that travels by name on: the
// owner's own words, which end where a value has none but its number.
func named[E interface {
	~uint8
	String() string
}](first E) map[E]string {
	names := map[E]string{}
	for e := first; e < unknown && !strings.HasSuffix(e.String(), ")"); e++ {
		names[e] = e.String()
	}
	return names
}

var (
	stateNames   = named(failover.Initialize)
	reasonNames  = named(failover.Starting)
	sourcesNames = named(failover.NoDatabases)
	giveNames    = named(failover.GivePreparing)
	takeNames    = named(failover.TakePreparing)
	outcomeNames = named(failover.Done)
	stepNames    = named(hooks.Pending)
	codeNames    = named(replication.IOStopped)
)
