package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/systemd"
)

// A check lists what the rules find, and says of each file and each database what
// is wrong with it.
func TestCheckDiscovered(t *testing.T) {
	m := startMariaDB(t)
	m.exec(t, "CREATE USER poor@localhost IDENTIFIED BY '"+databaseSecret+"'")
	m.exec(t, "GRANT SLAVE MONITOR, REPLICATION SLAVE ADMIN, READ_ONLY ADMIN, CONNECTION ADMIN ON *.* TO poor@localhost")
	dir := t.TempDir()
	file := testFile(t, fmt.Sprintf(`
    discover:
      - {files: "%[1]s/*_team.json", socket: .socket, where: {field: .status, in: [1]}, password_file: %[2]s}
      - {files: "%[1]s/*_poor.json", socket: .socket, user: poor, password_file: %[2]s}
      - {files: "%[1]s/none/*.json", socket: .socket, tls: {ca: "%[2]s"}}
`, dir, m.password()))
	link := func(name string) string {
		path := filepath.Join(m.dir, name)
		if err := os.Symlink(m.socket(), path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write(t, filepath.Join(dir, "1_team.json"), fmt.Sprintf(`{"status": 1, "socket": %q}`, link("s1")))
	write(t, filepath.Join(dir, "2_team.json"), fmt.Sprintf(`{"status": 1, "socket": %q}`, filepath.Join(m.dir, "nobody")))
	write(t, filepath.Join(dir, "3_team.json"), `{"status": 1}`)
	write(t, filepath.Join(dir, "4_team.json"), `{"status": 10}`)
	write(t, filepath.Join(dir, "5_poor.json"), fmt.Sprintf(`{"socket": %q}`, link("s5")))

	h := &hostCheck{file: file, units: systemd.NewUnits(systemd.UnitsConfig{})}
	h.discovered(t.Context(), "instances[0]", file.Instances[0])
	var out strings.Builder
	printRules(&out, h.rules)
	short := strings.NewReplacer(dir, "DIR", m.dir, "DB", "  ", " ")
	var lines []string
	for line := range strings.Lines(out.String()) {
		lines = append(lines, strings.Join(strings.Fields(short.Replace(line)), " "))
	}
	if diff := cmp.Diff([]string{
		"compass: DIR/*_team.json: files: 4, databases: 2",
		"1 unix:DB/s1 DIR/1_team.json",
		"2 unix:DB/nobody DIR/2_team.json",
		"compass: DIR/*_poor.json: files: 1, databases: 1",
		"5 unix:DB/s5 DIR/5_poor.json",
		"compass: DIR/none/*.json: files: 0, databases: 0",
	}, lines); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}
	want := []struct{ place, message string }{
		{":12:", "DB/password has no certificate"},
		{":10:", "DIR/3_team.json: .socket is missing"},
		{":12:", "DIR/none: does not exist"},
		{":10:", "database 2 (DIR/2_team.json): read grants of database 2: dial unix DB/nobody: connect: no such file or directory"},
		{":11:", "database 5 (DIR/5_poor.json): account poor lacks the privilege PROCESS"},
	}
	if len(h.problems) != len(want) {
		t.Fatalf("problems: %v", h.problems)
	}
	for i, p := range h.problems {
		if got := short.Replace(place(p) + " " + p.Message); !strings.Contains(got, want[i].place) || !strings.Contains(got, want[i].message) {
			t.Errorf("problem %d: %s; want %s at %s", i, got, want[i].message, want[i].place)
		}
	}
}
