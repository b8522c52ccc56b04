package fakemysql

// Statements about replication, with the words and channel forms of the release.

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// word consumes SLAVE or REPLICA where the grammar has it, and tells whether it
// was the old one.
func (c *conn) word(p *parser, plural string) (old, ok bool) {
	k := c.server.kind
	switch {
	case k.slaveWords() && p.take("SLAVE"+plural):
		return true, true
	case k.replicaWords() && p.take("REPLICA"+plural):
		return !k.sourceColumns(), true
	default:
		return false, false
	}
}

func (c *conn) show(p *parser, statement string) (*result, *fault) {
	switch {
	case p.take("GRANTS"):
		r := &result{columns: []string{"Grants"}}
		for _, line := range c.server.state.Grants {
			r.rows = append(r.rows, []*string{&line})
		}
		return r, nil
	case p.take("GLOBAL", "STATUS"), p.take("STATUS"):
		return showNamed(p, c.server.state.status()), nil
	}
	all := c.server.kind.mariadb && p.take("ALL")
	plural := ""
	if all {
		plural = "S"
	}
	old, ok := c.word(p, plural)
	if !ok {
		return nil, syntaxError(statement)
	}
	channels := c.server.state.Channels
	name, named := "", false
	if c.server.kind.mariadb && !all {
		name, named = p.text()
	}
	if !p.take("STATUS") {
		return nil, syntaxError(statement)
	}
	if !named && c.server.kind.forChannel() && p.take("FOR", "CHANNEL") {
		name, named = p.text()
	}
	if !p.done() {
		return nil, syntaxError(statement)
	}
	if f := c.denied(map[bool]string{true: "SLAVE MONITOR", false: "REPLICATION CLIENT"}[c.server.kind.mariadb]); f != nil {
		return nil, f
	}
	if named || c.server.kind.mariadb && !all {
		one, f := c.channel(name)
		if f != nil && named {
			return nil, f
		}
		channels = slices.DeleteFunc([]*Channel{one}, func(c *Channel) bool { return c == nil })
	}
	r := c.server.state.showStatus(channels, old)
	if c.server.kind.mariadb && !all {
		r = r.without("Connection_name", "Slave_SQL_State")
	}
	return r, nil
}

func (r *result) without(names ...string) *result {
	out := &result{}
	var keep []int
	for i, name := range r.columns {
		if !slices.Contains(names, name) {
			keep = append(keep, i)
			out.columns = append(out.columns, name)
		}
	}
	for _, row := range r.rows {
		var cut []*string
		for _, i := range keep {
			cut = append(cut, row[i])
		}
		out.rows = append(out.rows, cut)
	}
	return out
}

func (c *conn) channel(name string) (*Channel, *fault) {
	for _, channel := range c.server.state.Channels {
		if channel.Name == name {
			return channel, nil
		}
	}
	if c.server.kind.mariadb {
		return nil, faultf(1617, "HY000", "There is no master connection '%s'", name)
	}
	return nil, faultf(3074, "HY000", "Replica channel '%s' does not exist.", name)
}

// threads carries START and STOP out.
func (c *conn) threads(p *parser, verb, statement string) *fault {
	k := c.server.kind
	all := k.mariadb && p.take("ALL")
	plural := ""
	if all {
		plural = "S"
	}
	if _, ok := c.word(p, plural); !ok {
		return syntaxError(statement)
	}
	name, named := "", false
	if k.mariadb && !all {
		name, named = p.text()
	}
	io, sql := p.take("IO_THREAD"), p.take("SQL_THREAD")
	if !named && k.forChannel() && p.take("FOR", "CHANNEL") {
		name, named = p.text()
	}
	if !p.done() {
		return syntaxError(statement)
	}
	if f := c.denied(map[bool]string{true: "REPLICATION SLAVE ADMIN", false: "REPLICATION_SLAVE_ADMIN"}[k.mariadb]); f != nil {
		return f
	}
	if !io && !sql {
		io, sql = true, true
	}
	channels := c.server.state.Channels
	if named || k.mariadb && !all {
		one, f := c.channel(name)
		if f != nil {
			return f
		}
		channels = []*Channel{one}
	}
	for _, channel := range channels {
		if verb == "START" {
			c.server.state.Start(channel, io, sql)
			continue
		}
		if f := c.stop(channel, io, sql); f != nil {
			return f
		}
	}
	return nil
}

// stop stops threads. MySQL waits for an applier behind a client's lock, at most
// rpl_stop_replica_timeout, and then leaves it stopping.
func (c *conn) stop(channel *Channel, io, sql bool) *fault {
	st := &c.server.state
	if io {
		channel.IO = false
	}
	if !sql || !channel.SQL {
		return nil
	}
	if !st.ApplierBlocked || c.server.kind.mariadb {
		channel.SQL = false
		return nil
	}
	channel.stopping = true
	stopped, f := c.wait(float64(st.StopTimeout), func() bool { return !channel.SQL })
	if f == nil && !stopped {
		f = faultf(1875, "HY000", "STOP REPLICA command execution is incomplete: Replica SQL thread got the stop signal, "+
			"thread is busy, SQL thread will stop once the current task is complete.")
	}
	return f
}

func (c *conn) reset(p *parser, statement string) *fault {
	st := &c.server.state
	if _, ok := c.word(p, ""); !ok {
		return syntaxError(statement)
	}
	name, named := "", false
	if c.server.kind.mariadb {
		name, named = p.text()
	}
	all := p.take("ALL")
	if !named && c.server.kind.forChannel() && p.take("FOR", "CHANNEL") {
		name, named = p.text()
	}
	if !p.done() {
		return syntaxError(statement)
	}
	one := named || c.server.kind.mariadb
	if _, f := c.channel(name); named && f != nil {
		return f
	}
	for _, channel := range st.Channels {
		switch {
		case one && channel.Name != name:
		case channel.IO || channel.SQL:
			return faultf(1198, "HY000", "This operation cannot be performed as you have a running replica; run STOP REPLICA first")
		case !all:
			channel.Received = Set{}
		}
	}
	if all {
		st.Channels = slices.DeleteFunc(st.Channels, func(channel *Channel) bool { return !one || channel.Name == name })
	}
	return nil
}

// change carries CHANGE MASTER and CHANGE REPLICATION SOURCE out. Where both
// threads stand, it drops what was received.
func (c *conn) change(p *parser, statement string) *fault {
	k, st := c.server.kind, &c.server.state
	prefix := ""
	switch {
	case k.slaveWords() && p.take("MASTER"):
		prefix = "MASTER_"
	case k.mysql(8, 0, 23) && p.take("REPLICATION", "SOURCE"):
		prefix = "SOURCE_"
	default:
		return syntaxError(statement)
	}
	name := ""
	if k.mariadb {
		name, _ = p.text()
	}
	if !p.take("TO") {
		return syntaxError(statement)
	}
	options := map[string]string{}
	for {
		key := strings.ToUpper(p.word())
		if key == "" || !p.take("=") {
			return syntaxError(statement)
		}
		value, ok := p.text()
		if !ok {
			value = p.word()
		}
		if key = k.option(key, prefix); key == "" {
			return syntaxError(statement)
		}
		options[key] = value
		if !p.take(",") {
			break
		}
	}
	if k.forChannel() && p.take("FOR", "CHANNEL") {
		name, _ = p.text()
	}
	if !p.done() {
		return syntaxError(statement)
	}
	channel, missing := c.channel(name)
	switch {
	case missing != nil:
		channel = &Channel{Name: name, Received: Set{}}
		st.Channels = append(st.Channels, channel)
	case channel.IO || channel.SQL && (k.mariadb || options["AUTO_POSITION"] != ""):
		return faultf(1198, "HY000", "This operation cannot be performed with a running replica; run STOP REPLICA first")
	case !channel.SQL:
		channel.Received = Set{}
	}
	if channel.Options == nil {
		channel.Options = map[string]string{}
	}
	maps.Copy(channel.Options, options)
	if host, ok := options["HOST"]; ok {
		channel.Host = host
	}
	if port, err := strconv.Atoi(options["PORT"]); err == nil {
		channel.Port = port
	}
	if auto, ok := options["AUTO_POSITION"]; ok {
		channel.AutoPosition = auto == "1"
	}
	if gtid, ok := options["USE_GTID"]; ok {
		channel.AutoPosition = !strings.EqualFold(gtid, "no")
	}
	return nil
}

// option takes the word for the source out of the name of an option; empty where
// the release has none of that name.
func (k kind) option(key, prefix string) string {
	if key == "GET_"+prefix+"PUBLIC_KEY" && k.mysql(8, 0, 4) {
		return "GET_PUBLIC_KEY"
	}
	name, ok := strings.CutPrefix(key, prefix)
	switch name {
	case "USE_GTID":
		ok = ok && k.mariadb
	case "AUTO_POSITION", "RETRY_COUNT":
		ok = ok && !k.mariadb
	case "HOST", "PORT", "USER", "PASSWORD", "CONNECT_RETRY", "HEARTBEAT_PERIOD", "DELAY", "LOG_FILE", "LOG_POS",
		"SSL", "SSL_VERIFY_SERVER_CERT", "SSL_CA", "SSL_CERT", "SSL_KEY":
	default:
		ok = false
	}
	if !ok {
		return ""
	}
	return name
}
