package mysql

// What an operator should know of a server before the night in which it matters.
// Nothing of this keeps Tanist from working.

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Advice is one thing about a server that could be better.
type Advice struct {
	What string // one line
	Fix  string // one line: a statement or a setting
}

// Advise looks at the server's own configuration and at its accounts.
func (d *Database) Advise(ctx context.Context) ([]Advice, error) {
	var list []Advice
	err := d.look(ctx, "read configuration", func(ctx context.Context, s *session) error {
		for _, f := range []func(context.Context) (*Advice, error){s.adviseReadOnly, s.adviseUnbound, s.adviseEvents} {
			a, err := f(ctx)
			if err != nil {
				return err
			}
			if a != nil {
				list = append(list, *a)
			}
		}
		return nil
	})
	return list, err
}

// adviseReadOnly looks at how the server came up. Once a statement has set
// read_only, the server does not tell any more.
func (s *session) adviseReadOnly(ctx context.Context) (*Advice, error) {
	if s.dialect.readOnlyAtStart == "" {
		return nil, nil
	}
	r, err := queryOne(ctx, s.conn, s.dialect.readOnlyAtStart)
	if err != nil {
		return nil, err
	}
	if r["value"].String != "OFF" || r["origin"].String == "SQL" {
		return nil, nil
	}
	return &Advice{
		What: "the server comes up writable: after each start it takes writes until it is closed",
		Fix: "write " + s.dialect.closes + "=ON below [" + s.dialect.section +
			"] in the server's own configuration, on both nodes: the active one opens it",
	}, nil
}

// adviseEvents is for servers on which it leaves no trace who stopped the event
// scheduler.
func (s *session) adviseEvents(ctx context.Context) (*Advice, error) {
	if s.dialect.eventsSet != "" {
		return nil, nil
	}
	state, err := s.eventScheduler(ctx)
	if err != nil || state == eventsDisabled {
		return nil, err
	}
	return &Advice{
		What: "this release does not tell who stopped its event scheduler: stopped by a close, it is started by the open of the same daemon only",
		Fix:  "where events are used, look at event_scheduler after a switchover; where none are, write event_scheduler=DISABLED below [" + s.dialect.section + "]",
	}, nil
}

// Accounts that read_only does not bind, by the bits of mysql.global_priv.
const (
	accessSuper         = 1 << 15
	accessReadOnlyAdmin = 1 << 33
	// superAlone is the version up to which SUPER by itself passed read_only.
	superAlone = 101100
)

type account struct {
	name   string // 'user'@'host', or a role's
	access uint64
	super  bool // SUPER by itself counts
	role   bool
	locked bool
}

func (a account) unbound() bool {
	return a.access&accessReadOnlyAdmin != 0 || a.super && a.access&accessSuper != 0
}

// adviseUnbound names the accounts that write to a closed database.
func (s *session) adviseUnbound(ctx context.Context) (*Advice, error) {
	if s.dialect.accounts == "" {
		return nil, nil
	}
	names, err := s.unboundAccounts(ctx)
	if serverErrorNumber(err) == errTableAccessDenied {
		me, err := queryOne(ctx, s.conn, "SELECT CURRENT_USER() AS account")
		if err != nil {
			return nil, err
		}
		user, host, _ := cutLast(me["account"].String, "@")
		to := " TO " + quoteName(user) + "@" + quoteName(host)
		return &Advice{
			What: "which accounts read_only does not bind cannot be seen",
			Fix:  "GRANT SELECT ON mysql.global_priv" + to + "; GRANT SELECT ON mysql.roles_mapping" + to,
		}, nil
	}
	if err != nil || len(names) == 0 {
		return nil, err
	}
	return &Advice{
		What: "read_only does not bind " + strings.Join(names, ", "),
		Fix:  "nothing but people should use them; else REVOKE READ_ONLY ADMIN, SUPER ON *.* FROM them: what they write on a standby diverges",
	}, nil
}

func (s *session) unboundAccounts(ctx context.Context) ([]string, error) {
	rows, err := query(ctx, s.conn, s.dialect.accounts)
	if err != nil {
		return nil, err
	}
	granted, err := query(ctx, s.conn, s.dialect.roles)
	if err != nil {
		return nil, err
	}
	me, err := queryOne(ctx, s.conn, "SELECT CURRENT_USER() AS account")
	if err != nil {
		return nil, err
	}
	accounts := make(map[string]account, len(rows))
	for _, r := range rows {
		a := accountOf(r)
		a.super = a.super || !s.version.release.atLeast(release{10, 11, 0})
		accounts[a.name] = a
	}
	roles := make(map[string][]string)
	for _, r := range granted {
		name := accountName(r["user"].String, r["host"].String)
		roles[name] = append(roles[name], accountName(r["role"].String, ""))
	}
	user, host, _ := cutLast(me["account"].String, "@")
	var names []string
	for name, a := range accounts {
		if !a.role && !a.locked && name != accountName(user, host) && passes(accounts, roles, name, len(accounts)) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// passes reports whether an account, or a role it can take, is unbound. Depth
// bounds the way through roles of roles.
func passes(accounts map[string]account, roles map[string][]string, name string, depth int) bool {
	if accounts[name].unbound() {
		return true
	}
	return depth > 0 && slices.ContainsFunc(roles[name], func(role string) bool {
		return passes(accounts, roles, role, depth-1)
	})
}

func accountOf(r row) account {
	a := account{
		name: accountName(r["user"].String, r["host"].String),
		role: r["is_role"].String == "1", locked: r["locked"].String == "1",
	}
	// An account without privileges can lack the number.
	a.access, _ = strconv.ParseUint(r["access"].String, 10, 64)
	version, _ := strconv.Atoi(r["version"].String)
	a.super = version < superAlone
	return a
}

// accountName is an account as statements write it; a role has no host.
func accountName(user, host string) string {
	if host == "" {
		return quoteName(user)
	}
	return fmt.Sprintf("%s@%s", quoteName(user), quoteName(host))
}
