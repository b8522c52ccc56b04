package hooks

import (
	"slices"
	"strings"
)

// A standby whose databases have what the Active's lack knows that over a restart: the
// Active may be gone by then, and with it whoever could be compared with.

// Difference is what one database was found to have, in the highest epoch then known.
// With a later promotion of this node that is the truth.
type Difference struct {
	Loss  Loss
	Epoch uint64
}

// Differs returns what this node's databases were found to have and the Active's
// lacked, by database, nil for nothing.
func (m Memory) Differs() []Loss {
	var list []Loss
	for _, d := range m.Found {
		if d.Epoch >= m.ActiveEpoch {
			list = append(list, d.Loss)
		}
	}
	return list
}

func (m Memory) differ(r Record) Memory {
	var list []Difference
	for _, d := range m.Found {
		if d.Loss.Database != r.Loss.Database {
			list = append(list, d)
		}
	}
	if r.Kind == Diverged {
		at, _ := slices.BinarySearchFunc(list, r.Loss.Database, func(d Difference, name string) int { return strings.Compare(d.Loss.Database, name) })
		list = slices.Insert(list, at, Difference{Loss: r.Loss, Epoch: r.Epoch})
	}
	m.Found = list
	return m
}
