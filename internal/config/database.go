package config

import (
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/tanist-ha/tanist/replication/discover"
)

// Defaults of a database.
const (
	DefaultDatabaseUser = "tanist"
	DefaultMySQLPort    = 3306
	// DefaultEngine is the socket of the Docker engine.
	DefaultEngine = "/var/run/docker.sock"
)

// maxDatabases bounds the databases of one instance: each has connections and
// buffers of its own.
const maxDatabases = discover.MaxDatabases

func (v value) databases() []Database {
	list, _ := v.list("write databases: followed by entries that begin with - name:")
	if len(list) > maxDatabases {
		list[maxDatabases].problem(fmt.Sprintf("an instance has at most %d databases", maxDatabases), "")
	}
	var dbs []Database
	for _, el := range list {
		dbs = append(dbs, el.database())
	}
	return dbs
}

func (v value) database() Database {
	db := Database{User: DefaultDatabaseUser}
	engine := ""
	v.object("a database",
		need("name", func(v value) { db.Name = v.identifier() }),
		need("address", func(v value) { db.Address = v.databaseAddress() }),
		allow("user", func(v value) { db.User = v.databaseUser() }),
		allow("password_file", func(v value) { db.PasswordFile = v.file() }),
		allow("tls", func(v value) { db.TLS = v.tls() }),
		allow("replicate_from", func(v value) { db.ReplicateFrom = v.replicateFrom() }),
		allow("unit", func(v value) { db.Unit = v.service() }),
		allow("heartbeat_table", func(v value) { db.HeartbeatTable = v.table() }),
		allow("docker_socket", func(v value) { engine = v.file() }),
	)
	if db.Address.Kind == Container {
		db.Address.Engine = engine
	} else if engine != "" {
		v.d.problem(v.d.at(v.child("docker_socket")), "docker_socket means something for a container only", "remove it, or write address: container:NAME")
	}
	return db
}

// databaseUser is the name of a MySQL account, without its host part.
func (v value) databaseUser() string {
	s, ok := v.text()
	switch {
	case !ok:
		return ""
	case strings.Contains(s, "@"):
		v.problem(fmt.Sprintf("%s has a host part", quote(s)), "name the account without @host")
	case len([]rune(s)) > 80 || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' }):
		v.problem(fmt.Sprintf("%s is not a valid account name", quote(s)), "at most 80 characters, none of them a control character")
	default:
		return s
	}
	return ""
}

// service is the name of a unit that runs a server: one name for good, no template.
func (v value) service() string {
	s := v.unit()
	switch {
	case s == "":
	case strings.Contains(s, "{{"):
		v.problem("the unit of a database cannot be a template", "write its name: mariadb.service")
	case !strings.HasSuffix(s, ".service"):
		v.problem(fmt.Sprintf("%s is not a service", quote(s)), "name the service that runs the server: mariadb.service")
	default:
		return s
	}
	return ""
}

// table reads SCHEMA.TABLE. The server's own schemas are not replicated, or not to
// be written to.
func (v value) table() Table {
	s, ok := v.text()
	if !ok {
		return Table{}
	}
	schema, name, _ := strings.Cut(s, ".")
	switch {
	case !tablePart.MatchString(schema) || !tablePart.MatchString(name):
		v.problem(fmt.Sprintf("%s names no table", quote(s)), "write SCHEMA.TABLE, such as tanist.heartbeat: letters, digits, _, $ and -, at most 64 of them each")
	case slices.Contains([]string{"mysql", "information_schema", "performance_schema", "sys"}, strings.ToLower(schema)):
		v.problem(fmt.Sprintf("the schema %s is the server's own", quote(schema)), "make a schema for it: tanist.heartbeat")
	default:
		return Table{Schema: schema, Name: name}
	}
	return Table{}
}

var tablePart = regexp.MustCompile(`^[A-Za-z0-9_$-]{1,64}$`)

// maxSocketPath is what sockaddr_un holds, less its final zero byte.
const maxSocketPath = 107

// databaseAddress reads unix:PATH, tcp:HOST:PORT or container:NAME.
func (v value) databaseAddress() Address {
	s, ok := v.text()
	if !ok {
		return Address{}
	}
	kind, rest, _ := strings.Cut(s, ":")
	switch kind {
	case "unix":
		return v.socketAddress(rest)
	case "tcp":
		host, port, ok := hostPort(rest)
		if !ok {
			hint := "write tcp:HOST:PORT, an IPv6 address in brackets"
			if validHost(rest) {
				hint = fmt.Sprintf("write tcp:%s:%d", rest, DefaultMySQLPort)
			}
			v.problem("the address lacks a host or a port from 1 to 65535", hint)
			return Address{}
		}
		return Address{Kind: TCP, Host: host, Port: port}
	case "container":
		return v.containerAddress(rest)
	}
	hint := "write unix:PATH, tcp:HOST:PORT or container:NAME"
	if strings.HasPrefix(s, "/") {
		hint = "write unix:" + s
	} else if _, _, ok := hostPort(s); ok {
		hint = "write tcp:" + s
	}
	v.problem("the address does not say how to connect", hint)
	return Address{}
}

// containerAddress reads NAME or NAME:/PATH/IN/IT.
func (v value) containerAddress(rest string) Address {
	name, socket, given := strings.Cut(rest, ":")
	filled, err := Address{Kind: Container, Container: name}.For(discover.Vars{Node: "primary", Peer: "reserve", Instance: "instance"})
	switch {
	case err != nil && strings.Contains(name, "{{"):
		v.problem("the name of the container: "+err.Error(), "write container:mysql-{{.Node}}")
	case !validContainer(filled.Container):
		v.problem(fmt.Sprintf("%s names no container", quote("container:"+rest)), "write container:NAME, or container:NAME:/path/of/the.sock inside it")
	case given && (!path.IsAbs(socket) || path.Clean(socket) != socket || strings.ContainsFunc(socket, func(r rune) bool { return r < ' ' })):
		v.problem("the path of a socket in a container must be a full path", "write container:"+name+":/run/mysqld/mysqld.sock, or leave the path out")
	default:
		return Address{Kind: Container, Container: name, Path: socket}
	}
	return Address{}
}

func (v value) socketAddress(path string) Address {
	switch {
	case !strings.HasPrefix(path, "/"):
		v.problem("the path of a socket must be a full path", "write unix:/run/mysqld/mysqld.sock")
	case len(path) > maxSocketPath:
		v.problem(fmt.Sprintf("the path of a socket has at most %d bytes", maxSocketPath), "use a shorter path or a symbolic link")
	case strings.ContainsFunc(path, func(r rune) bool { return r < ' ' }):
		v.problem("the path of a socket has a control character", "write the path on one line")
	default:
		return Address{Kind: UnixSocket, Path: path}
	}
	return Address{}
}

// tls also says whether the files are given in a form that can be read.
func (v value) tls() *TLS {
	t, given := &TLS{}, 0
	optional := func(into *string) func(value) {
		return func(v value) {
			if s, ok := v.plain(); !ok || s != "" {
				*into = v.file()
				given++
			}
		}
	}
	ok := v.object("tls",
		need("ca", func(v value) { t.CA = v.file() }),
		allow("cert", optional(&t.Cert)),
		allow("key", optional(&t.Key)),
		allow("verify", func(v value) { oneOf(v, verifies(), &t.Verify) }),
	)
	if ok && given == 1 {
		v.problem("tls has one of cert and key", "a client certificate needs both; leave both out for none")
	}
	return t
}

func (v value) replicateFrom() *ReplicateFrom {
	r := &ReplicateFrom{Port: DefaultMySQLPort}
	v.object("replicate_from",
		need("user", func(v value) { r.User = v.databaseUser() }),
		allow("password_file", func(v value) { r.PasswordFile = v.file() }),
		allow("host", func(v value) { r.Host = v.sourceHost() }),
		allow("port", func(v value) { r.Port = v.port() }),
		allow("tls", func(v value) { r.TLS = v.tls() }),
	)
	return r
}

// sourceHost is the name or address of the source. Both nodes read the same file,
// so that one that is right on both is the virtual address or has a template.
func (v value) sourceHost() string {
	s, filled, ok := v.template()
	if !ok {
		return ""
	}
	if _, err := netip.ParseAddr(filled); err != nil && !validHost(filled) {
		v.problem(fmt.Sprintf("%s is neither a host name nor an address", quote(s)), "write host: \"{{.Peer}}.example.net\", or leave it out for the peer's first address")
		return ""
	}
	return s
}
