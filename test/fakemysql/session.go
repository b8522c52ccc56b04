package fakemysql

// What a connection asks for and what that does.

import (
	"strconv"
	"strings"
	"time"
)

// defaultLockWait is the server's lock_wait_timeout in seconds.
const defaultLockWait = 31536000

// poll is how often something that waits looks again at other servers.
const poll = 2 * time.Millisecond

// run carries one statement out.
func (c *conn) run(statement string) (*result, *fault) {
	world.Lock()
	defer world.Unlock()
	c.server.state.replicate()
	c.server.state.Asked++
	p := scan(statement)
	verb := strings.ToUpper(p.word())
	if verb != "SELECT" && verb != "SHOW" {
		c.server.log = append(c.server.log, statement)
	}
	var r *result
	var f *fault
	switch verb {
	case "SELECT":
		r, f = c.selects(p, statement)
	case "SHOW":
		r, f = c.show(p, statement)
	case "SET":
		f = c.set(p, statement)
	case "START", "STOP":
		if p.take("TRANSACTION") {
			c.inTransaction = true
			break
		}
		f = c.threads(p, verb, statement)
	case "COMMIT", "ROLLBACK":
		c.inTransaction = false
	case "RESET":
		f = c.reset(p, statement)
	case "CHANGE":
		f = c.change(p, statement)
	case "KILL":
		f = c.kill(p, statement)
	case "INSERT":
		f = c.insert()
	default:
		f = syntaxError(statement)
	}
	if verb != "SELECT" && verb != "SHOW" {
		c.server.wake()
	}
	return r, f
}

// wait gives up world until ready, at most seconds; it reports whether ready.
func (c *conn) wait(seconds float64, ready func() bool) (bool, *fault) {
	end := time.Now().Add(time.Duration(min(seconds, 1e6) * float64(time.Second)))
	for {
		c.server.state.replicate()
		switch {
		case c.killed:
			return false, faultf(1317, "70100", "Query execution was interrupted")
		case ready():
			return true, nil
		case !time.Now().Before(end):
			return false, nil
		}
		changed := c.server.changed
		world.Unlock()
		t := time.NewTimer(min(poll, time.Until(end)))
		select {
		case <-changed:
		case <-t.C:
		case <-c.server.closed:
		}
		t.Stop()
		world.Lock()
		select {
		case <-c.server.closed:
			return false, faultf(1053, "08S01", "Server shutdown in progress")
		default:
		}
	}
}

// denied is the error of an account that lacks a privilege.
func (c *conn) denied(privilege string) *fault {
	if !c.server.state.Denied[privilege] {
		return nil
	}
	return faultf(1227, "42000", "Access denied; you need (at least one of) the %s privilege(s) for this operation", privilege)
}

func (c *conn) insert() *fault {
	st := &c.server.state
	if st.closed() && (st.SuperReadOnly || c.user != "root") {
		option := "--read-only"
		if st.SuperReadOnly {
			option = "--super-read-only"
		}
		return faultf(1290, "HY000", "The MySQL server is running with the %s option so it cannot execute this statement", option)
	}
	st.Write(1)
	return nil
}

// closed reports whether ordinary accounts cannot write.
func (st *State) closed() bool {
	return st.ReadOnly || st.ReadOnlyWord != "" && st.ReadOnlyWord != "OFF"
}

func (c *conn) kill(p *parser, statement string) *fault {
	if _, soft := p.one("SOFT", "HARD"); soft && !c.server.kind.mariadb {
		return syntaxError(statement)
	}
	_, _ = p.one("CONNECTION", "QUERY")
	id, err := strconv.ParseUint(p.word(), 10, 64)
	if err != nil || !p.done() {
		return syntaxError(statement)
	}
	if other, ok := c.server.conns[id]; ok {
		other.killed = true
		other.net.Close()
		return nil
	}
	st := &c.server.state
	for i, s := range st.Sessions {
		if s.ID != id {
			continue
		}
		if s.System {
			return faultf(1095, "HY000", "You are not owner of thread %d", id)
		}
		st.Sessions = append(st.Sessions[:i:i], st.Sessions[i+1:]...)
		return nil
	}
	return faultf(1094, "HY000", "Unknown thread id: %d", id)
}

// locked reports whether a session holds a table lock, behind which read_only waits.
func (st *State) locked() bool {
	for _, s := range st.Sessions {
		if s.Locks {
			return true
		}
	}
	return false
}
