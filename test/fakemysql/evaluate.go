package fakemysql

// Expressions and variables, as far as statements about replication use them.

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

func text(s string) *string { return &s }

// value is what an expression gives: NULL, a number or text. A word is assigned
// from text and a number is not, so that the difference tells.
type value struct {
	v    *string
	text bool
}

func number(s string) value { return value{v: &s} }

// selects answers a SELECT: of expressions, or from one of two tables.
func (c *conn) selects(p *parser, statement string) (*result, *fault) {
	if p.has("FROM") {
		return c.selectFrom(p, statement)
	}
	r, row := &result{}, []*string(nil)
	for {
		begin := p.at
		e, f := c.expression(p)
		if f != nil {
			return nil, f
		}
		name := p.tokens[begin].text
		if p.take("AS") {
			name = p.word()
		}
		r.columns = append(r.columns, name)
		row = append(row, e.v)
		if !p.take(",") {
			break
		}
	}
	if !p.done() {
		return nil, syntaxError(statement)
	}
	r.rows = [][]*string{row}
	return r, nil
}

// selectFrom answers from the table of transactions or that of sessions; columns
// are told by what they are called in the answer.
func (c *conn) selectFrom(p *parser, statement string) (*result, *fault) {
	st := &c.server.state
	counts := p.has("COUNT") || p.has("MAX")
	var names []string
	for !p.take("FROM") {
		if p.take("AS") {
			names = append(names, p.word())
			continue
		}
		p.at++
	}
	table := strings.ToUpper(p.word())
	r := &result{columns: names}
	switch table {
	case "INFORMATION_SCHEMA.INNODB_TRX":
		if f := c.denied("PROCESS"); f != nil {
			return nil, f
		}
		oldest := 0
		if c.inTransaction && !counts {
			r.rows = append(r.rows, []*string{text(strconv.FormatUint(c.id, 10))})
		}
		for _, s := range st.Sessions {
			oldest = max(oldest, s.Seconds)
			if (s.Modifies || s.Locks) && !counts {
				r.rows = append(r.rows, []*string{text(fmt.Sprint(s.ID))})
			}
		}
		if counts {
			r.rows = [][]*string{{text(strconv.Itoa(oldest))}}
		}
	case "INFORMATION_SCHEMA.SYSTEM_VARIABLES", "PERFORMANCE_SCHEMA.VARIABLES_INFO":
		row, f := c.server.origin(table, names)
		if f != nil {
			return nil, f
		}
		r.rows = [][]*string{row}
	case "INFORMATION_SCHEMA.PROCESSLIST":
		dumps := 0
		for _, s := range c.sessions() {
			if strings.HasPrefix(s.Command, "Binlog Dump") {
				dumps++
			}
			values := map[string]*string{"id": text(fmt.Sprint(s.ID)), "user": text(s.User), "command": text(s.Command), "milliseconds": text("0")}
			var row []*string
			for _, name := range names {
				row = append(row, values[name])
			}
			r.rows = append(r.rows, row)
		}
		if counts {
			r.rows = [][]*string{{text(strconv.Itoa(dumps))}}
		}
	default:
		return nil, faultf(1146, "42S02", "Table '%s' doesn't exist", table)
	}
	return r, nil
}

// origin answers where a variable has its value from: the one question about the
// event scheduler, whether a statement set it, and those about read_only.
func (s *Server) origin(table string, names []string) ([]*string, *fault) {
	st, k := &s.state, s.kind
	there, closed := k.mariadb, st.closed()
	if strings.HasPrefix(table, "PERFORMANCE_SCHEMA") {
		there, closed = k.mysql(8, 0, 0), st.SuperReadOnly
	}
	if !there {
		return nil, faultf(1109, "42S02", "Unknown table '%s'", table)
	}
	values := map[string]string{"by_statement": "0", "origin": "COMPILED", "value": "OFF"}
	if st.EventsSet {
		values["by_statement"] = "1"
	}
	if closed {
		values["value"] = "ON"
	}
	var row []*string
	for _, name := range names {
		row = append(row, text(values[name]))
	}
	return row, nil
}

// dumpID begins the ids of the sessions of replicas.
const dumpID = 2_000_000

// sessions are those of the model and the connections themselves.
func (c *conn) sessions() []Session {
	sessions := slices.Clone(c.server.state.Sessions)
	for i := range c.server.state.replicas() {
		sessions = append(sessions, Session{ID: dumpID + uint64(i), User: "repl", Command: "Binlog Dump GTID"})
	}
	for _, id := range slices.Sorted(maps.Keys(c.server.conns)) {
		o := c.server.conns[id]
		if !c.server.state.Denied["PROCESS"] || o.user == c.user {
			sessions = append(sessions, Session{ID: id, User: o.user, Command: "Sleep"})
		}
	}
	return sessions
}

func (c *conn) expression(p *parser) (value, *fault) {
	left, f := c.primary(p)
	if f != nil {
		return value{}, f
	}
	if !p.take("<") {
		return left, nil
	}
	right, f := c.primary(p)
	if f != nil || left.v == nil || right.v == nil {
		return value{}, f
	}
	a, _ := strconv.ParseFloat(*left.v, 64)
	b, _ := strconv.ParseFloat(*right.v, 64)
	if a < b {
		return number("1"), nil
	}
	return number("0"), nil
}

func (c *conn) primary(p *parser) (value, *fault) {
	if s, ok := p.text(); ok {
		return value{&s, true}, nil
	}
	negative := p.take("-")
	word := p.word()
	switch {
	case word == "":
		return value{}, syntaxError("")
	case strings.HasPrefix(word, "@@"):
		return c.server.variable(word)
	case p.take("("):
		return c.call(p, strings.ToUpper(word))
	case negative:
		word = "-" + word
	}
	return number(word), nil
}

func (c *conn) call(p *parser, function string) (value, *fault) {
	var args []value
	for !p.take(")") {
		v, f := c.expression(p)
		if f != nil {
			return value{}, f
		}
		args = append(args, v)
		if !p.take(",") && (p.done() || p.tokens[p.at].text != ")") {
			return value{}, syntaxError(function)
		}
	}
	return c.apply(function, args)
}

func (c *conn) apply(function string, args []value) (value, *fault) {
	mariadb := c.server.kind.mariadb
	switch {
	case function == "CONNECTION_ID":
		return number(strconv.FormatUint(c.id, 10)), nil
	case function == "VERSION":
		return value{&c.server.config.Version, true}, nil
	case function == "CURRENT_USER":
		return value{text(c.user + "@localhost"), true}, nil
	case function == "SYSDATE":
		now := time.Now()
		return number(fmt.Sprintf("%d.%06d", now.Unix(), now.Nanosecond()/1000)), nil
	case function == "UNIX_TIMESTAMP" && len(args) == 1:
		return args[0], nil
	case function == "IF" && len(args) == 3:
		chosen := args[2]
		if args[0].v != nil && *args[0].v != "0" {
			chosen = args[1]
		}
		return value{chosen.v, args[1].text || args[2].text}, nil
	case function == "MASTER_GTID_WAIT" && mariadb, function == "WAIT_FOR_EXECUTED_GTID_SET" && !mariadb:
		return c.waitFor(args)
	default:
		if !mariadb { // it looks for a stored function
			return value{}, faultf(1046, "3D000", "No database selected")
		}
		return value{}, faultf(1305, "42000", "FUNCTION %s does not exist", function)
	}
}

func (c *conn) waitFor(args []value) (value, *fault) {
	st, mariadb := &c.server.state, c.server.kind.mariadb
	if len(args) == 0 || args[0].v == nil {
		return value{}, faultf(1772, "HY000", "Malformed GTID set specification 'NULL'.")
	}
	target, ok := parseSet(*args[0].v, mariadb)
	if !ok {
		return value{}, faultf(1772, "HY000", "Malformed GTID set specification '%s'.", *args[0].v)
	}
	seconds := 1e6
	if len(args) > 1 && args[1].v != nil {
		seconds, _ = strconv.ParseFloat(*args[1].v, 64)
	}
	if seconds == 0 && !mariadb {
		seconds = 1e6 // to MySQL, none is for ever
	}
	reached, f := c.wait(seconds, func() bool {
		if mariadb {
			return covers(st.Applied, target, true)
		}
		return covers(st.Executed, target, false)
	})
	switch {
	case f != nil:
		return value{}, f
	case reached:
		return number("0"), nil
	case mariadb:
		return number("-1"), nil
	default:
		return number("1"), nil
	}
}

// variable reads @@GLOBAL.name; what the release does not have is error 1193.
func (s *Server) variable(name string) (value, *fault) {
	name = strings.ToLower(strings.TrimPrefix(name, "@@"))
	name = strings.TrimPrefix(strings.TrimPrefix(name, "global."), "session.")
	st, k := &s.state, s.kind
	if v, ok := st.Variables[name]; ok {
		return value{&v, true}, nil
	}
	bit := func(b bool) *string {
		if b {
			return text("1")
		}
		return text("0")
	}
	readOnly := bit(st.ReadOnly)
	if st.ReadOnlyWord != "" {
		readOnly = &st.ReadOnlyWord
	}
	type variable struct {
		there bool
		value *string
	}
	v, ok := map[string]variable{
		"read_only":         {true, readOnly},
		"server_id":         {true, text(fmt.Sprint(s.config.ServerID))},
		"event_scheduler":   {true, &st.Events},
		"hostname":          {true, text("localhost")},
		"port":              {true, text(strconv.Itoa(s.Port()))},
		"datadir":           {true, text(fmt.Sprintf("/data/%d/", s.config.ServerID))},
		"log_bin":           {true, text("1")},
		"log_slave_updates": {k.slaveWords(), text("1")},
		"super_read_only":   {k.mysql(5, 7, 8), bit(st.SuperReadOnly)},
		"server_uuid":       {!k.mariadb, &s.config.UUID},
		"gtid_executed":     {!k.mariadb, text(list(st.Executed, false))},
		"gtid_purged":       {!k.mariadb, text("")},
		"gtid_mode":         {!k.mariadb, text("ON")},
		"gtid_slave_pos":    {k.mariadb, text(position(st.Applied, true))},
		"gtid_binlog_pos":   {k.mariadb, text(position(st.Executed, true))},
		"gtid_binlog_state": {k.mariadb, text(list(st.Executed, true))},
		"gtid_current_pos":  {k.mariadb, text(position(mergeSets(st.Executed, st.Applied), true))},

		"log_replica_updates":      {k.mysql(8, 0, 26), text("1")},
		"skip_replica_start":       {k.mysql(8, 0, 26), text("0")},
		"rpl_stop_replica_timeout": {k.mysql(8, 0, 26), text(strconv.Itoa(st.StopTimeout))},
		"rpl_stop_slave_timeout":   {!k.mariadb && k.slaveWords(), text(strconv.Itoa(st.StopTimeout))},

		"rpl_semi_sync_master_timeout":       {k.mariadb, text("10000")},
		"rpl_semi_sync_master_wait_no_slave": {k.mariadb, text("1")},
		"rpl_semi_sync_slave_enabled":        {k.mariadb, text("0")},
	}[name]
	if !ok || !v.there {
		return value{}, faultf(1193, "HY000", "Unknown system variable '%s'", name)
	}
	return value{v.value, name == "read_only" && st.ReadOnlyWord != ""}, nil
}

// set carries SET out, one or more variables. SET STATEMENT is MariaDB's.
func (c *conn) set(p *parser, statement string) *fault {
	if c.server.kind.mariadb && p.take("STATEMENT") {
		lockWait := c.lockWait
		defer func() { c.lockWait, c.limit = lockWait, 0 }()
		name := strings.ToLower(p.word())
		if !p.take("=") {
			return syntaxError(statement)
		}
		seconds, err := strconv.ParseFloat(p.word(), 64)
		switch {
		case err != nil || !p.take("FOR", "SET"):
			return syntaxError(statement)
		case name == "lock_wait_timeout":
			c.lockWait = seconds
		case name == "max_statement_time":
			c.limit = seconds
		}
	}
	for {
		scope, _ := p.one("GLOBAL", "SESSION")
		name := strings.ToLower(p.word())
		if name == "names" {
			return nil
		}
		if !p.take("=") {
			return syntaxError(statement)
		}
		e, f := c.expression(p)
		if f != nil {
			return f
		}
		if f := c.assign(scope, name, e); f != nil {
			return f
		}
		if !p.take(",") {
			break
		}
	}
	if !p.done() {
		return syntaxError(statement)
	}
	return nil
}

func (c *conn) assign(scope, name string, e value) *fault {
	st := &c.server.state
	if e.v == nil {
		return faultf(1231, "42000", "Variable '%s' can't be set to the value of 'NULL'", name)
	}
	if scope != "GLOBAL" {
		if name == "lock_wait_timeout" {
			c.lockWait, _ = strconv.ParseFloat(*e.v, 64)
		}
		return nil
	}
	if _, f := c.server.variable(name); f != nil {
		return f
	}
	switch name {
	case "read_only", "super_read_only":
		return c.setReadOnly(name, e)
	case "event_scheduler":
		st.Events, st.EventsSet = *e.v, true
	case "rpl_stop_replica_timeout", "rpl_stop_slave_timeout":
		st.StopTimeout, _ = strconv.Atoi(*e.v)
		st.StopTimeout = max(st.StopTimeout, 2)
	default:
		st.Variables[name] = *e.v
	}
	return nil
}

// readOnlyWords are MariaDB 12's, in the order of their numbers.
var readOnlyWords = [...]string{"OFF", "ON", "NO_LOCK", "NO_LOCK_NO_ADMIN"}

// setReadOnly takes a number or a word, and as servers do not a number in quotes.
// Closing waits for table locks.
func (c *conn) setReadOnly(name string, e value) *fault {
	st := &c.server.state
	if f := c.denied(map[bool]string{true: "READ_ONLY ADMIN", false: "SYSTEM_VARIABLES_ADMIN"}[c.server.kind.mariadb]); f != nil {
		return f
	}
	word := strings.ToUpper(*e.v)
	if n, err := strconv.Atoi(word); err == nil && !e.text && 0 <= n && n < len(readOnlyWords) {
		word = readOnlyWords[n]
	}
	if i := slices.Index(readOnlyWords[:], word); i < 0 || i > 1 && st.ReadOnlyWord == "" {
		return faultf(1231, "42000", "Variable '%s' can't be set to the value of '%s'", name, *e.v)
	}
	on := word != "OFF"
	if on && !st.closed() || on && name == "super_read_only" && !st.SuperReadOnly {
		limited := c.limit > 0 && c.limit < c.lockWait
		patience := c.lockWait
		if limited {
			patience = c.limit
		}
		free, f := c.wait(patience, func() bool { return !st.locked() })
		switch {
		case f != nil:
			return f
		case !free && limited:
			return faultf(1969, "70100", "Query execution was interrupted (max_statement_time exceeded)")
		case !free:
			return faultf(1205, "HY000", "Lock wait timeout exceeded; try restarting transaction")
		}
	}
	switch {
	case name == "super_read_only":
		st.SuperReadOnly = on
		st.ReadOnly = st.ReadOnly || on
	case st.ReadOnlyWord != "":
		st.ReadOnlyWord = word
	default:
		st.ReadOnly = on
		st.SuperReadOnly = st.SuperReadOnly && on
	}
	return nil
}

// status is SHOW GLOBAL STATUS. Semi-sync is part of MariaDB and a plugin of MySQL.
func (st *State) status() [][2]string {
	if !st.server.kind.mariadb {
		return st.Status
	}
	return append([][2]string{
		{"Slaves_connected", strconv.Itoa(st.replicas())},
		{"Rpl_semi_sync_master_status", "OFF"},
		{"Rpl_semi_sync_master_no_tx", "0"},
		{"Rpl_semi_sync_master_clients", "0"},
		{"Rpl_semi_sync_master_wait_sessions", "0"},
		{"Rpl_semi_sync_slave_status", "OFF"},
	}, st.Status...)
}

// showNamed answers SHOW ... LIKE and WHERE Variable_name IN.
func showNamed(p *parser, all [][2]string) *result {
	r := &result{columns: []string{"Variable_name", "Value"}}
	var wanted []string
	for !p.done() {
		if t, ok := p.text(); ok {
			wanted = append(wanted, strings.ToLower(t))
			continue
		}
		p.at++
	}
	for _, v := range all {
		if slices.Contains(wanted, strings.ToLower(v[0])) {
			r.rows = append(r.rows, []*string{text(v[0]), text(v[1])})
		}
	}
	return r
}
