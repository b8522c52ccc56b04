package failover

// Brief returns the state and the epoch this node was last Active in, at next to no
// cost. Status has the rest.
func (o *Orchestrator) Brief() (State, Epoch) { return o.state, o.activeEpoch }
