package config

import (
	"fmt"
	"net/netip"
	"slices"
)

// What an instance does that hears nobody, and whom it asks when it does not hear its
// peer.

// Isolation is what an active node does that hears neither its peer nor its witness.
type Isolation uint8

// What an isolated active node does.
const (
	IsolationHold Isolation = iota
	IsolationRelease
)

func (i Isolation) String() string { return word(isolations(), i) }

func isolations() []string { return []string{"hold", "release"} }

// WitnessKind is what a witness is.
type WitnessKind uint8

// WitnessGateway is a router that answers to ARP or an ICMP echo.
const WitnessGateway WitnessKind = iota

func (k WitnessKind) String() string { return word(witnessKinds(), k) }

func witnessKinds() []string { return []string{"gateway"} }

// maxGateways bounds the addresses of a witness: each question goes to all of them.
const maxGateways = 8

// witness reads a witness. Mistaken addresses keep their place.
func (v value) witness() *Witness {
	w := &Witness{}
	v.object("witness",
		need("kind", func(v value) { oneOf(v, witnessKinds(), &w.Kind) }),
		need("addresses", func(v value) {
			const hint = "write addresses: [192.0.2.1]"
			list, ok := v.list(hint)
			if ok && len(list) == 0 {
				v.problem("a witness needs an address", hint)
			}
			if len(list) > maxGateways {
				list[maxGateways].problem(fmt.Sprintf("a witness has at most %d addresses", maxGateways), "keep those that say most about the network")
			}
			for _, el := range list {
				w.Addresses = append(w.Addresses, el.gateway())
			}
		}),
	)
	return w
}

// checkWitness wants a third party: what one of the two nodes answers itself says
// nothing of the network between them.
func (d *decoder) checkWitness(in *Instance, at string, nodes map[netip.Addr]string) {
	w := in.Witness
	if w == nil {
		if in.OnIsolation == IsolationRelease {
			d.problem(d.at(at+".on_isolation"), "on_isolation: release without a witness would drop the address whenever the other node is down",
				"add witness: {kind: gateway, addresses: [192.0.2.1]}, or write on_isolation: hold")
		}
		return
	}
	for i, a := range w.Addresses {
		if !a.IsValid() {
			continue
		}
		here := d.at(fmt.Sprintf("%s.witness.addresses[%d]", at, i))
		const hint = "name a router or another host that both nodes reach"
		if label, ours := nodes[a]; ours {
			d.problem(here, fmt.Sprintf("%s is an address of node %s, which is no witness", a, label), hint)
		}
		if slices.ContainsFunc(in.VIPs, func(p netip.Prefix) bool { return p.IsValid() && p.Addr() == a }) {
			d.problem(here, fmt.Sprintf("%s is a virtual address of this instance, which is no witness", a), hint)
		}
		if slices.Contains(w.Addresses[:i], a) {
			d.problem(here, fmt.Sprintf("the address %s stands twice", a), "keep one")
		}
	}
}
