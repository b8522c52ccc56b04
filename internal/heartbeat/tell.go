package heartbeat

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/tanist-ha/tanist/vrrp"
	"github.com/tanist-ha/tanist/vrrp/auth"
)

// tellInterval is how often the log hears of one reason of one instance.
const tellInterval = time.Minute

// teller tells of a first packet at once, and of those that follow once a minute
// with their number: a flood fills no log.
type teller struct {
	log Log

	mu   sync.Mutex // guards told
	told map[tale]*telling
}

// tale is one kind of line. There are as many as instances and reasons.
type tale struct {
	instance string
	doing    string
	reason   fmt.Stringer // a vrrp.DropReason, an auth.Reason, or sifting
}

type telling struct {
	at     time.Time
	untold int
	from   whence
}

// whence is where packets came from, as a text only when it is told.
type whence struct {
	source netip.Addr
	path   *path // where the sources are not known
}

func (w whence) String() string {
	if w.path != nil {
		return "path " + w.path.name()
	}
	return w.source.String()
}

func newTeller(log Log) *teller { return &teller{log: log, told: map[tale]*telling{}} }

// tellDrop tells of one dropped packet.
func (h *Heartbeat) tellDrop(instance string, from netip.Addr, reason fmt.Stringer) {
	h.told.tell(tale{instance, "drop advertisements", reason}, whence{source: from}, 1)
}

// tell tells of n packets, the last one from somewhere, now or later.
func (t *teller) tell(what tale, from whence, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.told[what]
	if one == nil {
		one = &telling{}
		t.told[what] = one
	}
	one.untold += n
	one.from = from
	t.say(what, one)
}

// flush tells what has waited long enough.
func (t *teller) flush() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for what, one := range t.told {
		t.say(what, one)
	}
}

func (t *teller) say(what tale, one *telling) {
	now := time.Now()
	if one.untold == 0 || now.Sub(one.at) < tellInterval {
		return
	}
	times := ""
	if one.untold > 1 {
		times = fmt.Sprintf("%d times, last ", one.untold)
	}
	t.log.Trouble(what.instance, what.doing+" ("+what.reason.String()+")", fmt.Errorf("%sfrom %s: %s", times, one.from, explain(what.reason)))
	one.at, one.untold = now, 0
}

// explain says what an operator can make of a reason.
func explain(reason fmt.Stringer) string {
	switch r := reason.(type) {
	case auth.Reason:
		return explainProof(r)
	case vrrp.DropReason:
		return explainDrop(r)
	case sifting:
		return explainSifting(r)
	}
	return reason.String()
}

func explainProof(r auth.Reason) string {
	switch r {
	case auth.ReasonMissing:
		return "the sender does not authenticate: is auth: hmac or permissive set there?"
	case auth.ReasonVersion:
		return "sealed by another release of this program"
	case auth.ReasonFamily:
		return "between addresses of two families"
	case auth.ReasonKey:
		return "sealed with a key that this node does not have: compare the two key files"
	case auth.ReasonTag:
		return "forged, altered on its way, or its addresses were translated"
	case auth.ReasonOldBoot:
		return "of a run of the peer's daemon that has ended: a replay, or the peer lost its state directory and its clock"
	case auth.ReasonReplay:
		return "heard before: a replay, or the network duplicates packets"
	case auth.ReasonStale:
		return "held back on this path"
	case auth.ReasonPaths:
		return "from more addresses than the peer has"
	}
	return ""
}

func explainDrop(r vrrp.DropReason) string {
	switch r {
	case vrrp.DropShort, vrrp.DropLength, vrrp.DropType, vrrp.DropCount:
		return "not an advertisement, or one with something behind it that this node does not know"
	case vrrp.DropVersion:
		return "of another version of VRRP than heartbeat.version"
	case vrrp.DropAuth:
		return "with an authentication type of RFC 2338, which proves nothing: switch it off there"
	case vrrp.DropChecksum:
		return "damaged, or its addresses were translated"
	case vrrp.DropVRID:
		return "VRID 0 is none"
	case vrrp.DropInterval:
		return "its interval is none that the version can carry"
	case vrrp.DropFamily:
		return "its addresses are of another family than the instance's first"
	case vrrp.DropUnknownVRID:
		return "its virtual router is not this node's"
	case vrrp.DropTTL:
		return "it crossed a router: the nodes need a network in common"
	case vrrp.DropSource:
		return "not from the peer, or not to this node"
	case vrrp.DropOwn:
		return "from this node's own address: a loop in the network, or another host has the address"
	case vrrp.DropOverflow:
		return "more came than this node had time to read"
	}
	return ""
}
