package mysql

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestAdvise(t *testing.T) {
	file := filepath.Join(t.TempDir(), "my.cnf")
	if err := os.WriteFile(file, []byte("[mariadbd]\nread_only=OFF\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	advise := func(t *testing.T, s *server) []Advice {
		t.Helper()
		list, err := s.database(t, patient).Advise(timeout(t, patience))
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	about := func(list []Advice, what string) string {
		for _, a := range list {
			if strings.Contains(a.What, what) {
				return a.What + ": " + a.Fix
			}
		}
		return ""
	}
	t.Run("comes up writable", func(t *testing.T) {
		s := startServer(t, 1)
		if got := about(advise(t, s), "comes up writable"); !strings.Contains(got, "read_only=ON") {
			t.Errorf("%q", got)
		}
		s.exec(t, "SET GLOBAL read_only = 0") // from here on nobody knows
		if got := about(advise(t, s), "comes up writable"); got != "" {
			t.Errorf("%q", got)
		}
	})
	t.Run("comes up writable by a file", func(t *testing.T) {
		s := startServer(t, 1, "--defaults-file="+file)
		if got := about(advise(t, s), "comes up writable"); got == "" {
			t.Error("nothing is said of it")
		}
	})
	t.Run("comes up closed", func(t *testing.T) {
		if got := about(advise(t, startServer(t, 1, "--read-only=ON")), "comes up writable"); got != "" {
			t.Errorf("%q", got)
		}
	})
	t.Run("accounts that read_only does not bind", func(t *testing.T) {
		s := startServer(t, 1)
		got := about(advise(t, s), "cannot be seen")
		_, grants, _ := strings.Cut(got, ": ")
		for g := range strings.SplitSeq(grants, "; ") {
			s.exec(t, g)
		}
		for _, q := range []string{
			"CREATE USER bound@localhost", "CREATE USER direct@localhost", "GRANT READ_ONLY ADMIN ON *.* TO direct@localhost",
			"CREATE USER whole@'%'", "GRANT ALL ON *.* TO whole@'%'", "CREATE USER super@localhost", "GRANT SUPER ON *.* TO super@localhost",
			"CREATE ROLE inner_role", "GRANT READ_ONLY ADMIN ON *.* TO inner_role", "CREATE ROLE outer_role", "GRANT inner_role TO outer_role",
			"CREATE USER taker@localhost", "GRANT outer_role TO taker@localhost",
			"CREATE USER shut@localhost ACCOUNT LOCK", "GRANT READ_ONLY ADMIN ON *.* TO shut@localhost",
		} {
			s.exec(t, q)
		}
		what, _, _ := strings.Cut(about(advise(t, s), "does not bind"), ": ")
		got, ok := strings.CutPrefix(what, "read_only does not bind ")
		names := slices.DeleteFunc(strings.Split(got, ", "), func(n string) bool { return strings.HasPrefix(n, "`root`@") })
		want := []string{"`direct`@`localhost`", "`taker`@`localhost`", "`whole`@`%`"}
		if !s.superIsBound(t) {
			want = []string{"`direct`@`localhost`", "`super`@`localhost`", "`taker`@`localhost`", "`whole`@`%`"}
		}
		if !ok || !slices.Equal(names, want) {
			t.Errorf("%q, want %q", names, want)
		}
		// The list says what is so.
		s.exec(t, "GRANT INSERT ON app.t TO bound@localhost, direct@localhost")
		s.exec(t, "SET GLOBAL read_only = 1")
		for user, want := range map[string]uint16{"bound": 1290, "direct": 0} {
			_, err := openHandle(t, s.socket(), user, "", "app").Exec("INSERT INTO t (v) VALUES (1)")
			if serverErrorNumber(err) != want || want == 0 && err != nil {
				t.Errorf("%s: %v, want error %d", user, err, want)
			}
		}
	})
}

// superIsBound reports whether SUPER by itself no longer passes read_only.
func (s *server) superIsBound(t *testing.T) bool {
	t.Helper()
	return parseVersion(s.value(t, "SELECT VERSION()")).release.atLeast(release{10, 11, 0})
}
