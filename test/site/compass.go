package site

// The plan of a Compass site: labels in two files of another program's, one lsyncd,
// and databases that follow the active host.

import (
	"strconv"
	"strings"
)

// RelationshipFile says for another program which host is active, by label. That
// program writes it too.
const RelationshipFile = "/srv/compass/reserve_servers_companies_relationship.json"

// RelationshipText is the file as that program writes it.
func RelationshipText(active string) string {
	is := func(label string) string { return strconv.FormatBool(label == active) }
	return `{"primary":{"master":` + is("primary") + `,"host_ip":"10.77.0.11","company_list":{"1":{"mysql_host":"d1-33150","mysql_port":33150}}},` +
		`"reserve":{"master":` + is("reserve") + `,"host_ip":"10.77.0.12","company_list":{"1":{"mysql_host":"d1-33150","mysql_port":33150}}}}` + "\n"
}

// CompassConfig is ManyConfig with the plan of a Compass site. What somebody else
// changes in labels and lsyncd while a role lasts is put right again.
func CompassConfig(databases int, gate string) string {
	head, _, _ := strings.Cut(ManyConfig(databases, gate, false), "    promote:")
	labels := `
      - yaml: {file: ` + LabelFile + `, key: ` + LabelKey + `, value: "{{.Active}}"}
        drift: repair
      - json: {file: ` + RelationshipFile + `, set: {"{{.Active}}.master": true, "{{.Standby}}.master": false}}
        drift: repair`
	return head + `    promote:
      - replication: stop
      - writes: open
      - vip: acquire` + labels + `
      - unit: {start: lsyncd.service}
        drift: repair
    demote:
      - writes: close
      - vip: release
      - wait: {lsyncd: /var/log/lsyncd/lsyncd.status}
        timeout: 10s
        on_error: continue
      - unit: {stop: lsyncd.service}
        drift: repair` + labels + `
      - replication: follow
`
}
