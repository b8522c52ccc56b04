package screen

// What the two nodes know of each other beside the role: proof, clocks, configurations,
// which direction is lost, who stands alone.

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/tanist-ha/tanist/internal/control"
)

// trustFindings are about what makes the two nodes one pair.
func (d *drawing) trustFindings(f *findings) {
	peer := d.doc.Peer
	for _, p := range peer.Paths {
		if p.Reason != "" {
			f.add(Wrong, "compare the key files and the addresses: tanist doctor; docs/peer-link.md", "the link by %s is refused: %s", p.Address, p.Reason)
			break
		}
	}
	if peer.ClocksDiffer && peer.ClockOffsetMS != nil {
		f.add(Attention, "timedatectl timesync-status, or chronyc tracking, on both", "the clock of %s is %s %s", peer.Label,
			Age(time.Duration(math.Abs(*peer.ClockOffsetMS)*float64(time.Millisecond))), word(*peer.ClockOffsetMS > 0, "ahead", "behind"))
	}
	if c := peer.Configuration; c != nil && c.Any() {
		f.add(Attention, "give both nodes the same file, then systemctl reload tanist", "the nodes have different configurations: %s", difference(*c))
	}
}

func difference(c control.Difference) string {
	var all []string
	if c.Global {
		all = append(all, "what belongs to no instance")
	}
	for _, of := range []struct {
		names []string
		where string
	}{{c.Instances, ""}, {c.OnlyHere, " (only here)"}, {c.OnlyThere, " (only there)"}} {
		for _, name := range of.names {
			all = append(all, "instance "+name+of.where)
		}
	}
	if c.Keys {
		all = append(all, "the key files")
	}
	return strings.Join(all, ", ")
}

// aloneFindings are about a node that hears less than it should, and what came of it.
func (d *drawing) aloneFindings(f *findings, s side) {
	in := s.in
	if i := in.Isolation; i.Isolated {
		does := "it keeps the role, as on_isolation says: the other node may have it too"
		if i.Policy == "release" {
			does = "it gives the role up, as on_isolation says"
		}
		f.add(Wrong, d.on(s, "look at its network: tanist doctor"), "%s has heard nobody for %s: %s", s.label, Age(d.since(i.Since)), does)
	}
	for _, x := range in.OneWay {
		way := "what the other node sends does not reach " + s.label
		if x.Direction == "to_peer" {
			way = "what " + s.label + " sends does not reach the other node"
		}
		f.add(Wrong, "a firewall or the network drops one direction: tanist doctor", "%s (%s), for %s", way, x.Witness, Age(d.since(x.Since)))
	}
	if w := in.Witness; w != nil && w.OK != nil && !*w.OK {
		f.add(Attention, d.on(s, "look whether it is up: without it, "+s.label+" cannot tell a dead peer from a cut network"), "the witness (%s) does not answer %s: %s", w.Kind, s.label, w.Detail)
	}
	for _, x := range in.Divergence {
		f.add(Wrong, d.on(s, "docs/split-brain.md, then tanist replication rejoin"+d.flag(in.Name)+" --discard --reason TEXT "+x.Database),
			"%s has %s%d transactions of %s that the active node lacks: %s", s.label, word(x.Estimate, "about ", ""), x.Count, x.Database, x.Transactions)
	}
}

// witnessLine says what the third party said.
func (d *drawing) witnessLine(s side) Line {
	w := s.in.Witness
	switch {
	case w == nil:
		return nil
	case w.OK == nil:
		return list(plain(w.Kind), say(Faint, "not asked"))
	}
	l := list(plain(w.Kind), say(word2(*w.OK, Well, Wrong), word(*w.OK, "answers", "does not answer")))
	if w.AgeMS != nil {
		l = list(l, say(Faint, Age(d.ms(w.AgeMS))+" ago"))
	}
	return l
}

func wroteLine(s side) Line {
	if s.state() != "conflict" || s.in.Wrote == "" {
		return nil
	}
	return say(word2(s.in.Wrote == "yes", Wrong, Well), s.in.Wrote)
}

// linkLine is the state of the link in one line.
func (d *drawing) linkLine(state Line) Line {
	peer := d.doc.Peer
	l := state
	switch {
	case !peer.Authenticated:
		l = list(l, say(Attention, "not authenticated: there is no key"))
	case peer.Reachable:
		l = list(l, say(Well, "authenticated"))
	}
	if o := peer.ClockOffsetMS; o != nil {
		text := fmt.Sprintf("clocks %s apart", Age(time.Duration(math.Abs(*o)*float64(time.Millisecond))))
		l = list(l, say(word2(peer.ClocksDiffer, Attention, Faint), text))
	}
	return l
}
