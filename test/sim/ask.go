package sim

import "github.com/tanist-ha/tanist/internal/failover"

// A question to the peer's kernel, which answers whatever its daemon does.

// strangerAnswers is the chance that a stranger's answer comes in time.
const strangerAnswers = 0.9

// answerAsk runs on the network and in the peer's kernel: no daemon takes part.
func (n *node) answerAsk(it *item) {
	p := n.peer()
	ev := failover.Asked{ID: failover.ID(it.id)}
	// On the link ARP for the address, ARP and an echo for the host; elsewhere an
	// echo and a connection to its port.
	address, rounds, second := n.w.net.answers(0, 1), n.w.net.rounds(0), n.w.net.answers(1, 2)
	echo := n.w.net.answers(0, 1)
	if p.up && !p.frozen && !n.w.setup.Broken.BlindCapture {
		// A link that is down takes the addresses of its interface with it, one
		// without a carrier does not: a weak host answers for them elsewhere.
		weak := second && n.w.setup.WeakHost && (p.kernel.down == "" || p.kernel.down == carrierLost)
		ev.Host = rounds > 0 || echo || second
		ev.OnLink = rounds >= probes-1 || weak
		ev.Address = p.kernel.holds() && (address || weak)
	}
	if n.w.setup.Broken.StaleAnswers {
		ev.Address = true
	}
	if n.kernel.down != "" {
		ev = failover.Asked{ID: ev.ID, Err: errNoCarrier}
	} else if n.w.net.stranger && n.w.chance(strangerAnswers) {
		ev.Stranger = "02:00:00:00:00:99"
	}
	if ev.Host || ev.Address {
		n.heard = n.w.now
	}
	n.w.push(n.w.item(item{at: n.w.now + it.wait, kind: kAnswer, node: uint8(n.i), life: it.life, ev: ev}))
}
