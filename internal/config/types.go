package config

import (
	"net/netip"
	"strings"
	"time"

	"github.com/tanist-ha/tanist/health"
	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/replication"
	"github.com/tanist-ha/tanist/replication/discover"
)

// File is one valid configuration, its defaults filled in. Both nodes have the
// same one.
type File struct {
	Name      string  // as given to Parse, for messages
	Nodes     [2]Node // in the order of the file
	KeyFile   string  // absolute path of the shared secret
	PeerPort  uint16  // TCP port of the peer link
	HTTP      *HTTP   // nil when the file has no http
	Log       Log
	Engine    string     // where the Docker engine listens, if nothing else is said
	Instances []Instance // at least one
	// Notices are allowed, but worth a word to the operator.
	Notices []Problem

	src       *source
	positions map[string]position
}

// Node is one of the two hosts.
type Node struct {
	Label     string
	Hostname  string       // empty when the file names none
	Addresses []netip.Addr // preferred path first; both nodes have as many
}

// HTTP is the endpoint for metrics and load balancers.
type HTTP struct {
	Listen netip.AddrPort
}

// Log is what the daemon logs and how.
type Log struct {
	Level  LogLevel
	Format LogFormat
}

// Instance is one virtual router with the service around it.
type Instance struct {
	Name         string
	Interface    string         // at most 15 bytes, the kernel's bound
	VRID         uint8          // 1 to 255, unique in the file unless multicast on another interface
	VIPs         []netip.Prefix // 1 to 255 addresses, each with its prefix length, not masked
	Priority     [2]uint8       // 1 to 255, as File.Nodes
	Preempt      bool
	PreemptDelay time.Duration // from 0
	Lease        time.Duration // whole seconds, at least 2 advertisement intervals
	StartupDelay time.Duration // from 0
	Heartbeat    Heartbeat
	GARP         GARP
	Databases    []Database
	Discover     []Discovery
	Gate         Gate
	Promote      hooks.Plan // exactly one vip step, which acquires
	Demote       hooks.Plan // exactly one vip step, which releases
	Fence        hooks.Plan // without a vip step
	// FenceRequired: a promotion after silence goes on only if Fence succeeded.
	FenceRequired bool
	Health        []HealthCheck
	OnIsolation   Isolation
	Witness       *Witness // nil for none
}

// Witness is a third party that both nodes ask when they do not hear each other.
type Witness struct {
	Kind WitnessKind
	// Addresses are those of a gateway: one that answers is enough. At least one, with
	// their zone if link-local.
	Addresses []netip.Addr
}

// Heartbeat is how the two nodes hear each other.
type Heartbeat struct {
	Version uint8 // of VRRP: 3 (RFC 9568) or 2 (RFC 3768)
	Mode    Mode
	// AdvertInterval is what Version can carry: 10 ms to 40.95 s in steps of
	// 10 ms for 3, 1 to 255 whole seconds for 2.
	AdvertInterval time.Duration
	Auth           Auth
	Checksum       Checksum
}

// GARP is how often a new holder tells the neighbours.
type GARP struct {
	Repeat   int           // announcements in one burst, 1 to 100
	Interval time.Duration // between two of a burst, from 0
	Delay    time.Duration // from the first burst to the second; 0 is no second
	Refresh  time.Duration // between later announcements; 0 is none
}

// Database is one server that follows the virtual address.
type Database struct {
	Name          string
	Address       Address
	User          string
	PasswordFile  string // empty for an account without a password
	TLS           *TLS
	ReplicateFrom *ReplicateFrom
	Unit          string // the service that runs the server here; empty to find it by its socket
	// HeartbeatTable is where the Active counts; the zero Table for nowhere.
	HeartbeatTable Table
}

// Table names a table of a database server.
type Table struct{ Schema, Name string }

// Address is where a database answers. Kind says which fields are set.
type Address struct {
	Kind      AddressKind
	Path      string // UnixSocket: absolute, at most 107 bytes; Container: a path in it, empty for the usual ones
	Host      string // TCP: address or name, without brackets
	Port      uint16 // TCP
	Container string // Container: its name or id, or that of a Swarm service; may hold {{.Node}}, see For
	Engine    string // Container: path of the socket of the Docker engine
}

// For returns the address on one node: the name of a container may hold the node's
// label.
func (a Address) For(vars discover.Vars) (Address, error) {
	if !strings.Contains(a.Container, "{{") {
		return a, nil
	}
	t, err := discover.ParseText(a.Container)
	if err == nil {
		a.Container, err = t.Fill(vars)
	}
	return a, err
}

// TLS are the certificate files of a database connection. They are read at each
// connect, so that a renewed certificate needs no reload.
type TLS struct {
	CA, Cert, Key string // absolute paths; Cert and Key both or neither
	Verify        Verify
}

// ReplicateFrom is the account with which the peer's database is followed.
type ReplicateFrom struct {
	User         string
	PasswordFile string // empty for an account without a password
	Host         string // a template; empty: the first address of the peer
	Port         uint16
	TLS          *TLS // nil for none; the database server reads the files too
}

// Discovery is a rule that finds more databases in files, and what those have in
// common.
type Discovery struct {
	Rule          discover.Rule
	Engine        string // as Address
	User          string
	PasswordFile  string
	TLS           *TLS
	ReplicateFrom *ReplicateFrom // with Port 0: the one that the file names
	// HeartbeatTable is in each of the databases.
	HeartbeatTable Table
}

// Database makes a database of what the rule found.
func (d *Discovery) Database(f discover.Found) Database {
	db := Database{
		Name: f.Name, User: d.User, PasswordFile: d.PasswordFile, TLS: d.TLS, Unit: f.Unit, HeartbeatTable: d.HeartbeatTable,
	}
	switch a := f.Address; {
	case a.Container != "":
		db.Address = Address{Kind: Container, Container: a.Container, Path: a.Socket, Engine: d.Engine}
	case a.Socket != "":
		db.Address = Address{Kind: UnixSocket, Path: a.Socket}
	default:
		db.Address = Address{Kind: TCP, Host: a.Host, Port: a.Port}
	}
	if d.ReplicateFrom != nil {
		r := *d.ReplicateFrom
		if r.Port == 0 {
			if r.Port = f.Port; r.Port == 0 {
				r.Port = DefaultMySQLPort
			}
		}
		db.ReplicateFrom = &r
	}
	return db
}

// Found makes of a database what a rule would have found.
func (db *Database) Found() discover.Found {
	f := discover.Found{Name: db.Name, Rule: -1}
	switch a := db.Address; a.Kind {
	case Container:
		f.Address = discover.Address{Container: a.Container, Socket: a.Path}
	case UnixSocket:
		f.Address = discover.Address{Socket: a.Path}
	case TCP:
		f.Address = discover.Address{Host: a.Host, Port: a.Port}
	}
	return f
}

// Gate is what a promotion may cost.
type Gate struct {
	MaxLag       time.Duration // from 0
	MaxMissing   uint64        // transactions
	DrainTimeout time.Duration // above 0
	AfterLoss    replication.AfterLoss
}

// HealthCheck is one question asked again and again.
type HealthCheck struct {
	Name     string
	Check    Check
	Interval time.Duration
	Timeout  time.Duration
	Rise     int // successes in a row until healthy
	Fall     int // failures in a row until unhealthy
	Effect   health.Effect
}

// Check is what a health check looks at: one of the types below.
//
//sumtype:decl
type Check interface{ check() }

// UnitCheck wants a systemd unit active.
type UnitCheck struct{ Unit string }

// ProcessCheck wants a process of that name.
type ProcessCheck struct{ Process string }

// TCPCheck wants a connection accepted.
type TCPCheck struct {
	Host string
	Port uint16
}

// HTTPCheck wants a 2xx answer.
type HTTPCheck struct{ URL string }

// ExecCheck wants exit status 0.
type ExecCheck struct {
	Command []string
	User    string
}

// MySQLCheck wants an answer from a database of the instance.
type MySQLCheck struct{ Database string }

// DiskCheck wants room on the file system of a path.
type DiskCheck struct {
	Path    string
	MinFree float64 // per cent, above 0 and below 100
}

// LinkCheck wants a network link up.
type LinkCheck struct{ Interface string }

// GatewayCheck wants an answer from a router.
type GatewayCheck struct{ Address netip.Addr } // with its zone, if link-local

// FileCheck wants a file to exist.
type FileCheck struct {
	Path     string        // absolute
	MaxAge   time.Duration // since it was last written, 0: any
	Contains string        // empty: anything
}

func (UnitCheck) check()    {}
func (ProcessCheck) check() {}
func (TCPCheck) check()     {}
func (HTTPCheck) check()    {}
func (ExecCheck) check()    {}
func (MySQLCheck) check()   {}
func (DiskCheck) check()    {}
func (LinkCheck) check()    {}
func (GatewayCheck) check() {}
func (FileCheck) check()    {}
