package sim

import (
	"fmt"
	"io"
)

// plainFailovers is how many failovers one seed of the plain scenario has.
const plainFailovers = 20

func world(scenario string, seed uint64) (*World, error) {
	switch scenario {
	case "plain":
		return Plain(seed, plainFailovers, DefaultSetup()), nil
	case "faults":
		return Faults(seed), nil
	}
	return nil, fmt.Errorf("scenario %s is not plain or faults", scenario)
}

// Play runs one seed of a scenario and returns how often the address came to a
// node, and what a checker said.
func Play(scenario string, seed uint64) (int, error) {
	w, err := world(scenario, seed)
	if err != nil {
		return 0, err
	}
	err = w.Finish()
	return w.Takeovers, err
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
