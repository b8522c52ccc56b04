package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/failover"
)

// printHolds says in status what an operator holds.
func printHolds(t io.Writer, in control.Instance, now time.Time) {
	if h := in.Maintenance; h != nil {
		fmt.Fprintf(t, "  MAINTENANCE\t%s\t\tfailover is suspended: %s\n", word(h.Shared, "both nodes", "only here"), holdWords(h, now))
	}
	if h := in.Block; h != nil {
		fmt.Fprintf(t, "  BLOCKED\t\t\tthis node is not promoted: %s\n", holdWords(h, now))
	}
}

func holdWords(h *control.Hold, now time.Time) string {
	text := h.Reason + " (" + account(h.UID)
	if h.By != "" {
		text += " on " + h.By
	}
	text += ")"
	if h.Until.IsZero() {
		return text + ", until it is taken back"
	}
	return text + ", for another " + age(h.Until.Sub(now).Round(time.Second))
}

// holdHeading says what a record of a hold is.
func holdHeading(r hooks.Record) string {
	h := r.Hold
	switch r.Kind {
	case hooks.Blocking:
		switch {
		case h.On:
			return "blocked: not to be promoted"
		case h.Expired:
			return "unblocked: the time was over"
		}
		return "unblocked"
	case hooks.Maintaining:
		switch {
		case h.On:
			return fmt.Sprintf("maintenance on, by %s: failover suspended", h.By)
		case h.Version == 0:
			return "no maintenance"
		case h.Expired:
			return "maintenance over: its time had come"
		}
		return "maintenance off, by " + h.By
	case hooks.Leasing:
		if h.Promised {
			return "the other node waits for the long lease"
		}
		return "the other node has the configured lease again"
	case hooks.Parted:
		return "the daemon left and kept the address"
	case hooks.Adopted:
		return "a daemon found the address and went on"
	default:
		return r.Kind.String()
	}
}

// isHold reports whether a record is about a hold.
func isHold(k hooks.RecordKind) bool {
	return k == hooks.Blocking || k == hooks.Maintaining || k == hooks.Leasing || k == hooks.Parted || k == hooks.Adopted
}

// holdLines shows who holds what, why, and how long.
func (v historyView) holdLines(b *strings.Builder, r hooks.Record) {
	if r.Reason != "" {
		v.line(b, "why", r.Reason)
	}
	if r.Kind != hooks.Blocking && r.Kind != hooks.Maintaining {
		return
	}
	if !r.Hold.Expired {
		v.line(b, "by", v.account(r.UID))
	}
	if !r.Hold.Until.IsZero() {
		v.line(b, "until", r.Hold.Until.In(v.zone).Format("2006-01-02 15:04:05 MST"))
	}
	if r.Hold.Forced {
		v.line(b, "forced", "the lease was lengthened though the other node could not be told")
	}
}

// historyHold is a hold as history tells it.
type historyHold struct {
	On           bool      `json:"on"`
	Expired      bool      `json:"expired,omitempty"`
	Until        time.Time `json:"until,omitzero"`
	UID          uint32    `json:"uid"`
	User         string    `json:"user"`
	By           string    `json:"by,omitempty"`
	Version      uint64    `json:"version,omitempty"`
	LeaseSeconds float64   `json:"lease_seconds,omitempty"`
	Forced       bool      `json:"forced,omitempty"`
}

func (v historyView) hold(r hooks.Record) *historyHold {
	if r.Kind != hooks.Blocking && r.Kind != hooks.Maintaining {
		return nil
	}
	h := r.Hold
	return &historyHold{
		On: h.On, Expired: h.Expired, Until: h.Until, UID: r.UID, User: v.account(r.UID), By: h.By, Version: h.Version,
		LeaseSeconds: h.Lease.Seconds(), Forced: h.Forced,
	}
}

// holdReason is what a reason about a hold means, empty for any other.
func holdReason(r failover.Reason) string {
	switch r {
	case failover.InMaintenance:
		return "an operator suspended failover of the pair"
	case failover.MaintenanceOver:
		return "failover is suspended no longer"
	case failover.Blocked:
		return "an operator forbids this node the role"
	case failover.Unblocked:
		return "this node may have the role again"
	default:
		return ""
	}
}
