package sim

import "time"

// A trap does something to a node right after it did a certain thing: crashes
// matter most between two effects that belong together, and a random instant
// seldom falls there.

type trapOn uint8

const (
	onNothing trapOn = iota
	onSend
	onDrop
	onAcquire
	onJournal
	onAsk
	trapKinds
)

type trap struct {
	on trapOn
	do func()
}

// sprung is told what the node just did. What the trap does comes after the
// step, and before anything else that the step brings about.
func (n *node) sprung(on trapOn) {
	if n.trap.on != on {
		return
	}
	do := n.trap.do
	n.trap = trap{}
	n.w.schedule(time.Duration(0), item{kind: kScript, do: do})
}
