package main

// The heartbeat of one instance is made and ended while those of the others go on.

import (
	"sync"

	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/internal/node"
	"github.com/tanist-ha/tanist/vrrp"
)

// heartbeats are those of all instances.
type heartbeats interface {
	// add makes the heartbeat of an instance, in the place of an earlier one of its
	// name. What that one had open and the new one needs stays open.
	add(in config.Instance, router vrrp.Config) (node.Heartbeat, error)
	// remove ends the heartbeat of an instance.
	remove(name string)
}

// keys are what seals the heartbeat.
type keys interface {
	// read reads and checks a key file. Nothing changes until use is called.
	read(path string) (use func(), err error)
}

// noKeys are the keys of a heartbeat that nobody seals.
type noKeys struct{}

func (noKeys) read(string) (use func(), err error) { return func() {}, nil }

// routes are the virtual routers that this node has a part in.
type routes struct {
	mu     sync.RWMutex // guards byVRID
	byVRID map[uint8]route
}

type route struct {
	name     string
	wanted   config.Checksum
	checksum *checksum
}

// of returns the route of a VRID; its name is empty when there is none.
func (r *routes) of(vrid uint8) route {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.byVRID[vrid]
}

func (h *heartbeat) add(in config.Instance, _ vrrp.Config) (node.Heartbeat, error) {
	r := &h.routes
	r.mu.Lock()
	defer r.mu.Unlock()
	next := route{name: in.Name, wanted: in.Heartbeat.Checksum}
	if old := r.byVRID[in.VRID]; old.name == next.name && old.wanted == next.wanted {
		next.checksum = old.checksum // with what it learnt of the peer
	} else {
		next.checksum = newChecksum(in.Heartbeat.Checksum)
	}
	r.drop(in.Name)
	r.byVRID[in.VRID] = next
	return h, nil
}

func (h *heartbeat) remove(name string) {
	h.routes.mu.Lock()
	defer h.routes.mu.Unlock()
	h.routes.drop(name)
}

func (r *routes) drop(name string) {
	for vrid, old := range r.byVRID {
		if old.name == name {
			delete(r.byVRID, vrid)
		}
	}
}
