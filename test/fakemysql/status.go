package fakemysql

// What SHOW ... STATUS answers: the columns and values recorded from a running
// replica of each release, with what the model knows put in.

import (
	"embed"
	"fmt"
	"strconv"
	"strings"
)

//go:embed columns
var recorded embed.FS

type column struct {
	name  string
	value *string
}

// recording names the recorded status of the release, or its nearest.
func (k kind) recording() string {
	switch {
	case !k.mariadb:
		return "mysql-9.7"
	case k.atLeast(11, 8, 0):
		return "mariadb-11.8"
	case k.atLeast(10, 11, 0):
		return "mariadb-10.11"
	default:
		return "mariadb-10.5"
	}
}

func (k kind) statusColumns(oldWords bool) []column {
	data, err := recorded.ReadFile("columns/" + k.recording() + ".tsv")
	if err != nil {
		panic(err) // it is compiled in
	}
	var columns []column
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if !k.mariadb && oldWords {
			var known bool
			if name, known = k.oldName(name); !known {
				continue
			}
		}
		c := column{name: name, value: &value}
		if value == "NULL" {
			c.value = nil
		}
		columns = append(columns, c)
	}
	return columns
}

// oldName translates a column of MySQL 8.0.22 and later, where the release had it.
func (k kind) oldName(name string) (string, bool) {
	switch name {
	case "Source_public_key_path":
		return "Master_public_key_path", k.atLeast(8, 0, 0)
	case "Get_Source_public_key":
		return "Get_master_public_key", k.atLeast(8, 0, 0)
	case "Network_Namespace":
		return name, k.atLeast(8, 0, 22)
	}
	return strings.ReplaceAll(strings.ReplaceAll(name, "Source", "Master"), "Replica_", "Slave_"), true
}

// showStatus answers for the channels given.
func (st *State) showStatus(channels []*Channel, oldWords bool) *result {
	columns := st.server.kind.statusColumns(oldWords)
	r := &result{}
	for _, c := range columns {
		r.columns = append(r.columns, c.name)
	}
	for _, channel := range channels {
		known := st.channelValues(channel)
		row := make([]*string, 0, len(columns))
		for _, c := range columns {
			value := c.value
			if v, ok := known[newName(c.name)]; ok {
				value = v
			}
			if v, ok := channel.Row[c.name]; ok {
				value = v
			}
			row = append(row, value)
		}
		r.rows = append(r.rows, row)
	}
	return r
}

func newName(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, "Master", "Source"), "Slave_", "Replica_")
}

// channelValues are the columns that the model decides, under their new names.
func (st *State) channelValues(c *Channel) map[string]*string {
	mariadb := st.server.kind.mariadb
	text := func(s string) *string { return &s }
	values := map[string]*string{
		"Source_Host": &c.Host, "Source_Port": text(strconv.Itoa(c.Port)),
		"Replica_IO_Running": text(c.ioWord()), "Replica_SQL_Running": text(yesNo(c.SQL)),
		"Channel_Name": &c.Name, "Connection_name": &c.Name,
		"Retrieved_Gtid_Set": text(list(c.Received, mariadb)), "Executed_Gtid_Set": text(list(st.Executed, mariadb)),
		"Gtid_IO_Pos": text(position(c.Received, mariadb)), "Gtid_Replica_Pos": text(position(st.Applied, mariadb)),
		"Auto_Position": text("0"), "Using_Gtid": text("No"),
	}
	for option, column := range map[string]string{
		"USER": "Source_User", "SSL_CA": "Source_SSL_CA_File", "SSL_CERT": "Source_SSL_Cert", "SSL_KEY": "Source_SSL_Key",
	} {
		if v, ok := c.Options[option]; ok {
			values[column] = &v
		}
	}
	for option, column := range map[string]string{"SSL": "Source_SSL_Allowed", "SSL_VERIFY_SERVER_CERT": "Source_SSL_Verify_Server_Cert"} {
		if v, ok := c.Options[option]; ok {
			values[column] = text(yesNo(v == "1"))
		}
	}
	if c.AutoPosition {
		values["Auto_Position"], values["Using_Gtid"] = text("1"), text("Slave_Pos")
	}
	if c.ioWord() != "Yes" || !c.SQL {
		values["Seconds_Behind_Source"] = nil
	}
	if source := byPort[c.Port]; source != nil {
		values["Source_Server_Id"] = text(fmt.Sprint(source.config.ServerID))
		values["Source_UUID"] = &source.config.UUID
	}
	return values
}
