package control

import (
	"encoding/json"

	"github.com/tanist-ha/tanist/internal/words"
	"github.com/tanist-ha/tanist/replication"
)

// gateReason is a GateReason as text. A code of the other node may be of a newer
// release: it is passed on as words.UnknownText and spoils nothing else.
type gateReason struct {
	Code     string `json:"code"`
	Database string `json:"database"`
	Detail   string `json:"detail"`
}

// MarshalJSON writes the code's word.
func (r GateReason) MarshalJSON() ([]byte, error) {
	return json.Marshal(gateReason{Code: words.Of(replication.IOStopped, r.Code), Database: r.Database, Detail: r.Detail})
}

// UnmarshalJSON reads it.
func (r *GateReason) UnmarshalJSON(b []byte) error {
	var g gateReason
	if err := json.Unmarshal(b, &g); err != nil {
		return err
	}
	*r = GateReason{Code: words.Value(replication.IOStopped, g.Code), Database: g.Database, Detail: g.Detail}
	return nil
}
