package sim

import (
	"fmt"
	"io"
	"time"
)

// plainFailovers is how many failovers one seed of the plain scenario has.
const plainFailovers = 20

func world(scenario string, seed uint64) (*World, error) {
	switch scenario {
	case "plain":
		return Plain(seed, plainFailovers, DefaultSetup()), nil
	case "faults":
		return Faults(seed), nil
	case "address":
		return Address(seed), nil
	case "foreign":
		return Foreign(seed), nil
	case "maintenance":
		return Maintained(seed), nil
	case "witness":
		return Witness(seed), nil
	case "boundaries":
		return Boundary(seed)
	}
	return nil, fmt.Errorf("scenario %s is not plain, faults, address, foreign, maintenance, witness or boundaries", scenario)
}

// Tally is what happened in one or more seeds.
type Tally struct {
	// Failovers counts how often the address moved or was taken again after it
	// was lost. The first time in a world is none.
	Failovers int
	Simulated time.Duration
	Steps     uint64        // of the cores
	Rounds    int           // of the address scenario: everything broken was healed
	Unlucky   int           // second holders that loss excuses: no packet of the peer came
	Races     int           // second holders whose claims crossed on the wire, without the link
	Longest   time.Duration // from healed to one holder
	PutBacks  int           // second holders that put back what somebody had taken off
	Overrun   int           // second holders that are another router's doing
	Restored  int           // addresses that somebody took off and the holder put back
	Removed   int           // addresses that somebody put on a node and it took off
	Downs     int           // addresses let go of over a link that was down
	Fenced    int           // takeovers behind a required fence
	Unhealthy int           // demotions that a health check brought about
	Salvaged  int           // switchovers away from a database that died
	Parted    int           // daemons that left under maintenance with the address
	Adopted   int           // and were found by the next one
	Alone     int           // second holders that an operator took upon himself
	Vouched   int           // takeovers that a witness had a say in
	Conflicts int           // conflicts that an operator cleared
	Contests  int           // Actives that gave way to one of the same epoch that took the writes
}

// Add adds what happened in other seeds.
func (t *Tally) Add(u Tally) {
	t.Failovers += u.Failovers
	t.Simulated += u.Simulated
	t.Steps += u.Steps
	t.Rounds += u.Rounds
	t.Unlucky += u.Unlucky
	t.Races += u.Races
	t.PutBacks += u.PutBacks
	t.Overrun += u.Overrun
	t.Restored += u.Restored
	t.Removed += u.Removed
	t.Downs += u.Downs
	t.Fenced += u.Fenced
	t.Salvaged += u.Salvaged
	t.Unhealthy += u.Unhealthy
	t.Parted += u.Parted
	t.Adopted += u.Adopted
	t.Alone += u.Alone
	t.Vouched += u.Vouched
	t.Conflicts += u.Conflicts
	t.Contests += u.Contests
	t.Longest = max(t.Longest, u.Longest)
}

func (w *World) tally() Tally {
	return Tally{
		Failovers: max(0, w.takeovers-1), Simulated: w.now, Steps: w.stepped,
		Rounds: w.rounds, Unlucky: w.unlucky, Races: w.races, Longest: w.longest,
		PutBacks: w.putBacks, Overrun: w.overrun, Restored: w.restored, Removed: w.removed, Downs: w.downs, Fenced: w.fenced,
		Salvaged: w.salvaged, Unhealthy: w.unhealthy, Parted: w.parted, Adopted: w.adopted, Alone: w.alone,
		Vouched: w.vouched, Conflicts: w.conflicts, Contests: w.contests,
	}
}

// Play runs one seed of a scenario and returns what happened, and what a checker
// said.
func Play(scenario string, seed uint64) (Tally, error) {
	w, err := world(scenario, seed)
	if err != nil {
		return Tally{}, err
	}
	err = w.Finish()
	return w.tally(), err
}

// Replay runs one seed and writes its transcript.
func Replay(scenario string, seed uint64, out io.Writer, routine bool) {
	w, err := world(scenario, seed)
	if err != nil {
		fmt.Fprintln(out, err)
		return
	}
	w.trace = &transcript{out: out, routine: routine}
	_ = w.Finish()
}
