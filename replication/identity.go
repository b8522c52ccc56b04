package replication

// Two servers that replicate must not share a name. Hosts made from one template
// do: the copy brings server_id along, and MySQL's server_uuid in auto.cnf. So a
// shared name is a reason to refuse, and never a proof that two are one.

import (
	"fmt"
	"strings"
)

// sharesID reports whether the channel's source has said to have f's server_id.
func (c Channel) sharesID(f Facts) bool {
	ours, ok := f.ServerID.Get()
	theirs, theirsOK := c.SourceServerID.Get()
	return ok && theirsOK && ours == theirs && ours != 0
}

// sharesUUID reports whether the channel's source has said to have f's server_uuid.
func (c Channel) sharesUUID(f Facts) bool {
	ours, ok := f.ServerUUID.Get()
	theirs, theirsOK := c.SourceUUID.Get()
	return ok && theirsOK && sameUUID(ours, theirs)
}

// leadsTo reports whether the channel's source is the server of f, as far as
// names tell: by server_uuid where both have one, else by server_id.
func (c Channel) leadsTo(f Facts) bool {
	if f.ServerUUID.IsKnown() && c.SourceUUID.IsKnown() {
		return c.sharesUUID(f)
	}
	return c.sharesID(f)
}

func sameUUID(a, b string) bool {
	return a != "" && strings.EqualFold(strings.TrimSpace(a), strings.TrimSpace(b))
}

func sameServerID(id uint32) string {
	return fmt.Sprintf("source and replica both have server_id %d: either the address leads back to this server, "+
		"or its configuration was copied, and each skips the other's transactions as its own; give one another server_id", id)
}

func sameServerUUID(uuid string) string {
	return fmt.Sprintf("source and replica both have server_uuid %s: either the address leads back to this server, "+
		"or its data directory was copied with auto.cnf in it, as templates are; remove auto.cnf from the replica's and restart it", cut(uuid, 64))
}
