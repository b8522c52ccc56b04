package peer

import (
	"time"

	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/mono"
)

// maintenance is the register of a node. Until is an instant of the sender's clock,
// as Stamp is, so that a register that lasts is the same message.
type maintenance struct {
	Version uint64        `json:"version"`
	By      string        `json:"by"`
	On      bool          `json:"on,omitempty"`
	Expired bool          `json:"expired,omitempty"`
	Reason  string        `json:"reason,omitempty"`
	UID     uint32        `json:"uid,omitempty"`
	Lease   time.Duration `json:"lease_ns,omitempty"`
	Until   mono.Instant  `json:"until_ns,omitempty"`
	Settled bool          `json:"settled,omitempty"`
}

func toMaintenance(m *failover.Maintenance) *maintenance {
	if m == nil {
		return nil
	}
	told := maintenance(*m)
	return &told
}

func (m *maintenance) core() *failover.Maintenance {
	if m == nil {
		return nil
	}
	said := failover.Maintenance(*m)
	said.Reason, said.By = brief(said.Reason), brief(said.By)
	return &said
}

func sameMaintenance(a, b *failover.Maintenance) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

func keepMaintenance(m *failover.Maintenance) *failover.Maintenance {
	if m == nil {
		return nil
	}
	kept := *m
	return &kept
}
