package failover

// Who is to take a role that nobody has: whoever can tell asks the facts that both
// nodes know, and both come to the same answer.

// ground is why this node may try to take the role now, or what it says instead.
type ground struct {
	reason Reason
	ok     bool
	say    bool // it may not, and status shows state and why
	state  State
	why    Why
}

func (o *Orchestrator) ground() ground {
	if !o.linkFresh() {
		return ground{reason: PeerSilent, ok: true}
	}
	p := o.peer.state
	switch {
	case o.peerIsActive():
		return ground{say: true, state: Backup, why: Why{Reason: PeerActive}}
	case p.State == Demoting:
		return ground{} // it says when its writes are closed and how far it is
	}
	elected := o.elect()
	if elected == electNeither && o.sources() == AllSources {
		return ground{say: true, state: Refused, why: Why{
			Reason: NotElected, Detail: "the databases of both nodes were written to: choose with a forced switchover",
		}}
	}
	if !p.Bids || p.Give != nil && p.Give.Stage == GiveReleased {
		return ground{reason: PeerLeft, ok: true}
	}
	switch elected {
	case electSelf:
		return ground{reason: Elected, ok: true}
	case electPeer:
		return ground{say: true, state: Backup, why: Why{Reason: Elected, Detail: o.cfg.Peer + " is to be Active"}}
	case electNeither:
		return ground{say: true, state: Refused, why: Why{
			Reason: NotElected, Detail: "the databases of both nodes look alike: choose with a forced switchover",
		}}
	case electWait:
	}
	return ground{}
}

type election uint8

const (
	electSelf election = iota
	electPeer
	electNeither
	electWait
)

// elect decides between two nodes that hear each other while nobody is Active.
// Both come to the same answer from the same facts.
func (o *Orchestrator) elect() election {
	p := o.peer.state
	mine, theirs := o.sources(), p.Sources
	// Who replicates follows the other, whatever either was since.
	switch {
	case mine == AllSources && theirs == AllReplicas:
		return electSelf
	case mine == AllReplicas && theirs == AllSources:
		return electPeer
	// A promotion that was cut off, or its undoing: half of the databases follow, and
	// no gate lets that node go on. Nothing was written by it.
	case mine == AllSources && theirs == MixedSources && o.alike():
		return electSelf
	case mine == MixedSources && theirs == AllSources && o.alike():
		return electPeer
	case o.heldEpoch() > p.ActiveEpoch:
		return electSelf
	case o.heldEpoch() < p.ActiveEpoch:
		return electPeer
	case mine == SourcesUnknown || theirs == SourcesUnknown:
		return electWait
	// Two that were Active in one epoch, and one of them in vain.
	case mine == AllSources && theirs == AllSources && o.writing.wrote == WroteYes && p.Wrote == WroteNo:
		return electSelf
	case mine == AllSources && theirs == AllSources && o.writing.wrote == WroteNo && p.Wrote == WroteYes:
		return electPeer
	case mine == NoDatabases, mine == AllSources && theirs == AllSources && samePositions(o.measure.positions, p.Positions):
		if o.yieldsTo() {
			return electPeer
		}
		return electSelf
	}
	return electNeither
}

// alike reports whether each database of both nodes has the same transactions, as
// far as all of them are known.
func (o *Orchestrator) alike() bool {
	return len(o.measure.positions) == len(o.databases) && samePositions(o.measure.positions, o.peer.state.Positions)
}

// samePositions reports whether both say the same of every database. They list
// them in the order of the configuration.
func samePositions(a, b []Position) bool {
	for i := range a {
		if i >= len(b) || a[i].Database != b[i].Database || !a[i].Executed.Equal(b[i].Executed) {
			return false
		}
	}
	return len(a) == len(b)
}
