package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/replication"
)

// authority signs certificates.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	a := authority{dir: t.TempDir()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	writePEM(t, a.ca(), "CERTIFICATE", der)
	return a
}

func (a authority) ca() string { return filepath.Join(a.dir, "ca.pem") }

// sign makes a certificate and returns its files.
func (a authority) sign(t *testing.T, name string, change func(*x509.Certificate)) (cert, key string) {
	t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &own.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key")
	writePEM(t, cert, "CERTIFICATE", der)
	writePEM(t, key, "PRIVATE KEY", private)
	return cert, key
}

func reachOnce(t *testing.T, c config.Database, elsewhere ...string) replication.Facts {
	t.Helper()
	var away []netip.Addr
	for _, e := range elsewhere {
		away = append(away, netip.MustParseAddr(e))
	}
	d, err := openDatabase(c, nil, away)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var f replication.Facts
	// A busy machine can take longer over a handshake than a measurement may.
	for range 20 {
		if f = d.Measure(t.Context()); f.Reach != replication.ReachTimedOut {
			break
		}
	}
	return f
}

// A server over TLS is the one that the CA signed for, and nothing else is spoken
// with.
func TestDatabaseTLS(t *testing.T) {
	good, evil := newAuthority(t), newAuthority(t)
	cert, key := good.sign(t, "server", func(c *x509.Certificate) {
		c.DNSNames = []string{"localhost"}
		c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	})
	m := startMariaDB(t, "--ssl-ca="+good.ca(), "--ssl-cert="+cert, "--ssl-key="+key)
	otherCert, otherKey := good.sign(t, "other", func(c *x509.Certificate) { c.DNSNames = []string{"db.example.net"} })
	other := startMariaDB(t, "--ssl-ca="+good.ca(), "--ssl-cert="+otherCert, "--ssl-key="+otherKey)
	// As MySQL's own and many handmade certificates: without any name but the common one.
	bareCert, bareKey := good.sign(t, "bare", nil)
	bare := startMariaDB(t, "--ssl-ca="+good.ca(), "--ssl-cert="+bareCert, "--ssl-key="+bareKey)
	plain := startMariaDB(t)
	clientCert, clientKey := good.sign(t, "client", nil)
	strangeCert, strangeKey := evil.sign(t, "client", nil)
	m.exec(t, "ALTER USER tanist@'127.0.0.1' REQUIRE SSL")
	m.exec(t, "ALTER USER tanist@localhost REQUIRE X509")

	tcp := func(m mariadb, host string) config.Database {
		return config.Database{
			Name: "db", User: "tanist", PasswordFile: m.password(),
			Address: config.Address{Kind: config.TCP, Host: host, Port: uint16(m.port)}, TLS: &config.TLS{CA: good.ca()},
		}
	}
	socket := func(m mariadb) config.Database {
		c := tcp(m, "")
		c.Address = config.Address{Kind: config.UnixSocket, Path: m.socket()}
		return c
	}
	with := func(c config.Database, t *config.TLS) config.Database { c.TLS = t; return c }
	for name, tt := range map[string]struct {
		cfg    config.Database
		reach  replication.Reach
		detail string
	}{
		"by address":               {tcp(m, "127.0.0.1"), replication.Reachable, ""},
		"by name":                  {tcp(m, "localhost"), replication.Reachable, ""},
		"wrong CA":                 {with(tcp(m, "127.0.0.1"), &config.TLS{CA: evil.ca()}), replication.ReachFailed, "unknown authority"},
		"wrong CA, CA only":        {with(tcp(m, "127.0.0.1"), &config.TLS{CA: evil.ca(), Verify: config.VerifyCA}), replication.ReachFailed, "unknown authority"},
		"no CA":                    {with(tcp(m, "127.0.0.1"), &config.TLS{CA: "/nowhere/ca.pem"}), replication.ReachFailed, "read the CA"},
		"not a CA":                 {with(tcp(m, "127.0.0.1"), &config.TLS{CA: m.password()}), replication.ReachFailed, "has no certificate"},
		"without TLS":              {with(tcp(m, "127.0.0.1"), nil), replication.ReachAccessDenied, ""},
		"another name":             {tcp(other, "127.0.0.1"), replication.ReachFailed, "verify the server's certificate"},
		"another name, CA only":    {with(tcp(other, "127.0.0.1"), &config.TLS{CA: good.ca(), Verify: config.VerifyCA}), replication.Reachable, ""},
		"no name":                  {tcp(bare, "localhost"), replication.ReachFailed, "verify the server's certificate"},
		"no name, CA only":         {with(tcp(bare, "localhost"), &config.TLS{CA: good.ca(), Verify: config.VerifyCA}), replication.Reachable, ""},
		"a server that does none":  {tcp(plain, "127.0.0.1"), replication.ReachFailed, "TLS"},
		"certificate on a socket":  {with(socket(m), &config.TLS{CA: good.ca(), Cert: clientCert, Key: clientKey}), replication.Reachable, ""},
		"no such host":             {tcp(m, "nobody.invalid"), replication.ReachFailed, "nobody.invalid"},
		"no certificate":           {socket(m), replication.ReachAccessDenied, ""},
		"a stranger's certificate": {with(socket(m), &config.TLS{CA: good.ca(), Cert: strangeCert, Key: strangeKey}), replication.ReachFailed, ""},
		"certificate is not there": {with(socket(m), &config.TLS{CA: good.ca(), Cert: "/nowhere/c.pem", Key: clientKey}), replication.ReachFailed, "read the client certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			f := reachOnce(t, tt.cfg)
			if f.Reach != tt.reach || !strings.Contains(f.ReachDetail, tt.detail) || strings.Contains(f.ReachDetail, databaseSecret) {
				t.Errorf("%s: %s; want %s: %s", f.Reach, f.ReachDetail, tt.reach, tt.detail)
			}
		})
	}
}

// The files are those of the moment: a renewed CA needs no reload.
func TestRenewedCA(t *testing.T) {
	old, renewed := newAuthority(t), newAuthority(t)
	cert, key := renewed.sign(t, "server", func(c *x509.Certificate) { c.DNSNames = []string{"localhost"} })
	m := startMariaDB(t, "--ssl-ca="+renewed.ca(), "--ssl-cert="+cert, "--ssl-key="+key)
	c := config.Database{
		Name: "db", User: "tanist", PasswordFile: m.password(),
		Address: config.Address{Kind: config.TCP, Host: "localhost", Port: uint16(m.port)}, TLS: &config.TLS{CA: old.ca()},
	}
	d, err := openDatabase(c, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if f := d.Measure(t.Context()); f.Reach == replication.Reachable {
		t.Fatal("the old CA is accepted")
	}
	pem, err := os.ReadFile(renewed.ca())
	if err == nil {
		err = os.WriteFile(old.ca(), pem, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new CA to count", func() bool { return d.Measure(t.Context()).Reach == replication.Reachable })
}

// What is wrong with the engine says nothing about the database in a container.
func TestNoEngine(t *testing.T) {
	f := reachOnce(t, config.Database{
		Name: "db", User: "tanist", Address: config.Address{Kind: config.Container, Container: "box", Engine: filepath.Join(t.TempDir(), "docker.sock")},
	})
	if f.Reach != replication.ReachFailed || !strings.Contains(f.ReachDetail, "connect into container box: ask the engine at") {
		t.Errorf("%s: %s", f.Reach, f.ReachDetail)
	}
}

// A name that leads to the other node, or to an address that moves, is not
// connected to.
func TestElsewhere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	for _, host := range []string{"127.0.0.1", "localhost", "::ffff:127.0.0.1"} {
		f := reachOnce(t, config.Database{
			Name: "db", User: "tanist", Address: config.Address{Kind: config.TCP, Host: host, Port: port},
		}, "127.0.0.1", "::1")
		if f.Reach != replication.ReachFailed || !strings.Contains(f.ReachDetail, "is the other node's or a virtual address") {
			t.Errorf("%s: %s: %s", host, f.Reach, f.ReachDetail)
		}
	}
	if err := l.(*net.TCPListener).SetDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if c, err := l.Accept(); err == nil {
		t.Error("connected all the same:", c.RemoteAddr())
	}
	file := &config.File{
		Nodes: [2]config.Node{{Label: "a", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}, {Label: "b", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.2")}}},
		Instances: []config.Instance{
			{VIPs: []netip.Prefix{netip.MustParsePrefix("192.0.2.100/24")}}, {VIPs: []netip.Prefix{netip.MustParsePrefix("2001:db8::1/64")}},
		},
	}
	if got := fmt.Sprint(elsewhereOf(file, 0)); got != "[192.0.2.2 192.0.2.100 2001:db8::1]" {
		t.Error(got)
	}
}
