// Package peer is the link between the two nodes: it carries each instance's
// failover.PeerState to the other node over every path at once. It is gossip.
// The newest state of an instance replaces an older one that is not sent yet,
// and nothing ever waits behind a slow peer. While no gossip waits it also carries
// the newest report of each node, and calls with their answers: see report.go and
// call.go.
//
// Each node dials out to send and listens to receive, so every TCP connection
// carries messages one way.
//
// Both ends prove that they have the cluster key and which node they are, before
// either costs the other much: see docs/peer-link.md. Without a key the link
// listens on the configured addresses only and takes connections from the peer's
// configured address of the same path only, which keeps mistakes out, not an
// attacker on the network.
package peer
