package sim

import (
	"time"

	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/vrrp"
)

// A router of another make, as keepalived is one: it advertises when it hears
// nobody, yields to whoever is stronger, asks no kernel and no gate, and its
// address has no lifetime: what a killed one had stays until it is started again.
type keepalived struct {
	cfg       vrrp.Config
	nopreempt bool
	state     failover.State
	timer     mono.Instant
	said      uint64
}

func newKeepalived(cfg vrrp.Config, nopreempt bool) *keepalived {
	return &keepalived{cfg: cfg, nopreempt: nopreempt}
}

func (k *keepalived) interval() time.Duration { return k.cfg.Interval.Duration() }

// skew is RFC 9568's Skew_Time.
func (k *keepalived) skew() time.Duration {
	return time.Duration(256-int(k.cfg.Priority)) * k.interval() / 256
}

func (k *keepalived) Deadline() (mono.Instant, bool) {
	if k.state == failover.Fault {
		return mono.Never, true
	}
	return k.timer, true
}

func (k *keepalived) Step(now mono.Instant, ev failover.Event, out []failover.Effect) []failover.Effect {
	switch ev := ev.(type) {
	case failover.Started:
		out = k.backup(now, append(out, failover.Drop{}))
	case failover.Advertised:
		out = k.hears(now, ev, out)
	case failover.LinkChanged:
		switch {
		case !ev.Up && k.state != failover.Fault:
			out = k.enters(failover.Fault, append(out, failover.Drop{}))
		case ev.Up && k.state == failover.Fault:
			out = k.backup(now, out)
		}
	case failover.StopWanted:
		if k.state == failover.Active {
			out = append(out, failover.Drop{}, k.advert(0))
		}
		return append(out, failover.Stopped{})
	case failover.Tick, failover.HoldWanted, failover.PeerSaid, failover.Measured, failover.Probed, failover.StepEnded, failover.StepSaid, failover.AddressLost,
		failover.AddressFound, failover.Hearing, failover.JournalChanged, failover.Held, failover.Durable, failover.Asked, failover.CaughtUp, failover.Checked, failover.DatabaseFenced, failover.Disturbed,
		failover.SwitchoverWanted, failover.Witnessed:
		// It knows nothing of them.
	}
	if k.state == failover.Fault || now.Before(k.timer) {
		return out
	}
	out = append(out, k.advert(k.cfg.Priority))
	k.timer = now.Add(k.interval())
	if k.state != failover.Active {
		out = k.enters(failover.Active, append(out, failover.Hold{}, failover.Announce{}))
	}
	return out
}

func (k *keepalived) hears(now mono.Instant, ev failover.Advertised, out []failover.Effect) []failover.Effect {
	p := ev.Advertisement.Priority
	active := k.state == failover.Active
	switch {
	case k.state == failover.Fault:
	case active && (p > k.cfg.Priority || p == k.cfg.Priority && k.cfg.Local.Less(ev.Source)):
		return k.backup(now, append(out, failover.Drop{}))
	case active:
		k.timer = now // it answers at once
	case p == 0:
		k.timer = now.Add(k.skew())
	case p >= k.cfg.Priority || k.nopreempt:
		k.timer = now.Add(3*k.interval() + k.skew())
	}
	return out
}

func (k *keepalived) backup(now mono.Instant, out []failover.Effect) []failover.Effect {
	k.timer = now.Add(3*k.interval() + k.skew())
	return k.enters(failover.Backup, out)
}

func (k *keepalived) enters(s failover.State, out []failover.Effect) []failover.Effect {
	k.state = s
	k.said++
	return append(out, failover.Tell{State: failover.PeerState{Seq: k.said, State: s, Holds: s == failover.Active}})
}

func (k *keepalived) advert(priority uint8) failover.Effect {
	return failover.Send{Advertisement: vrrp.Advertisement{
		VRID: k.cfg.VRID, Priority: priority, MaxAdvertInterval: k.cfg.Interval, Addresses: k.cfg.Addresses,
	}}
}
