package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Claim is a virtual address as one node sees it.
type Claim struct {
	Instance  string     `json:"instance"`
	Interface string     `json:"interface"`
	Address   netip.Addr `json:"address"`
	Held      bool       `json:"held"` // on this node's interface
	// Hardware are the hardware addresses of this node's interfaces.
	Hardware []string `json:"hardware"`
	// Peer are those that answered for the peer's own addresses on the interface.
	Peer []string `json:"peer,omitempty"`
	// Answers are the hardware addresses that answered for it, asked from here; a
	// holder does not ask.
	Answers  []string `json:"answers,omitempty"`
	AskError string   `json:"ask_error,omitempty"`
	// Neighbour is where this node's neighbour table sends what is for the address.
	Neighbour string `json:"neighbour,omitempty"`
	Permanent bool   `json:"permanent,omitempty"` // by hand
}

// Addresses judges who answers for the virtual addresses. there is nil when the
// peer could not be asked.
func Addresses(nodes [2]string, here, there []Claim) []Finding {
	var found []Finding
	for _, c := range here {
		var other *Claim
		if i := slices.IndexFunc(there, func(o Claim) bool { return o.Instance == c.Instance && o.Address == c.Address }); i >= 0 {
			other = &there[i]
		}
		found = append(found, address(nodes, c, other)...)
	}
	return found
}

func address(nodes [2]string, here Claim, there *Claim) []Finding {
	about := here.Address.String()
	switch {
	case here.Held && there != nil && there.Held:
		return []Finding{wrong(VIPTwoHolders, about, "%s is on both nodes", about).
			because("%s of %s and %s of %s", here.Interface, nodes[0], there.Interface, nodes[1]).
			fix("tanist status   # which of the two is to let go, and why it did not").on(nodes[0])}
	case here.Held && there != nil:
		return answered(nodes[0], nodes[1], here.Hardware, *there)
	case here.Held:
		return []Finding{fine(VIPUnanswered, about, "%s is on %s of this node; nobody could be asked whether it answers", about, here.Interface).on(nodes[0])}
	case there != nil && there.Held:
		return answered(nodes[1], nodes[0], there.Hardware, here)
	case there == nil && len(here.Answers) > 0 && len(here.Peer) > 0:
		return answered(nodes[1], nodes[0], here.Peer, here)
	case there == nil && len(here.Answers) > 0:
		return []Finding{fine(VIPUnanswered, about, "%s answers from %s", about, strings.Join(here.Answers, " and ")).on(nodes[0])}
	}
	return nowhere(nodes, here, there)
}

// nowhere is about an address that neither node holds.
func nowhere(nodes [2]string, here Claim, there *Claim) []Finding {
	about := here.Address.String()
	answers := slices.Clone(here.Answers)
	if there != nil {
		answers = append(answers, there.Answers...)
	}
	slices.Sort(answers)
	answers = slices.Compact(answers)
	if len(answers) > 0 {
		return []Finding{stranger(about, here.Interface, answers, "no node holds it").on(nodes[0])}
	}
	if here.AskError != "" {
		return []Finding{warn(VIPUnanswered, about, "nobody could be asked who has %s", about).because("%s", here.AskError).on(nodes[0])}
	}
	f := wrong(VIPNowhere, about, "no node holds %s, and nobody answers for it", about)
	if there == nil {
		f = wrong(VIPNowhere, about, "%s does not hold %s, and nobody answers for it", nodes[0], about)
	}
	return []Finding{f.fix("tanist status   # why: state, reason and gate of both nodes").on(nodes[0])}
}

func stranger(about, iface string, hardware []string, why string) Finding {
	return wrong(VIPStranger, about, "another host answers for %s", about).
		because("%s, on %s; %s", strings.Join(hardware, " and "), iface, why).
		fix("# find it by its hardware address in the switch and take the address away there",
			fmt.Sprintf("arping -D -c 3 -I %s %s   # from the node that does not hold it", iface, about))
}

// answered judges what the node that does not hold an address heard of the holder.
func answered(holder, asker string, hardware []string, seen Claim) []Finding {
	about := seen.Address.String()
	var found []Finding
	ofHolder := func(hw string) bool { return slices.Contains(hardware, hw) }
	others := slices.DeleteFunc(slices.Clone(seen.Answers), ofHolder)
	switch {
	case seen.AskError != "":
		found = append(found, warn(VIPUnanswered, about, "%s could not ask who has %s", asker, about).because("%s", seen.AskError).on(asker))
	case len(seen.Answers) == 0:
		found = append(found, wrong(VIPUnanswered, about, "%s is on %s and does not answer ARP", about, holder).
			because("asked by %s on %s", asker, seen.Interface).
			fix("arptables -L; nft list tables arp; sysctl net.ipv4.conf.all.arp_ignore   # what keeps it from answering", "tanist announce").on(holder))
	case len(others) > 0 && slices.ContainsFunc(seen.Answers, ofHolder):
		f := stranger(about, seen.Interface, others, holder+" answers as well")
		f.Code = VIPTwoHolders
		found = append(found, f.on(asker))
	case len(others) > 0:
		found = append(found, stranger(about, seen.Interface, others, holder+", which holds it, does not answer").on(asker))
	default:
		found = append(found, fine(VIPUnanswered, about, "%s answers from %s (%s)", about, holder, strings.Join(seen.Answers, " and ")).on(holder))
	}
	if n := seen.Neighbour; n != "" && !ofHolder(n) {
		f := warn(StaleNeighbour, about, "%s sends what is for %s to %s, which is not %s", asker, about, n, holder)
		if seen.Permanent {
			f = f.because("the entry was made by hand and does not age")
			f.Severity = Problem
		}
		found = append(found, f.because("`ip neigh show %s` on %s", about, asker).
			fix(fmt.Sprintf("ip neigh del %s dev %s", about, seen.Interface)).on(asker))
	}
	return found
}
