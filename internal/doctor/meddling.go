package doctor

// Is there something between the two nodes that changes what they say, or something else
// in the place of one? The peer link proves addresses and every byte, and says so.

import (
	"fmt"

	"github.com/tanist-ha/tanist/internal/peer"
)

// Meddling judges refusals that say that what arrives over the peer link is not what the
// peer sent. Where no connection stands that is what is wrong with the path; where one
// does, somebody tries.
func Meddling(nodes [2]string, refusals []Refusal, port uint16) []Finding {
	refused := newest(refusals)
	var found []Finding
	for _, reason := range meddled.reasons() {
		if evidence := refused[reason]; len(evidence) > 0 {
			found = append(found, meddling(nodes, reason, evidence, port))
		}
	}
	for _, r := range refusals {
		if r.Stands && r.fresh() && (r.Reason == peer.ReasonForged || r.Reason == peer.ReasonIdentity) {
			found = append(found, warn(LinkAltered, r.Peer.String(), "somebody pretends to be %s on the peer link, and is refused", nodes[1]).
				because("%s", r.evidence()).because("the link to %v stands: nothing of it was believed", r.Peer).
				fix(fmt.Sprintf("tcpdump -eni any 'tcp dst port %d and host %v'   # whose hardware address is it?", port, r.Peer)).on(nodes[0]))
		}
	}
	return found
}

// meddling is one reason, on the paths of the evidence.
func meddling(nodes [2]string, reason peer.Reason, evidence []string, port uint16) Finding {
	here, there := nodes[0], nodes[1]
	because := func(f Finding) Finding {
		for _, e := range evidence {
			f = f.because("%s", e)
		}
		return f.on(here)
	}
	watch := fmt.Sprintf("tcpdump -ni any 'tcp port %d'", port)
	switch reason { //nolint:exhaustive // of meddled
	case peer.ReasonProtocol:
		return because(wrong(PortTaken, "", "what speaks at TCP port %d between %s and %s is not Tanist", port, here, there)).
			fix(fmt.Sprintf("ssh %s ss -ltnp 'sport = :%d'   # who listens there?", there, port),
				"# not tanist: give it another port, or set peer_port on both nodes; a proxy on the way has to leave the port alone")
	case peer.ReasonIdentity:
		return because(wrong(LinkAltered, "", "who answers in the place of %s has no certificate of its cluster key: somebody took the connection over", there)).
			because("%s proved itself first, and another one spoke on", there).
			fix(watch+"   # on both nodes: do the same packets come that go?", "# a proxy or a firewall that opens TLS has to leave the port alone; if there is none, somebody is between the nodes")
	case peer.ReasonTLS:
		return because(wrong(LinkAltered, "", "what %s and %s say over the peer link arrives altered or cut", here, there)).
			fix(watch+"   # on both nodes: do the same packets come that go?", "# a firewall that inspects or opens TLS, or limits connections, has to leave the port alone")
	case peer.ReasonMalformed:
		return because(wrong(VersionDiffers, "", "%s sends over the peer link what %s cannot read, though it proved itself", there, here)).
			fix("tanist version   # on both: run the same release", "# the same already: this is a mistake of Tanist's; the evidence belongs into the report of it")
	}
	return because(wrong(LinkAltered, "", "%s and %s have the same cluster key, and their proofs do not fit the connection", here, there)).
		because("usual: addresses are translated between the nodes (NAT), or a proxy is; otherwise somebody alters or repeats what they say").
		fix(watch+"   # on both nodes: do the addresses of a connection differ at the two ends?",
			"nft list ruleset | grep -Ew 'snat|dnat|masquerade|redirect'; iptables-save -t nat   # on both nodes",
			"# take the translation away between the nodes' own addresses, on the way as well")
}
