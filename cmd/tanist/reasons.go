package main

import "github.com/tanist-ha/tanist/internal/failover"

// reasonWords says what a reason of the journal means, or nothing where a newer
// release wrote it.
func reasonWords(name string) string {
	r, known := reasonNamed(name)
	if !known {
		return ""
	}
	return inWords(r)
}

// codeWords is what a reason means, and its code where a newer release has it.
func codeWords(name string) string {
	if words := reasonWords(name); words != "" {
		return words
	}
	return name
}

// reasonNamed returns the reason of a name.
func reasonNamed(name string) (r failover.Reason, known bool) {
	const none = failover.Reason(255)
	for r := failover.Reason(0); inWords(r) != ""; r++ {
		if r.String() == name {
			return r, true
		}
	}
	return none, false
}

// inWords says what a reason means, to a person at night.
func inWords(r failover.Reason) string {
	switch r {
	case failover.Starting:
		return "the daemon just started"
	case failover.PeerActive:
		return "the other node is active"
	case failover.PeerSilent:
		return "nothing was heard of the other node"
	case failover.PeerLeft:
		return "the other node gave the role up"
	case failover.Elected:
		return "both nodes were up and none was active"
	case failover.Adopted:
		return "the daemon was restarted and still had the address"
	case failover.Requested:
		return "an operator's switchover, or the other node's leave"
	case failover.Forced:
		return "an operator's switchover against the gate"
	case failover.Preempting:
		return "this node has the higher priority, and preempt is set"
	case failover.Stopping:
		return "the daemon was told to stop"
	case failover.HandedOver:
		return "the other node has the address after a switchover"
	case failover.StrongerPeer:
		return "another active node has the higher priority"
	case failover.NewerEpoch:
		return "another active node has a newer epoch"
	case failover.Late:
		return "this host stood still for longer than the other node waits"
	case failover.LeaseLost:
		return "the address could not be renewed"
	case failover.Unhealthy:
		return "a health check failed"
	case failover.Recovered:
		return "what kept this node from the role is over"
	case failover.OneWayLoss:
		return "the two nodes hear each other in one direction only"
	case failover.Isolated:
		return "this node hears neither the other node nor its witness"
	case failover.WitnessSilent:
		return "the witness did not answer, so that this node may be the one that is cut off"
	case failover.PeerWrote:
		return "another active node of the same epoch, whose databases took the writes"
	case failover.Diverged:
		return "this node's databases have transactions that the active node lacks"
	case failover.GateClosed:
		return "the gate was closed"
	case failover.AddressAnswers:
		return "the silent host still answered for the address"
	case failover.JournalFailed:
		return "the journal could not be written"
	case failover.StepFailed:
		return "a step of the plan failed"
	case failover.CatchUpFailed:
		return "a replica did not reach the position of its source"
	case failover.PeerRefused:
		return "the other node could not take over"
	case failover.PeerUnreachable:
		return "the link to the other node was down"
	case failover.TimedOut:
		return "the time for it ran out"
	case failover.Withdrawn:
		return "the old node took its handover back"
	case failover.Busy:
		return "another transition was under way"
	case failover.Settling:
		return "a standby puts its labels and files in order"
	case failover.NotElected:
		return "both nodes were up and neither may be active"
	case failover.Drifted:
		return "a database, or what a step had left, was not as the role wants it"
	case failover.CannotAsk:
		return "the other node was silent and its kernel could not be asked"
	case failover.Renumbered:
		return "this node goes on as active, under an epoch newer than any known"
	case failover.LinkDown:
		return "the interface of the address could not be used"
	case failover.AddressTaken:
		return "somebody else took the address off the interface"
	case failover.StrangerAnswers:
		return "a third host answered for the address"
	case failover.FenceFailed:
		return "a required fence step failed"
	case failover.Deaf:
		return "no heartbeat path was open"
	case failover.AddressForeign:
		return "somebody else put the address on this node"
	case failover.DatabaseDown:
		return "a database of the active node died or hung"
	case failover.DatabasesChanged:
		return "databases were found, or are gone"
	case failover.LongTransaction:
		return "a transaction ran for longer than closing writes waits"
	case failover.DataLost:
		return "a promotion may have left transactions of a lost source behind"
	case failover.InMaintenance, failover.MaintenanceOver, failover.Blocked, failover.Unblocked:
		return holdReason(r)
	}
	return ""
}
