package mysql

// A missing privilege is to be found by a check, not in the middle of a failover.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Missing is a privilege that the account lacks.
type Missing struct {
	Privilege string
	Fix       string // the statement that grants it
}

// Grants returns the privileges that measuring and operating need and the
// account does not have, none when all is well.
func (d *Database) Grants(ctx context.Context) ([]Missing, error) {
	var missing []Missing
	err := d.look(ctx, "read grants", func(ctx context.Context, s *session) (err error) {
		needed := slices.Clone(s.dialect.privileges)
		matter, err := s.eventsMatter(ctx)
		if err != nil {
			return err
		}
		if matter && !slices.Contains(needed, s.dialect.eventPrivilege) {
			needed = append(needed, s.dialect.eventPrivilege)
		}
		missing, err = s.missingGrants(ctx, needed)
		return err
	})
	return missing, err
}

// eventsMatter reports whether anybody will have to stop or start the event
// scheduler: not where it is off by the server's configuration.
func (s *session) eventsMatter(ctx context.Context) (bool, error) {
	state, err := s.eventScheduler(ctx)
	if err != nil || state != eventsOff {
		return state == eventsOn, err
	}
	return s.eventsSetByStatement(ctx)
}

// ResetGrants returns the privileges that the account lacks for ResetReplication
// beside those of Grants.
func (d *Database) ResetGrants(ctx context.Context) ([]Missing, error) {
	var missing []Missing
	err := d.look(ctx, "read grants", func(ctx context.Context, s *session) (err error) {
		missing, err = s.missingGrants(ctx, s.dialect.resetPrivileges)
		return err
	})
	return missing, err
}

func (s *session) missingGrants(ctx context.Context, needed []string) ([]Missing, error) {
	account, err := queryOne(ctx, s.conn, "SELECT CURRENT_USER() AS account")
	if err != nil {
		return nil, err
	}
	user, host, ok := cutLast(account["account"].String, "@")
	if !ok {
		return nil, errors.New("CURRENT_USER() names no account")
	}
	held, err := s.grants(ctx)
	if err != nil {
		return nil, err
	}
	if slices.Contains(held, "SUPER") {
		held = append(held, s.dialect.superIs...)
	}
	var missing []Missing
	for _, p := range needed {
		if !slices.Contains(held, p) && !slices.Contains(held, "ALL PRIVILEGES") {
			missing = append(missing, Missing{
				Privilege: p,
				Fix:       fmt.Sprintf("GRANT %s ON *.* TO %s@%s", p, quoteName(user), quoteName(host)),
			})
		}
	}
	return missing, nil
}

// grants returns the account's privileges on *.*.
func (s *session) grants(ctx context.Context) ([]string, error) {
	rows, err := query(ctx, s.conn, "SHOW GRANTS")
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, r := range rows {
		for _, v := range r {
			lines = append(lines, v.String)
		}
	}
	return globalPrivileges(lines), nil
}

// globalPrivileges returns the privileges on *.* in lines of SHOW GRANTS, those
// of enabled roles among them.
func globalPrivileges(lines []string) []string {
	var privileges []string
	for _, line := range lines {
		list, ok := strings.CutPrefix(line, "GRANT ")
		if !ok {
			continue
		}
		list, _, ok = strings.Cut(list, " ON *.* TO ")
		if !ok {
			continue
		}
		for p := range strings.SplitSeq(list, ",") {
			p = strings.TrimSpace(p)
			switch p {
			case "REPLICA MONITOR":
				p = "SLAVE MONITOR"
			case "REPLICATION REPLICA ADMIN":
				p = "REPLICATION SLAVE ADMIN"
			case "READ ONLY ADMIN":
				p = "READ_ONLY ADMIN"
			}
			privileges = append(privileges, p)
		}
	}
	return privileges
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func quoteName(s string) string { return "`" + strings.ReplaceAll(s, "`", "``") + "`" }
