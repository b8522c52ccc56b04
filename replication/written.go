package replication

// What a server wrote itself, apart from what it applied of another's.

// WrittenSince returns how many transactions the measured server itself committed
// beyond base, of which it had all. On MariaDB that is the growth of the domains in
// which its own is the last transaction, taking their numbers for unbroken, as
// Missing does. False when that cannot be told: something needed was not read, or the
// two positions are of two flavors.
func (f Facts) WrittenSince(base Position) (uint64, bool) {
	here, ok := f.Position()
	if !ok || !base.Empty() && !here.Empty() && base.flavor != here.flavor {
		return 0, false
	}
	if here.flavor == FlavorMySQL {
		own, ok := f.ownUUID()
		if !ok {
			return 0, false
		}
		return here.set.Subtract(base.set).writtenBy(own).Count(), true
	}
	id, ok := f.ServerID.Get()
	if !ok {
		return 0, false
	}
	var n uint64
	for _, g := range here.gtids {
		if was, _ := base.in(g.Domain); g.Server == id && g.Sequence > was.Sequence {
			n = addSaturating(n, g.Sequence-was.Sequence)
		}
	}
	return n, true
}

// Wrote reports whether the measured server itself committed any of the transactions.
// False, too, when its name was not read.
func (f Facts) Wrote(t Transactions) bool {
	if own, ok := f.ownUUID(); ok && !t.set.writtenBy(own).Empty() {
		return true
	}
	id, ok := f.ServerID.Get()
	for _, r := range t.ranges {
		if ok && r.Server == id {
			return true
		}
	}
	return false
}

func (f Facts) ownUUID() (serverUUID, bool) {
	text, ok := f.ServerUUID.Get()
	if !ok {
		return serverUUID{}, false
	}
	own, err := parseUUID(text)
	return own, err == nil
}
