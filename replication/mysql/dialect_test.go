package mysql

import (
	"strings"
	"testing"

	"github.com/tanist-ha/tanist/replication"
)

// Each release gets the row of the table that speaks to it, and a server that is
// not known none.
func TestDialectOf(t *testing.T) {
	for _, tc := range []struct{ version, dialect, err string }{
		{"10.11.14-MariaDB-0+deb12u2-log", "MariaDB 10.5.9", ""},
		{"10.5.8-MariaDB", "MariaDB 10.5", ""},
		{"10.5.9-MariaDB", "MariaDB 10.5.9", ""},
		{"5.5.5-10.6.1-MariaDB", "MariaDB 10.5.9", ""},
		{"11.8.6-MariaDB-1", "MariaDB 10.5.9", ""},
		{"12.1.2-MariaDB", "MariaDB 10.5.9", ""},
		{"10.4.34-MariaDB", "", "older than 10.5"},
		{"5.7.8-rc", "MySQL 5.7", ""},
		{"5.7.44-log", "MySQL 5.7", ""},
		{"8.0.21", "MySQL 8.0", ""},
		{"8.0.22", "MySQL 8.0.22", ""},
		{"8.0.22", "MySQL 8.0.22", ""},
		{"8.0.25-15", "MySQL 8.0.23", ""},
		{"8.0.26", "MySQL 8.0.26 to 9", ""},
		{"8.0.36-28", "MySQL 8.0.26 to 9", ""},
		{"8.4.3", "MySQL 8.0.26 to 9", ""},
		{"9.7.4-debug", "MySQL 8.0.26 to 9", ""},
		{"10.0.0", "", "newer than 9"},
		{"5.7.7", "", "older than 5.7.8"},
		{"5.6.51-log", "", "older than 5.7.8"},
		{"8.0.11-TiDB-v7.5.0", "", "not known"},
		{"8.0.30-Vitess", "", "not known"},
		{"5.7.25-OceanBase-v4.2.1", "", "not known"},
		{"8.0.mysql_aurora.3.04.0", "", "not known"},
		{"8", "", "not known"},
		{"", "", "not known"},
		{"x.y", "", "not known"},
	} {
		t.Run(tc.version, func(t *testing.T) {
			d, err := dialectOf(parseVersion(tc.version))
			if tc.err == "" {
				if err != nil || d.name != tc.dialect {
					t.Fatalf("%+v, %v, want %s", d, err, tc.dialect)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.err) || reachOf(err) != replication.ReachUnsupported {
				t.Errorf("%v (%s), want %q", err, reachOf(err), tc.err)
			}
		})
	}
}

// No row leaves out what every row must say.
func TestDialectsAreComplete(t *testing.T) {
	for i, d := range dialects {
		for what, text := range map[string]string{
			"channels": d.channels, "variables": d.variables, "readOnly": d.readOnly, "closes": d.closes, "word": d.word, "section": d.section, "eventPrivilege": d.eventPrivilege,
			"noTime": d.noTime, "columns": d.columns.io + d.columns.sql + d.columns.received,
		} {
			if text == "" {
				t.Errorf("%s has no %s", d.name, what)
			}
		}
		if len(d.privileges) == 0 || d.follow == nil {
			t.Errorf("%s has no privileges, or follows nobody", d.name)
		}
		if (d.connectedReplicas == "") != (d.family == familyMariaDB) || d.bindsAll == (d.family == familyMariaDB) {
			t.Errorf("%s is not like its family", d.name)
		}
		if i > 0 && dialects[i-1].family == d.family && !dialects[i-1].since.atLeast(d.since) {
			t.Errorf("%s comes after an older release", d.name)
		}
	}
}
