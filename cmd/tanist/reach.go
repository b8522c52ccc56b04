package main

// How a configured database is connected to: over its socket, into a container, or
// over TCP, there never to another host by mistake.

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/replication/container"
	"github.com/tanist-ha/tanist/replication/mysql"
)

// usualSocket stands for a container's socket where an address must have a path.
const usualSocket = "/run/mysqld/mysqld.sock"

// openDatabase opens a database of this host, whose server may be a service of
// units. Elsewhere are the addresses of other hosts, and those that move.
func openDatabase(c config.Database, units mysql.Units, elsewhere []netip.Addr) (*mysql.Database, error) {
	m := mysql.Config{
		Name: c.Name, Address: c.Address.String(), User: c.User, PasswordFile: c.PasswordFile, Password: noPassword(c),
		Unit: c.Unit, Units: units, Heartbeat: mysql.Table(c.HeartbeatTable),
	}
	switch a := c.Address; a.Kind {
	case config.UnixSocket:
	case config.TCP:
		m.Dial = dialHere(net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port))), elsewhere)
	case config.Container:
		in, err := container.New(container.Config{Name: a.Container, Socket: a.Path, Engine: a.Engine})
		if err != nil {
			return nil, fmt.Errorf("open database %s: %w", c.Name, err)
		}
		m.Address, m.Dial = "unix:"+usualSocket, in.Dial
	}
	if c.TLS != nil {
		m.TLS = databaseTLS(*c.TLS, c.Address)
	}
	return mysql.Open(m)
}

// noPassword is the password of an account that the configuration gives none.
func noPassword(c config.Database) func() (string, error) {
	if c.PasswordFile != "" {
		return nil
	}
	return func() (string, error) { return "", nil }
}

// dialHere connects over TCP. The files that name databases are often the same on
// both nodes: a name that leads to the other one would have its databases closed
// from here.
func dialHere(address string, elsewhere []netip.Addr) func(context.Context) (net.Conn, error) {
	d := net.Dialer{Control: func(_, to string, _ syscall.RawConn) error {
		end, err := netip.ParseAddrPort(to)
		if err == nil && slices.Contains(elsewhere, end.Addr().Unmap()) {
			return fmt.Errorf("%s is the other node's or a virtual address: a database of this host answers on an address of its own", end.Addr())
		}
		return nil
	}}
	return func(ctx context.Context) (net.Conn, error) {
		conn, err := d.DialContext(ctx, "tcp", address)
		if dns, ok := errors.AsType[*net.DNSError](err); ok && ctx.Err() == nil {
			err = notOfServer("%v", dns)
		}
		return conn, err
	}
}

// notOfServer is an error that says nothing about the server, whatever its cause
// would say: that a file is missing here, or a name server slow.
func notOfServer(format string, args ...any) error {
	return fmt.Errorf(format, args...)
}

// elsewhereOf lists the addresses that lead away from this host, or may at any time.
func elsewhereOf(file *config.File, self int) []netip.Addr {
	away := slices.Clone(file.Nodes[1-self].Addresses)
	for _, in := range file.Instances {
		away = append(away, vips(in)...)
	}
	return away
}

// databaseTLS verifies the server's certificate by the files as they are at each
// connect: renewed certificates need no reload.
func databaseTLS(t config.TLS, at config.Address) *tls.Config {
	name := ""
	if at.Kind == config.TCP && t.Verify == config.VerifyIdentity {
		name = strings.TrimSuffix(at.Host, ".")
	}
	c := &tls.Config{
		MinVersion: tls.VersionTLS12,
		// What the server shows is verified below, against the CA as it is now and
		// without a name where the address has none.
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection verifies
		VerifyConnection:   func(s tls.ConnectionState) error { return verifyServer(s, t.CA, name) },
	}
	if name != "" && net.ParseIP(name) == nil {
		c.ServerName = name
	}
	if t.Cert != "" {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
			if err != nil {
				return nil, notOfServer("read the client certificate %s: %v", t.Cert, err)
			}
			return &pair, nil
		}
	}
	return c
}

func verifyServer(s tls.ConnectionState, ca, name string) error {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return notOfServer("read the CA: %v", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return fmt.Errorf("read the CA: %s has no certificate", ca)
	}
	if len(s.PeerCertificates) == 0 {
		return errors.New("the server showed no certificate")
	}
	between := x509.NewCertPool()
	for _, c := range s.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err = s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: name})
	if err != nil {
		return fmt.Errorf("verify the server's certificate: %w", err)
	}
	return nil
}
