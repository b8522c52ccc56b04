package replication

// What a gate can tell of errant transactions. It has the source's word, which
// is older than the facts, so it names only what cannot have come from there;
// History.Errant, over two servers that were both read, names all.

// nothingErrant refuses a database with transactions that its source lacks, and
// one whose positions are of another kind than the source's.
func (e *examination) nothingErrant(applied, received Position) {
	last, heard := e.in.Heard.Last()
	if !applied.Empty() && !last.Empty() && applied.Flavor() != last.Flavor() {
		e.refuse(NotKnown, "positions do not compare: %s here, %s at the source", applied.Flavor(), last.Flavor())
		return
	}
	if e.in.Facts.Flavor() != FlavorMySQL {
		e.errantMariaDB(applied, last)
		return
	}
	e.errantMySQL(received, last, heard)
}

// errantMariaDB finds what this server wrote beyond what it applied, or what is
// in the place of another.
func (e *examination) errantMariaDB(applied, last Position) {
	server, serverOK := e.in.Facts.ServerID.Get()
	executed, executedOK := e.in.Facts.Executed.Get()
	if !serverOK || !executedOK {
		e.refuse(NotKnown, "server_id is %s, binary log position is %s",
			e.in.Facts.ServerID.describe(), e.in.Facts.Executed.describe())
		return
	}
	for _, g := range executed.GTIDs() {
		theirs, _ := applied.in(g.Domain)
		if g.Server == server && g.Sequence > theirs.Sequence {
			e.refuse(Errant, "wrote %s itself, beyond the %s it applied", g, shown(applied))
			return
		}
	}
	if ours, theirs, diverged := applied.Diverged(last); diverged {
		e.refuse(Errant, "has %s where the source has %s", ours, theirs)
	}
}

// errantMySQL finds what is executed here, was never received and is not in the
// source's last word. The source may have committed some of that since, or this
// server may have forgotten receiving it, so it is errant only where neither can
// be:
//
//   - written by this server: the source got such transactions from here alone,
//     while this server was its source, and so before its first word;
//   - written by a server that the source did not know at its last word, and
//     that is not the source, whose first write may be younger than that word.
//
// Of these, what cannot be judged is a reason too.
func (e *examination) errantMySQL(received, last Position, heard bool) {
	f := e.in.Facts
	executed, ok := f.Executed.Get()
	text, textOK := f.ServerUUID.Get()
	if !ok || !textOK || !f.ServerID.IsKnown() {
		e.refuse(NotKnown, "server_uuid is %s, server_id is %s, gtid_executed is %s",
			f.ServerUUID.describe(), f.ServerID.describe(), f.Executed.describe())
		return
	}
	own, err := parseUUID(text)
	if err != nil {
		e.refuse(NotKnown, "server_uuid cannot be read: %v", err)
		return
	}
	suspect := executed.set.Subtract(last.set).Subtract(received.set).Subtract(e.in.MaxReceived.set)
	mine := suspect.writtenBy(own)
	switch {
	case mine.Empty():
	case !heard:
		e.refuse(NotKnown, "wrote %s itself, and what the source has was never heard", shown(mine.Position()))
	default:
		e.refuse(Errant, "wrote %s itself that the source lacks: %s", transactions(mine.Count()), shown(mine.Position()))
	}
	sources, sourcesOK := e.sources()
	strange := suspect.keep(func(w writer) bool {
		return w.server != own && !sources[w.server] && last.set.writtenBy(w.server).Empty()
	})
	switch {
	case strange.Empty():
	case !heard:
		e.refuse(NotKnown, "has %s of another server than its source, and what the source has was never heard", shown(strange.Position()))
	case !sourcesOK:
		e.refuse(NotKnown, "has %s of a server that the source does not know, unless it is the source: its server_uuid is not known", shown(strange.Position()))
	default:
		e.refuse(Errant, "has %s of a server that the source does not know: %s", transactions(strange.Count()), shown(strange.Position()))
	}
}

// sources returns the servers this database follows; false when one is not known.
func (e *examination) sources() (map[serverUUID]bool, bool) {
	channels, _ := e.in.Facts.Channels.Get()
	sources, all := map[serverUUID]bool{}, true
	for _, c := range channels {
		text, _ := c.SourceUUID.Get()
		uuid, err := parseUUID(text)
		if err != nil {
			all = false
			continue
		}
		sources[uuid] = true
	}
	return sources, all
}
