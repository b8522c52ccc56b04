package main

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/heartbeat"
	"github.com/tanist-ha/tanist/internal/node"
	"github.com/tanist-ha/tanist/vrrp/vip"
)

const (
	// watchRetry is the time after which interfaces that cannot be watched are
	// tried again. The leases do not depend on it.
	watchRetry = time.Second
	// learnEvery is how often the peer's hardware addresses are looked up.
	learnEvery = 5 * time.Second
	// learnPatience is how long ago the peer may have been heard for what the
	// kernel knows of its neighbours to be about the peer.
	learnPatience = 2 * time.Second
)

// interfaces tells the instances what becomes of their interfaces and addresses.
type interfaces struct {
	watcher *vip.Watcher
	deliver func(instance string, ev failover.Event)
	log     node.Log

	mu    sync.Mutex // guards names
	names map[*vip.Holder]string
}

func (i *interfaces) add(name string, a addresses) {
	i.mu.Lock()
	i.names[a.Holder] = name
	i.mu.Unlock()
	i.watcher.Add(a.Holder)
}

func (i *interfaces) remove(a addresses) {
	i.watcher.Remove(a.Holder)
	i.mu.Lock()
	delete(i.names, a.Holder)
	i.mu.Unlock()
}

// run watches until ctx ends.
func (i *interfaces) run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := i.watcher.Run(ctx, i.changed); err != nil {
			i.log.Trouble("", "watch the interfaces, trying on", err)
			sleep(ctx, watchRetry)
		}
	}
	return i.watcher.Close()
}

func (i *interfaces) changed(c vip.Change) {
	i.mu.Lock()
	name, known := i.names[c.Holder]
	i.mu.Unlock()
	if !known {
		return
	}
	iface := c.Holder.Interface()
	switch c.Kind {
	case vip.InterfaceMissing:
		i.deliver(name, failover.LinkChanged{Detail: iface + " is missing"})
	case vip.InterfacePresent: // LinkDown or LinkUp follows
	case vip.LinkDown:
		i.deliver(name, failover.LinkChanged{Detail: iface + " is down: " + c.Down.String()})
	case vip.LinkUp:
		i.deliver(name, failover.LinkChanged{Up: true})
	case vip.AddressGone:
		if _, err := net.InterfaceByName(iface); err != nil {
			return // it went with its interface, and InterfaceMissing follows
		}
		i.deliver(name, failover.AddressLost{Address: c.Prefix.String()})
	case vip.AddressPresent:
		i.deliver(name, failover.AddressFound{Address: c.Prefix.String()})
	case vip.AddressPermanent, vip.AddressDuplicate:
		// Without a look the next renewal would not know that there is something to
		// put right.
		if _, _, err := c.Holder.Held(); err != nil && !errors.Is(err, vip.ErrPermanent) {
			i.log.Trouble(name, "look at an address that somebody else changed", err)
		}
		i.deliver(name, failover.AddressLost{Address: c.Prefix.String()})  // a holder puts its own back
		i.deliver(name, failover.AddressFound{Address: c.Prefix.String()}) // another takes it off
	}
}

// learn looks the peer's hardware addresses up while it is heard, so that its
// answers are known from a stranger's when it is silent.
func (d *daemon) learn(ctx context.Context) error {
	for sleep(ctx, learnEvery) {
		if !heardLately(d.heartbeat.Status()) {
			continue
		}
		services, _ := d.now()
		looked := map[*vip.Peer]bool{}
		for _, s := range services {
			if p := s.kernel.hardware; !looked[p] {
				looked[p] = true
				_ = p.Learn() // an interface that is missing has no neighbours
			}
		}
	}
	return nil
}

func heardLately(s heartbeat.Status) bool {
	for _, in := range s.Instances {
		if in.Heard && in.Silent < learnPatience {
			return true
		}
	}
	return false
}
