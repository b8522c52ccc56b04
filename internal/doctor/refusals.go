package doctor

// Do the two nodes fit together at all? A peer that cannot be asked is judged by what
// it says when it hangs up, and by advertisements that it did not seal with a key of
// this node's.

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/tanist-ha/tanist/internal/peer"
)

// Doubt is what the heartbeat of an instance said of proofs.
type Doubt struct {
	Instance string
	Reason   string // of the heartbeat: auth_key and so on
	Before   uint64 // how many advertisements were dropped for it
	After    uint64 // and a moment later
	Heard    bool   // the peer is heard nevertheless
}

// evidence is empty where the doubt says nothing of the keys.
func (d Doubt) evidence() string {
	if d.Reason != "auth_key" && d.Reason != "auth_tag" && d.Reason != "auth_missing" || d.Heard || d.After == 0 {
		return ""
	}
	if d.Reason == "auth_tag" && d.After == d.Before {
		return "" // of a forger, or of long ago
	}
	return fmt.Sprintf("instance %s: %d advertisements dropped as %s, %d of them in the last moments", d.Instance, d.After, d.Reason, d.After-d.Before)
}

// Refusal is what one path of the peer link was last refused for one reason, by this
// node or by the peer.
type Refusal struct {
	Peer   netip.Addr
	Reason peer.Reason
	Count  uint64 // in a row
	Since  time.Duration
	Last   time.Duration // ago, as Since
	Said   string        // of the last one
	Stands bool          // a connection stands on the path nevertheless
}

// refusalFresh is how long a refusal counts: a node tries again every second.
const refusalFresh = 10 * time.Second

func (r Refusal) fresh() bool { return r.Last <= refusalFresh }

func (r Refusal) evidence() string {
	text := fmt.Sprintf("the peer link to %v: refused as %v %s ago", r.Peer, r.Reason, ago(r.Last.Milliseconds()))
	if r.Count > 1 {
		text = fmt.Sprintf("the peer link to %v: refused as %v %d times in %s, last %s ago", r.Peer, r.Reason, r.Count, ago(r.Since.Milliseconds()), ago(r.Last.Milliseconds()))
	}
	if r.Reason == peer.ReasonVersion || r.Reason == peer.ReasonLabel || meaningOf(r.Reason) == meddled {
		text += ": " + strings.TrimPrefix(r.Said, "refused: ")
	}
	return text
}

// meaning is what refusals for a reason say of the pair.
type meaning uint8

const (
	nothing meaning = iota
	misfit          // the nodes do not fit together: Proofs
	meddled         // something is between them, or in the place of one: Meddling
)

func meaningOf(r peer.Reason) meaning {
	switch r {
	case peer.ReasonWrongKey, peer.ReasonNoKeyHere, peer.ReasonNoKeyThere, peer.ReasonVersion, peer.ReasonLabel:
		return misfit
	case peer.ReasonProtocol, peer.ReasonForged, peer.ReasonIdentity, peer.ReasonTLS, peer.ReasonMalformed:
		return meddled
	case peer.ReasonStranger, peer.ReasonDropped: // from other addresses, or a flood of the port: kept out, and not by the peer
		return nothing
	case peer.ReasonCrowded: // a flood from the peer's address: who has proved itself stays
		return nothing
	case peer.ReasonSlow: // a daemon that hangs, or packets that get lost: the findings of the paths say which
		return nothing
	case peer.ReasonUnfinished: // who asks whether the port answers, as a diagnosis does
		return nothing
	}
	return nothing
}

// reasons lists those that mean it, in the order in which they are told.
func (m meaning) reasons() []peer.Reason {
	return slices.DeleteFunc(peer.Reasons(), func(r peer.Reason) bool { return meaningOf(r) != m })
}

// newest is the evidence of the last refusal of each path that means something, by its
// reason: what was before it is over, as after a reload.
func newest(all []Refusal) map[peer.Reason][]string {
	last := map[netip.Addr]Refusal{}
	for _, reason := range peer.Reasons() {
		for _, r := range all {
			other, known := last[r.Peer]
			if r.Reason == reason && meaningOf(reason) != nothing && r.fresh() && !r.Stands && (!known || r.Last < other.Last) {
				last[r.Peer] = r
			}
		}
	}
	said := map[peer.Reason][]string{}
	for _, r := range all {
		if l, ok := last[r.Peer]; ok && l.Reason == r.Reason {
			said[r.Reason] = append(said[r.Reason], r.evidence())
		}
	}
	return said
}

// Proofs judges whether the two nodes have the same key, and otherwise fit together,
// when the peer cannot be asked: by advertisements that come and are not sealed with a
// key of this node's, and by refusals of the peer link on paths where no connection
// stands.
func Proofs(nodes [2]string, doubts []Doubt, refusals []Refusal, running Running) []Finding {
	var unsealed []string
	for _, d := range doubts {
		if e := d.evidence(); e != "" {
			unsealed = append(unsealed, e)
		}
	}
	refused := newest(refusals)
	var found []Finding
	for _, reason := range misfit.reasons() {
		evidence := refused[reason]
		// An advertisement does not say why it is not sealed with a key of this node's.
		doubted := reason == peer.ReasonWrongKey && len(refused[peer.ReasonNoKeyHere])+len(refused[peer.ReasonNoKeyThere]) == 0 ||
			len(evidence) > 0 && (reason == peer.ReasonNoKeyHere || reason == peer.ReasonNoKeyThere)
		if doubted {
			evidence, unsealed = append(evidence, unsealed...), nil
		}
		if len(evidence) > 0 {
			found = append(found, mismatch(nodes, reason, evidence, running))
		}
	}
	return found
}

func mismatch(nodes [2]string, reason peer.Reason, evidence []string, running Running) Finding {
	here, there, file := nodes[0], nodes[1], running.KeyFile
	because := func(f Finding) Finding {
		for _, e := range evidence {
			f = f.because("%s", e)
		}
		return f.on(here)
	}
	switch reason { //nolint:exhaustive // of misfit
	case peer.ReasonNoKeyHere:
		const usual = "/etc/tanist/cluster.key"
		return because(wrong(WrongKey, usual, "%s has a cluster key, %s has none", there, here)).
			fix(fmt.Sprintf("scp -p %s:%s %s   # what key_file names on %s, mode 0600", there, usual, usual, there),
				fmt.Sprintf("# key_file: %s   in %s", usual, running.File),
				"tanist check && systemctl reload tanist")
	case peer.ReasonNoKeyThere:
		return because(wrong(WrongKey, file, "%s has a cluster key, %s has none", here, there)).
			fix(fmt.Sprintf("scp -p %s %s:%s   # mode 0600", file, there, file),
				fmt.Sprintf("# on %s: key_file: %s   in its configuration", there, file),
				fmt.Sprintf("ssh %s 'tanist check && systemctl reload tanist'", there))
	case peer.ReasonVersion:
		return because(wrong(VersionDiffers, "", "the releases of %s and %s are too far apart: they have no version of the peer link in common", here, there)).
			because("%s runs tanist %s", here, running.Version).
			fix("ssh "+there+" tanist version", "# upgrade the older one of the two")
	case peer.ReasonLabel:
		return because(wrong(ConfigurationDiffers, "nodes", "the configurations of the two ends name other nodes or paths: %s does not meet %s", here, there)).
			fix(fmt.Sprintf("ssh %s cat %s | diff %s -   # one file for both nodes: which of the two is right?", there, running.File, running.File))
	}
	f := because(wrong(WrongKey, file, "%s does not have the cluster key of %s", there, here))
	if len(running.Keys) > 0 {
		f = f.because("the key here is %s; `tanist doctor` on %s names the one there", strings.Join(running.Keys, " and "), there)
	}
	return f.fix(copyKey(there, file)...)
}
