package control

import (
	"time"

	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/mono"
)

// What status says of how the two nodes hear each other, of their witness, and of
// databases that differ.

// OneWay is a sign of life between the daemons that does not come through in one
// direction, while another shows that the nodes reach each other.
type OneWay struct {
	Witness   string    `json:"witness"`   // heartbeat or link
	Direction string    `json:"direction"` // to_peer or from_peer: the one that is lost
	Since     time.Time `json:"since"`
}

// Divergence is what one database of this node has and the active node's lacks.
type Divergence struct {
	Database     string `json:"database"`
	Transactions string `json:"transactions"` // in the server's notation; can be cut short
	Count        uint64 `json:"count"`
	Estimate     bool   `json:"estimate,omitempty"` // the count is one
}

// Witness is the third party that this node asks when it does not hear its peer.
type Witness struct {
	Kind   string `json:"kind"`
	OK     *bool  `json:"ok"`     // null when it could not be asked, or was not yet
	AgeMS  *int64 `json:"age_ms"` // of the answer, null before the first
	Detail string `json:"detail,omitempty"`
}

// Isolation is what an active node does that hears nobody, and whether this one does.
type Isolation struct {
	Policy   string    `json:"policy"`
	Isolated bool      `json:"isolated"`
	Since    time.Time `json:"since,omitzero"`
}

// hear fills in what concerns hearing and differing.
func (in *Instance) hear(now time.Time, s failover.Status) {
	in.Isolation = Isolation{Policy: s.Isolation.Policy.String(), Isolated: s.Isolation.Isolated}
	if s.Isolation.Isolated {
		in.Isolation.Since = since(now, s, s.Isolation.Since)
	}
	for _, x := range s.OneWay {
		in.OneWay = append(in.OneWay, OneWay{
			Witness: x.Sign.String(), Direction: x.Direction.String(), Since: since(now, s, x.Since),
		})
	}
	for _, d := range s.Divergence {
		in.Divergence = append(in.Divergence, Divergence{
			Database: d.Database, Transactions: d.Transactions, Count: d.Count, Estimate: !d.Exact,
		})
	}
	if w := s.Witness; w != nil {
		in.Witness = &Witness{Kind: w.Kind, Detail: w.Detail}
		if w.Known {
			age := w.Age.Milliseconds()
			in.Witness.AgeMS = &age
		}
		if ok := w.Verdict == failover.VerdictYes; w.Known && w.Verdict != failover.VerdictUnknown {
			in.Witness.OK = &ok
		}
	}
	if s.Wrote != failover.WroteUnknown {
		in.Wrote = s.Wrote.String()
	}
}

// since is the date of an instant of the status.
func since(now time.Time, s failover.Status, at mono.Instant) time.Time {
	return now.Add(-s.Now.Sub(at)).UTC().Truncate(time.Millisecond)
}
