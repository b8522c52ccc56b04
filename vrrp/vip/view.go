package vip

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// view is what the kernel has of the interfaces and addresses that are watched,
// and what was told of it.
type view struct {
	links    map[string]*link
	byIndex  map[int]*link
	subjects map[*Holder]*subject
}

// link is an interface of that name, or the lack of it.
type link struct {
	name     string
	index    int    // 0: missing
	flags    uint32 // IFF_
	subjects []*subject
	// addresses are those that somebody watches here, there or not.
	addresses map[netip.Addr]*address
}

type address struct {
	there    []placed
	subjects []*subject
}

type placed struct {
	assigned
	presence
}

// subject is a Holder and what it was told. A kind of 0 was not told yet.
type subject struct {
	holder    *Holder
	added     uint64
	index     int // 0: missing; -1: not told
	link      linkState
	addresses []ChangeKind // in the order of its Config
}

type linkState struct {
	kind ChangeKind // LinkUp or LinkDown
	down DownCause
}

// newView has nothing of the kernel's yet. What was told stays told.
func newView(holders map[*Holder]uint64, old *view) view {
	v := view{links: map[string]*link{}, byIndex: map[int]*link{}, subjects: map[*Holder]*subject{}}
	for h, added := range holders {
		s := old.subjects[h]
		if s == nil || s.added != added {
			s = &subject{holder: h, added: added, index: -1, addresses: make([]ChangeKind, len(h.cfg.Addresses))}
		}
		v.subjects[h] = s
		l := v.links[h.cfg.Interface]
		if l == nil {
			l = &link{name: h.cfg.Interface, addresses: map[netip.Addr]*address{}}
			v.links[l.name] = l
		}
		l.subjects = append(l.subjects, s)
		for _, p := range h.cfg.Addresses {
			a := l.addresses[p.Addr()]
			if a == nil {
				a = &address{}
				l.addresses[p.Addr()] = a
			}
			a.subjects = append(a.subjects, s)
		}
	}
	for _, l := range v.links {
		slices.SortFunc(l.subjects, func(a, b *subject) int { return int(a.added) - int(b.added) })
	}
	return v
}

// apply takes one message, and tells what it changes.
func (v *view) apply(kind uint16, body []byte, report func(Change)) {
	switch kind {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		if n, ok := parseLink(kind, body); ok {
			v.applyLink(n, report)
		}
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		index, _ := addressIndex(body)
		l := v.byIndex[index]
		if l == nil {
			return
		}
		if n, ok := parseAddress(kind, body); ok {
			l.applyAddress(n, report)
		}
	}
}

// applyLink: an interface is created, removed, renamed, or goes up and down.
func (v *view) applyLink(n linkNote, report func(Change)) {
	before := v.byIndex[n.index]
	if before != nil && (n.gone || before.name != string(n.name)) {
		v.lose(before)
		before.tell(report)
	}
	now := v.links[string(n.name)]
	if now == nil || n.gone {
		return
	}
	if now.index != n.index {
		v.lose(now)
		now.index = n.index
		v.byIndex[n.index] = now
	}
	now.flags = n.flags
	now.tell(report)
}

func (v *view) lose(l *link) {
	delete(v.byIndex, l.index)
	l.index, l.flags = 0, 0
	for _, a := range l.addresses {
		a.there = nil
	}
}

func (l *link) applyAddress(n addressNote, report func(Change)) {
	a := l.addresses[n.Addr()]
	if a == nil {
		return
	}
	if n.gone {
		a.there = slices.DeleteFunc(a.there, func(p placed) bool { return p.assigned == n.assigned })
	} else {
		l.put(n.assigned, n.presence)
	}
	for _, s := range a.subjects {
		s.tellAddress(l, n.Addr(), report)
	}
}

// put notes that the address is there, if somebody watches it.
func (l *link) put(as assigned, is presence) {
	a := l.addresses[as.Addr()]
	if a == nil {
		return
	}
	i := slices.IndexFunc(a.there, func(p placed) bool { return p.assigned == as })
	if i < 0 {
		a.there = append(a.there, placed{as, is})
		return
	}
	a.there[i].presence = is
}

// tell reports all that was not told yet.
func (v *view) tell(report func(Change)) {
	for _, l := range v.links {
		l.tell(report)
	}
}

func (l *link) tell(report func(Change)) {
	for _, s := range l.subjects {
		s.tellLink(l, report)
		for _, p := range s.holder.cfg.Addresses {
			s.tellAddress(l, p.Addr(), report)
		}
	}
}

func (l *link) state() linkState {
	switch {
	case l.flags&unix.IFF_UP == 0:
		return linkState{LinkDown, AdminDown}
	case l.flags&unix.IFF_RUNNING == 0:
		return linkState{LinkDown, NoCarrier}
	}
	return linkState{kind: LinkUp}
}

func (s *subject) tellLink(l *link, report func(Change)) {
	if s.index != l.index {
		s.index, s.link = l.index, linkState{}
		if l.index == 0 {
			report(Change{Holder: s.holder, Kind: InterfaceMissing})
			return
		}
		report(Change{Holder: s.holder, Kind: InterfacePresent, Index: l.index})
	}
	if is := l.state(); l.index != 0 && s.link != is {
		s.link = is
		report(Change{Holder: s.holder, Kind: is.kind, Down: is.down})
	}
}

func (s *subject) tellAddress(l *link, addr netip.Addr, report func(Change)) {
	for i, p := range s.holder.cfg.Addresses {
		if p.Addr() != addr {
			continue
		}
		if is := l.addresses[addr].state(p); s.addresses[i] != is {
			s.addresses[i] = is
			report(Change{Holder: s.holder, Kind: is, Prefix: p})
		}
	}
}

// state is by the same rules as Held. The worst of what is there counts.
func (a *address) state(p netip.Prefix) ChangeKind {
	state := AddressGone
	for _, t := range a.there {
		switch {
		case t.duplicate:
			return AddressDuplicate
		case t.permanent:
			state = AddressPermanent
		case state == AddressGone && (p.Addr().Is6() || t.Prefix == p):
			state = AddressPresent
		}
	}
	return state
}
