package mysql

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority is a CA made for one test.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.cert, a.key = a.issue(t, "ca", &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// issue writes NAME.pem and NAME.key.
func (a *authority) issue(t *testing.T, name string, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(a.path(file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func TestFollowOverTLS(t *testing.T) {
	ours, others := newAuthority(t, "ours"), newAuthority(t, "others")
	ours.issue(t, "source", &x509.Certificate{
		Subject: pkix.Name{CommonName: "source"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	ours.issue(t, "replica", &x509.Certificate{
		Subject: pkix.Name{CommonName: "replica"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	source := startServer(t, 1, "--ssl-ca="+ours.path("ca.pem"), "--ssl-cert="+ours.path("source.pem"), "--ssl-key="+ours.path("source.key"))
	source.unlogged(t, "ALTER USER repl@'127.0.0.1' REQUIRE X509")
	replica := startServer(t, 2)
	replica.exec(t, "SET GLOBAL read_only = 1")
	replica.mayReset(t)
	d := replica.database(t, patient)
	with := func(files *SourceTLS) Source { return source.source(t, func(s *Source) { s.TLS = files }) }

	for name, tt := range map[string]struct {
		files *SourceTLS
		want  string
	}{
		"no TLS":                {nil, "Access denied"},
		"no client certificate": {&SourceTLS{CA: ours.path("ca.pem")}, "Access denied"},
		"another CA":            {&SourceTLS{CA: others.path("ca.pem"), Cert: ours.path("replica.pem"), Key: ours.path("replica.key")}, "unknown authority"},
	} {
		t.Run(name, func(t *testing.T) {
			if text := wantSource(tt.want)(d.Follow(timeout(t, patience), with(tt.files))); text != "" {
				t.Error(text)
			}
			unchanged(t, replica)
		})
	}
	t.Run("another name", func(t *testing.T) {
		src := with(&SourceTLS{CA: ours.path("ca.pem"), Cert: ours.path("replica.pem"), Key: ours.path("replica.key")})
		src.Host = "localhost"
		if text := wantSource("wanted to match localhost")(d.Follow(timeout(t, patience), src)); text != "" {
			t.Error(text)
		}
		unchanged(t, replica)
	})

	src := with(&SourceTLS{CA: ours.path("ca.pem"), Cert: ours.path("replica.pem"), Key: ours.path("replica.key")})
	mustFollow(t, d, src)
	source.insert(t, 2)
	if _, err := d.CatchUp(timeout(t, patience), source.position(t)); err != nil {
		t.Fatal(err)
	}
	if got := replica.channelColumn(t, "Master_SSL_Verify_Server_Cert"); got != "Yes" {
		t.Errorf("the replica verifies its source: %s", got)
	}
	settings, err := d.ResetReplication(timeout(t, patience))
	if err != nil {
		t.Fatal(err)
	}
	if want := `tls=yes verify=yes ca="` + ours.path("ca.pem") + `" cert="` + ours.path("replica.pem") + `"`; !strings.Contains(settings, want) {
		t.Errorf("settings %s, want %s in them", settings, want)
	}
}
