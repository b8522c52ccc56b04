package fakemysql

// The model: what a server has executed, what its channels fetch and apply, who
// is connected. Replication happens whenever somebody looks.

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Set says what is executed: for MySQL the last of the transactions 1 to n of
// each UUID, for MariaDB the last sequence number of each "domain-server".
type Set map[string]uint64

// Session is a client that the process list shows.
type Session struct {
	ID            uint64
	User, Command string
	Seconds       int  // age of its transaction
	Modifies      bool // its transaction wrote something
	Locks         bool // it holds LOCK TABLES
	System        bool // it may not be killed (1095)
}

// Channel is one replication connection.
type Channel struct {
	Name    string
	Host    string
	Port    int // of another fake server of this process
	IO, SQL bool
	// Received is what the relay log has, applied or not.
	Received Set
	// Stalled is a link over which nothing comes though it stands.
	Stalled bool
	// AutoPosition is Auto_Position, or Using_Gtid.
	AutoPosition bool
	// Options are those of the CHANGE statements, without the word for the source.
	Options map[string]string
	// Row replaces columns of the status; nil is NULL.
	Row map[string]*string
	// stopping is an applier that was told to stop while it is blocked.
	stopping bool
}

// State is what a test may look at and change.
type State struct {
	ReadOnly, SuperReadOnly bool
	// ReadOnlyWord is read_only where it is a word (MariaDB 12): OFF, ON and more.
	ReadOnlyWord string
	Executed     Set // MySQL's gtid_executed, MariaDB's binary log
	Applied      Set // MariaDB's gtid_slave_pos
	Channels     []*Channel
	Sessions     []Session
	// ApplierBlocked is a client's lock, behind which nothing is applied and MySQL
	// does not stop the SQL thread.
	ApplierBlocked bool
	StopTimeout    int             // rpl_stop_replica_timeout, in seconds
	Denied         map[string]bool // privileges that the account lacks
	Grants         []string        // lines of SHOW GRANTS
	Status         [][2]string     // SHOW GLOBAL STATUS, beside what is always there
	Variables      map[string]string
	Asked          uint64 // statements so far
	// Events is event_scheduler, and EventsSet says that a statement set it.
	Events    string
	EventsSet bool

	server *Server
}

func newState(s *Server) State {
	st := State{
		Executed: Set{}, Applied: Set{}, StopTimeout: 31536000, Denied: map[string]bool{}, Variables: map[string]string{},
		server: s,
	}
	st.Events = map[bool]string{true: "ON", false: "OFF"}[s.kind.mysql(8, 0, 0)]
	if s.kind.mariadb && s.kind.atLeast(12, 0, 0) {
		st.ReadOnlyWord = "OFF"
	}
	return st
}

// own is the name under which a server's writes are counted.
func (s *Server) own() string {
	if s.kind.mariadb {
		return "0-" + strconv.FormatUint(uint64(s.config.ServerID), 10)
	}
	return s.config.UUID
}

// Write commits n transactions, whoever may.
func (st *State) Write(n uint64) {
	own := st.server.own()
	last := st.Executed[own]
	if st.server.kind.mariadb {
		for key, seq := range mergeSets(st.Executed, st.Applied) {
			if domainOf(key) == "0" {
				last = max(last, seq)
			}
		}
	}
	st.Executed[own] = last + n
}

// replicate fetches and applies what the threads that run can.
func (st *State) replicate() {
	for _, c := range st.Channels {
		source := byPort[c.Port]
		if c.IO && !c.Stalled && source != nil && source.hung == nil {
			c.Received = mergeSets(c.Received, source.state.Executed)
		}
		if c.stopping && !st.ApplierBlocked {
			c.SQL, c.stopping = false, false
		}
		if c.SQL && !st.ApplierBlocked {
			st.Executed = mergeSets(st.Executed, c.Received)
			if st.server.kind.mariadb {
				st.Applied = mergeSets(st.Applied, c.Received)
			}
		}
	}
}

// replicas counts the channels of other servers that stream from here.
func (st *State) replicas() int {
	n := 0
	for _, other := range byPort {
		for _, c := range other.state.Channels {
			if c.IO && byPort[c.Port] == st.server {
				n++
			}
		}
	}
	return n
}

func (c *Channel) ioWord() string {
	switch {
	case !c.IO:
		return "No"
	case byPort[c.Port] == nil:
		return "Connecting"
	default:
		return "Yes"
	}
}

func yesNo(b bool) string {
	if b {
		return "Yes"
	}
	return "No"
}

// Position returns what the server has, as it writes it itself.
func (st *State) Position() string {
	return position(mergeSets(st.Executed, st.Applied), st.server.kind.mariadb)
}

// Close closes writes as far as the release can, and Closed tells whether they are.
func (st *State) Close() {
	if st.ReadOnlyWord != "" {
		st.ReadOnlyWord = "ON"
		return
	}
	st.ReadOnly, st.SuperReadOnly = true, st.server.kind.mysql(5, 7, 8)
}

// Closed reports whether writes are closed, on MySQL to every account.
func (st *State) Closed() bool {
	return st.closed() && (st.SuperReadOnly || st.server.kind.mariadb)
}

// Start starts threads. MariaDB drops a relay log whose IO thread does not run
// when its SQL thread starts: it means to fetch it again.
func (st *State) Start(c *Channel, io, sql bool) {
	if sql && !c.SQL && !c.IO && st.server.kind.mariadb {
		c.Received = maps.Clone(st.Applied)
	}
	c.IO = c.IO || io
	c.SQL = c.SQL || sql
}

func mergeSets(a, b Set) Set {
	m := maps.Clone(a)
	if m == nil {
		m = Set{}
	}
	for k, n := range b {
		m[k] = max(m[k], n)
	}
	return m
}

func covers(a, b Set, mariadb bool) bool {
	if mariadb {
		a, b = perDomain(a), perDomain(b)
	}
	for k, n := range b {
		if a[k] < n {
			return false
		}
	}
	return true
}

func domainOf(key string) string {
	domain, _, _ := strings.Cut(key, "-")
	return domain
}

func perDomain(s Set) Set {
	m := Set{}
	for k, n := range s {
		m[domainOf(k)] = max(m[domainOf(k)], n)
	}
	return m
}

// list writes every element of a set: gtid_executed, gtid_binlog_state.
func list(s Set, mariadb bool) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(s)) {
		n := strconv.FormatUint(s[k], 10)
		switch {
		case s[k] == 0:
		case mariadb:
			parts = append(parts, k+"-"+n)
		case s[k] == 1:
			parts = append(parts, k+":1")
		default:
			parts = append(parts, k+":1-"+n)
		}
	}
	if mariadb {
		return strings.Join(parts, ",")
	}
	return strings.Join(parts, ",\n")
}

// position writes the last transaction of each domain, for MySQL the set.
func position(s Set, mariadb bool) string {
	if !mariadb {
		return list(s, false)
	}
	last := Set{}
	for domain, n := range perDomain(s) {
		for k := range s {
			if domainOf(k) == domain && s[k] == n {
				last[k] = n
			}
		}
	}
	return list(last, true)
}

// parseSet reads what the two above write.
func parseSet(text string, mariadb bool) (Set, bool) {
	s := Set{}
	for element := range strings.SplitSeq(text, ",") {
		element = strings.TrimSpace(element)
		if element == "" {
			continue
		}
		sep := ":"
		if mariadb {
			sep = "-"
		}
		i := strings.LastIndex(element, sep)
		if i < 0 {
			return nil, false
		}
		_, last, found := strings.Cut(element[i+1:], "-")
		if !found {
			last = element[i+1:]
		}
		n, err := strconv.ParseUint(last, 10, 64)
		if err != nil {
			return nil, false
		}
		s[element[:i]] = n
	}
	return s, true
}
