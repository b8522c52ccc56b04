package mysql

// The source is looked at with the account that replicates, before anything here
// changes: a wrong password or name is then a refusal and not a broken replica.

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tanist-ha/tanist/replication"
)

// sourceTimeout bounds one look at a source, from the connection on.
const sourceTimeout = 5 * time.Second

// Source is the server that a database is to follow, and the account for it.
type Source struct {
	Host string // a name or an address; as TLS verifies it
	Port uint16
	User string // an account with REPLICATION SLAVE on the source
	// Password is called when the source is looked at and when the channel is
	// changed. It is not kept or logged here; nil is no password. The server that
	// follows does keep it, as every replica does (on MariaDB in master.info).
	Password func() (string, error)
	TLS      *SourceTLS // nil for none
}

// SourceTLS names PEM files. The database server that follows opens them as well
// as this process: both must be able to read them. The source's certificate is
// verified, Source.Host included. Cert and Key are both given or both empty.
type SourceTLS struct{ CA, Cert, Key string }

// String returns HOST:PORT.
func (s Source) String() string { return net.JoinHostPort(s.Host, strconv.Itoa(int(s.Port))) }

// SourceError says that the source cannot be followed as it is.
type SourceError struct {
	Source string // HOST:PORT
	Err    error
}

func (e *SourceError) Error() string { return fmt.Sprintf("source %s: %v", e.Source, e.Err) }
func (e *SourceError) Unwrap() error { return e.Err }

// SelfError says that the source has the server_id or server_uuid of the database that is to
// follow it: because it is the same server, or a copy of it.
type SelfError struct {
	Source   string
	ServerID uint32
	UUID     string // of MySQL, when that is what they share
	Same     bool   // certainly the same server
}

func (e *SelfError) Error() string {
	if e.Same {
		return fmt.Sprintf("source %s is this very server (server_id %d): it cannot follow itself", e.Source, e.ServerID)
	}
	if e.UUID != "" {
		return fmt.Sprintf("source %s has the same server_uuid %s as this server: remove auto.cnf from the data directory of the copy", e.Source, e.UUID)
	}
	return fmt.Sprintf("source %s has the same server_id %d as this server: give each its own", e.Source, e.ServerID)
}

func (s Source) password() (string, error) {
	if s.Password == nil {
		return "", nil
	}
	p, err := s.Password()
	if err != nil {
		return "", &passwordError{err}
	}
	return p, nil
}

func (s Source) tlsConfig() (*tls.Config, error) {
	if s.TLS == nil {
		return nil, nil
	}
	pem, err := os.ReadFile(s.TLS.CA)
	if err != nil {
		return nil, fmt.Errorf("read the CA: %w", err)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: s.Host, RootCAs: x509.NewCertPool()}
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read the CA: %s holds no certificate", s.TLS.CA)
	}
	if s.TLS.Cert != "" || s.TLS.Key != "" {
		pair, err := tls.LoadX509KeyPair(s.TLS.Cert, s.TLS.Key)
		if err != nil {
			return nil, fmt.Errorf("read the client certificate: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// end is what is known of one of the two servers before one follows the other.
type end struct {
	family   family
	facts    replication.Facts
	host     string // the server's own idea of its name
	port     string
	dataDir  string
	hasLog   bool // it writes a binary log
	readOnly bool
}

// examine reads what is needed of a server that answers.
func (s *session) examine(ctx context.Context) (end, error) {
	e := end{family: s.version.family}
	variables, err := queryOne(ctx, s.conn, s.dialect.variables)
	if err != nil {
		return e, err
	}
	e.facts.Reach, e.facts.Version = replication.Reachable, s.version.text
	fillVariables(&e.facts, variables)
	identity, err := queryOne(ctx, s.conn, s.dialect.identity)
	if err != nil {
		return e, err
	}
	e.host, e.port, e.dataDir = identity["host"].String, identity["port"].String, identity["data_dir"].String
	e.hasLog = identity["log_bin"].String == "1"
	readOnly, ok := e.facts.ReadOnly.Get()
	if !ok {
		return e, errors.New("read_only cannot be read")
	}
	e.readOnly = readOnly
	return e, nil
}

// look examines the source over a connection of its own.
func (s Source) look(ctx context.Context) (end, error) {
	ctx, cancel := context.WithTimeout(ctx, sourceTimeout)
	defer cancel()
	e, err := s.lookOnce(ctx)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
			err = fmt.Errorf("no answer within %s: %w", sourceTimeout, err)
		}
		return e, &SourceError{s.String(), err}
	}
	return e, nil
}

func (s Source) lookOnce(ctx context.Context) (end, error) {
	config, err := s.tlsConfig()
	if err != nil {
		return end{}, err
	}
	db, err := handle(driverConfig("tcp", s.String(), s.User, config, sourceTimeout), s.password, 1)
	if err != nil {
		return end{}, err
	}
	defer db.Close()
	c, err := db.Conn(ctx)
	if err != nil {
		return end{}, fmt.Errorf("connect as %s: %w", s.User, err)
	}
	defer c.Close()
	session, err := (&Database{}).identify(ctx, c)
	if err != nil {
		return end{}, err
	}
	grants, err := session.grants(ctx)
	if err != nil {
		return end{}, fmt.Errorf("read the grants of %s: %w", s.User, err)
	}
	if !slices.ContainsFunc(grants, func(p string) bool { return p == "REPLICATION SLAVE" || p == "ALL PRIVILEGES" }) {
		return end{}, fmt.Errorf("account %s lacks the privilege REPLICATION SLAVE", s.User)
	}
	e, err := session.examine(ctx)
	if err != nil {
		return e, err
	}
	channels, err := session.channels(ctx)
	if err != nil && serverErrorNumber(err) != errSpecificAccessDenied {
		return e, err
	}
	// An account that only replicates may not see the source's channels. A ring is
	// then found only where the source is read-only.
	e.facts.Channels = replication.Known(channels)
	return e, nil
}

// scrub takes a password out of a server's error, which can quote a statement.
func scrub(err error, password string) error {
	if err == nil || password == "" {
		return err
	}
	if serverErrorNumber(err) == errSyntax {
		// It quotes a piece of the statement, which can be a piece of the password.
		return fmt.Errorf("server does not know the statement (error %d)", errSyntax)
	}
	text := quote(password)
	clean := strings.NewReplacer(password, "***", text[1:len(text)-1], "***").Replace(err.Error())
	if clean == err.Error() {
		return err
	}
	return errors.New(clean)
}

// Position returns what the source has now: its own writes and what it applied.
func (s Source) Position(ctx context.Context) (replication.Position, error) {
	e, err := s.look(ctx)
	if err != nil {
		return replication.Position{}, err
	}
	p, ok := e.facts.Position()
	if !ok {
		return p, &SourceError{s.String(), errors.New("its position cannot be read")}
	}
	return p, nil
}
