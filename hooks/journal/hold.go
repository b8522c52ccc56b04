package journal

import (
	"time"

	"github.com/tanist-ha/tanist/hooks"
)

// hold is a block or a maintenance as it is stored.
type hold struct {
	On       bool          `json:"on,omitempty"`
	Expired  bool          `json:"expired,omitempty"`
	For      time.Duration `json:"for_ns,omitempty"`
	Until    time.Time     `json:"until,omitzero"`
	Version  uint64        `json:"version,omitempty"`
	By       string        `json:"by,omitempty"`
	Lease    time.Duration `json:"lease_ns,omitempty"`
	Forced   bool          `json:"forced,omitempty"`
	Promised bool          `json:"promised,omitempty"`
	Settled  bool          `json:"settled,omitempty"`
}

func toHold(h hooks.Hold) *hold {
	if h == (hooks.Hold{}) {
		return nil
	}
	h.Until = h.Until.UTC()
	stored := hold(h)
	return &stored
}

func (h *hold) record() hooks.Hold {
	if h == nil {
		return hooks.Hold{}
	}
	read := hooks.Hold(*h)
	read.Until = read.Until.UTC()
	return read
}
