package failover

import (
	"fmt"
	"time"

	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/vrrp"
)

// There are two signs that the other daemon lives: its advertisements, which only an
// Active sends, and its word over the link. Each node says which of them it hears. A
// sign that comes through in one direction only is a fault of the network that
// nothing else shows, until the other sign is lost too.

// Sign is a sign of life between the two daemons.
type Sign uint8

// The signs of life.
const (
	HeartbeatSign Sign = iota + 1 // advertisements
	LinkSign                      // messages over the link
)

// String returns the sign as status names it.
func (s Sign) String() string { return nameOf([]string{"none", "heartbeat", "link"}, "Sign", uint8(s)) }

// Direction is a direction between the two nodes, as the one that speaks sees it.
type Direction uint8

// The directions.
const (
	ToPeer Direction = iota + 1
	FromPeer
)

// String returns the direction as status names it.
func (d Direction) String() string {
	return nameOf([]string{"none", "to_peer", "from_peer"}, "Direction", uint8(d))
}

// Sense says whether a node hears a sign of its peer.
type Sense uint8

// Whether a sign is heard.
const (
	SenseUnknown Sense = iota // of a release that does not say
	SenseLost
	SenseHeard
)

// String returns it as the link between the nodes names it.
func (s Sense) String() string {
	return nameOf([]string{"unknown", "lost", "heard"}, "Sense", uint8(s))
}

func senseOf(heard bool) Sense {
	if heard {
		return SenseHeard
	}
	return SenseLost
}

// OneWay is a sign that does not come through in one direction while another shows
// that the nodes reach each other.
type OneWay struct {
	Sign      Sign
	Direction Direction    // the one that is lost
	Since     mono.Instant // by this node's clock
}

// oneWays are the four that there can be, in a fixed order.
var oneWays = [...]OneWay{
	{Sign: HeartbeatSign, Direction: ToPeer},
	{Sign: HeartbeatSign, Direction: FromPeer},
	{Sign: LinkSign, Direction: ToPeer},
	{Sign: LinkSign, Direction: FromPeer},
}

// sensed is what is known of one of oneWays.
type sensed struct {
	begun  mono.Instant // since when it looks so, 0: it does not
	on     bool         // it counts
	saidAt mono.Instant // when the log was last told, 0: never
	said   bool         // that it is so
}

// linkSlow is how much longer than LinkPatience a message may be missing before
// that is a finding: a path is changed in less.
const linkSlow = 2 * time.Second

// senseAfter is for how long a sign must be lost to count.
func (o *Orchestrator) senseAfter(s Sign) time.Duration {
	if s == LinkSign {
		return linkSlow
	}
	return max(o.patience(), o.router.ActiveDownInterval()) + LinkPatience
}

// hearsLink reports whether a word over the link came a moment ago, whatever the
// peer's kernel says.
func (o *Orchestrator) hearsLink() bool {
	return o.peer.known && o.now.Sub(o.peer.at) <= LinkPatience
}

// looksOneWay reports whether a sign seems to be lost in a direction just now.
func (o *Orchestrator) looksOneWay(x OneWay) bool {
	link, p := o.hearsLink(), &o.peer.state
	switch {
	case x.Sign == LinkSign && x.Direction == ToPeer:
		return link && p.HearsLink == SenseLost
	case x.Sign == LinkSign:
		// A peer that never spoke over the link and proves nothing is another router.
		return !link && o.advertises() && (o.peer.known || o.attested.epoch > 0)
	case x.Direction == ToPeer:
		return link && o.lease.held && o.router.State() == vrrp.Active && !p.Holds && p.HearsHeartbeat == SenseLost
	default:
		return link && p.Holds && p.State == Active && !o.advertises()
	}
}

// thinkSenses finds what is lost in one direction, and tells of it once.
func (o *Orchestrator) thinkSenses() {
	for i := range o.senses {
		x, s := oneWays[i], &o.senses[i]
		switch looks := o.looksOneWay(x); {
		case looks && s.begun == 0:
			s.begun = o.now
		case looks && !s.on && o.now.Sub(s.begun) >= o.senseAfter(x.Sign):
			s.on, o.dirty = true, true
			if s.said = s.saidAt == 0 || o.now.Sub(s.saidAt) >= strayEvery; s.said {
				s.saidAt = o.now
				o.emit(Note{State: o.state, Epoch: o.epoch, Why: Why{Reason: OneWayLoss, Detail: o.oneWayWords(x)}, Urgent: true})
			}
		case !looks:
			if s.on && s.said {
				detail := fmt.Sprintf("over, after %s: %s", o.now.Sub(s.begun).Round(time.Second), o.oneWayWords(x))
				o.emit(Note{State: o.state, Epoch: o.epoch, Why: Why{Reason: OneWayLoss, Detail: detail}})
			}
			s.begun, s.on = 0, false
		}
	}
}

// oneWayWords says it to a person.
func (o *Orchestrator) oneWayWords(x OneWay) string {
	switch {
	case x.Sign == LinkSign && x.Direction == ToPeer:
		return o.cfg.Peer + " speaks over the link and does not hear this node there"
	case x.Sign == LinkSign:
		return o.cfg.Peer + " advertises and is not heard over the link"
	case x.Direction == ToPeer:
		return o.cfg.Peer + " is heard over the link and does not hear this node's advertisements"
	}
	return o.cfg.Peer + " says over the link that it is active, and none of its advertisements comes"
}

// oneWay lists what counts, nil for nothing.
func (o *Orchestrator) oneWay() []OneWay {
	var list []OneWay
	for i, s := range o.senses {
		if s.on {
			x := oneWays[i]
			x.Since = s.begun
			list = append(list, x)
		}
	}
	return list
}
