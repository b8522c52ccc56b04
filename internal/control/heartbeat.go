package control

// HeartbeatPath is one way that advertisements take.
type HeartbeatPath struct {
	Interface   string `json:"interface,omitempty"` // of the VRRP group
	Local       string `json:"local"`               // empty while a group's is not known
	Peer        string `json:"peer"`                // the other node's, or the group
	Up          bool   `json:"up"`                  // it can send and receive
	LastHeardMS *int64 `json:"last_heard_ms"`       // null: never. Only an active node says anything
	// PeerHeard is whether the peer ever heard us this way, as it says; null when unknown.
	// Only an active node says anything.
	PeerHeard      *bool  `json:"peer_heard"`
	PeerHeardMSAgo *int64 `json:"peer_heard_ms_ago"` // null: never, or unknown
	Error          string `json:"error,omitempty"`
	// Flooded says that far more is refused here than a peer sends, and that the kernel
	// keeps most of it out: of that, Dropped counts one packet of 256.
	Flooded bool              `json:"flooded"`
	Dropped map[string]uint64 `json:"dropped"` // packets by reason, those that there were
}

// Heartbeat is what the advertisements of an instance are like.
type Heartbeat struct {
	Auth         string            `json:"auth"`              // hmac, permissive or none
	LastHeardMS  *int64            `json:"last_heard_ms"`     // null: never. What follows is about that one
	Proved       *bool             `json:"proved"`            // it was the peer's; null with auth none
	Doubt        string            `json:"doubt,omitempty"`   // why it was not proved
	SecondKey    bool              `json:"second_key"`        // the peer does not sign with this node's first key
	Checksum     string            `json:"checksum"`          // the form that this node sends
	PeerChecksum string            `json:"peer_checksum"`     // empty: nothing was heard
	Mismatch     []string          `json:"mismatch"`          // in what the peer's configuration differs
	Dropped      map[string]uint64 `json:"dropped"`           // packets by reason
	Unproved     map[string]uint64 `json:"accepted_unproved"` // in mode permissive, by reason
}
