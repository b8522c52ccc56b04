// Package mysql measures and operates the databases that the replication
// package reasons about. It speaks MySQL 5.7 to 9 and MariaDB 10.5 and later; any
// other server is recognised and reported as unsupported.
//
// Two connections are kept per database: one probes and is never held for long,
// one operates. Beside them, a third is for the heartbeat table where there is one.
// Neither of the two is given back, so that a server without a connection to
// spare can still be asked and closed.
package mysql

import (
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	driver "github.com/go-sql-driver/mysql"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/internal/mono"
)

// The time limits of a database.
const (
	// DefaultMeasureTimeout bounds one Measure when Config.MeasureTimeout is zero.
	DefaultMeasureTimeout = 800 * time.Millisecond
	// defaultActionTimeout bounds an action whose context has no deadline.
	defaultActionTimeout = 30 * time.Second
	// probeReadSlack is what the socket's read limit gives a probe beyond the
	// context: the limit only has to hold where a context fails to.
	probeReadSlack = 1500 * time.Millisecond
	// operateReadTimeout exceeds every statement an action waits for.
	operateReadTimeout = defaultActionTimeout + 5*time.Second
	// cleanUpTimeout bounds what is done after a statement timed out.
	cleanUpTimeout = 500 * time.Millisecond
)

// Config describes one database. Name, Address, User and one of Password and
// PasswordFile are needed; an account without a password has a Password that
// returns "".
type Config struct {
	Name    string
	Address string // unix:PATH or tcp:HOST:PORT
	// Dial makes each connection to Address, where that takes more than its words:
	// a socket in a container is another file after each start. Its errors are told
	// apart as those of a plain connection are. Nil dials Address. A server that a
	// dialler leads to is not fenced with the unit that it runs in, which is that of
	// its container, unless Unit names one.
	Dial func(context.Context) (net.Conn, error)
	User string
	// Password is called at each connect, as is reading PasswordFile, whose
	// trailing line break does not count. Neither is kept or logged.
	Password     func() (string, error)
	PasswordFile string
	TLS          *tls.Config // nil for none; needless on a unix socket
	// Unit is the service that runs the server, for Fence; empty to find it by the
	// unix socket. Units are this host's, nil for none.
	Unit  string
	Units Units
	// Heartbeat is the heartbeat table; the zero Table is none.
	Heartbeat Table
	// MeasureTimeout bounds one Measure; DefaultMeasureTimeout when zero.
	MeasureTimeout time.Duration
	// Now reads the clock of Facts.MeasuredAt; CLOCK_BOOTTIME when nil.
	Now func() mono.Instant
}

// Database is one database server. Its methods may be called concurrently;
// actions then queue for the operating connections, of which there are two.
type Database struct {
	name           string
	network        string
	address        string
	user           string
	unit           string
	units          Units
	dial           func(context.Context) (net.Conn, error)
	led            bool // dial is the configuration's
	measureTimeout time.Duration
	now            func() mono.Instant
	probe          *sql.DB
	operate        *sql.DB
	silent         atomic.Bool   // the latest measurement had no answer
	probeID        atomic.Uint64 // the probe's connection id, 0 before it has one
	closers        sync.Map      // connection ids of the closings under way, which leave each other alone
	events         atomic.Uint32 // an eventsKept
	beats          beats
	server         serverProcess
}

// Open checks the configuration and returns the database. It connects to
// nothing and starts nothing; that is left to the first call that needs it.
func Open(c Config) (*Database, error) {
	if c.Name == "" {
		return nil, errors.New("open database: no name")
	}
	network, address, err := parseAddress(c.Address)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", c.Name, err)
	}
	if c.User == "" {
		return nil, fmt.Errorf("open database %s: no user", c.Name)
	}
	password, err := passwordSource(c)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", c.Name, err)
	}
	d := &Database{
		name: c.Name, network: network, address: address, user: c.User, unit: c.Unit, units: c.Units, dial: c.Dial, led: c.Dial != nil,
		measureTimeout: c.MeasureTimeout, now: c.Now, server: serverProcess{changed: make(chan struct{}, 1)},
	}
	if d.measureTimeout <= 0 {
		d.measureTimeout = DefaultMeasureTimeout
	}
	if d.now == nil {
		d.now = bootTime
	}
	if d.dial == nil {
		d.dial = func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, network, address) }
	}
	settings := func(readTimeout time.Duration) *driver.Config {
		s := driverConfig(network, address, c.User, c.TLS, readTimeout)
		if c.Dial != nil {
			s.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return c.Dial(ctx) }
		}
		return s
	}
	probe := settings(d.measureTimeout + probeReadSlack)
	if network == "unix" {
		probe.DialFunc = d.dialNoted
	}
	if d.probe, err = handle(probe, password, 1); err != nil {
		return nil, fmt.Errorf("open database %s: %w", c.Name, err)
	}
	// Two, so that writes can be closed while a catch-up is being cancelled.
	if d.operate, err = handle(settings(operateReadTimeout), password, 2); err != nil {
		return nil, fmt.Errorf("open database %s: %w", c.Name, err)
	}
	if err := d.openBeats(c.Heartbeat, settings(beatReadTimeout), password); err != nil {
		return nil, fmt.Errorf("open database %s: %w", c.Name, err)
	}
	return d, nil
}

// Close gives up the connections. Calls under way end with an error.
func (d *Database) Close() error {
	d.server.close()
	return errors.Join(d.probe.Close(), d.operate.Close(), d.beats.close())
}

// Name returns the configured name.
func (d *Database) Name() string { return d.name }

// driverConfig is how this package speaks with a server.
func driverConfig(network, address, user string, tls *tls.Config, readTimeout time.Duration) *driver.Config {
	s := driver.NewConfig()
	s.Net, s.Addr, s.User, s.TLS = network, address, user, tls
	s.Timeout, s.ReadTimeout, s.WriteTimeout = readTimeout, readTimeout, readTimeout
	s.Logger = &driver.NopLogger{}
	// The empty mode fixes how text is quoted; the lock timeout bounds whatever
	// would wait behind a client's lock, in whole seconds; in UTC no hour comes
	// twice, in which a deadline would be met again.
	s.Params = map[string]string{"sql_mode": "''", "lock_wait_timeout": "1", "time_zone": "'+00:00'"}
	return s
}

func handle(s *driver.Config, password func() (string, error), connections int) (*sql.DB, error) {
	err := s.Apply(driver.BeforeConnect(func(_ context.Context, s *driver.Config) error {
		p, err := password()
		if err != nil {
			return &passwordError{err}
		}
		s.Passwd = p
		return nil
	}))
	if err != nil {
		return nil, err
	}
	connector, err := driver.NewConnector(s)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(1)
	return db, nil
}

func parseAddress(s string) (network, address string, err error) {
	kind, rest, _ := strings.Cut(s, ":")
	switch kind {
	case "unix":
		if !filepath.IsAbs(rest) {
			return "", "", fmt.Errorf("address %q: path of the socket is not absolute", s)
		}
		return "unix", rest, nil
	case "tcp":
		host, port, err := net.SplitHostPort(rest)
		if err != nil || host == "" || port == "" {
			return "", "", fmt.Errorf("address %q is not tcp:HOST:PORT", s)
		}
		return "tcp", rest, nil
	default:
		return "", "", fmt.Errorf("address %q is neither unix:PATH nor tcp:HOST:PORT", s)
	}
}

func passwordSource(c Config) (func() (string, error), error) {
	switch {
	case c.Password != nil && c.PasswordFile != "":
		return nil, errors.New("both a password and a password file")
	case c.Password != nil:
		return c.Password, nil
	case c.PasswordFile != "":
		return func() (string, error) {
			b, err := os.ReadFile(c.PasswordFile)
			if err != nil {
				return "", err
			}
			return strings.TrimRight(string(b), "\r\n"), nil
		}, nil
	default:
		return nil, errors.New("neither a password nor a password file")
	}
}

// passwordError tells a password that could not be had from one refused.
type passwordError struct{ err error }

func (e *passwordError) Error() string { return "read password: " + e.err.Error() }
func (e *passwordError) Unwrap() error { return e.err }

// bootTime reads CLOCK_BOOTTIME, which Linux always has.
func bootTime() mono.Instant {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("read CLOCK_BOOTTIME: " + err.Error())
	}
	return mono.Instant(ts.Nano())
}
