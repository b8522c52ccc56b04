package config

import (
	"fmt"
	"net"
	"strconv"

	"github.com/tanist-ha/tanist/health"
	"github.com/tanist-ha/tanist/replication"
)

// LogLevel is the least severe entry that is logged.
type LogLevel uint8

// Log levels.
const (
	LevelDebug LogLevel = iota
	LevelInfo
	LevelWarn
	LevelError
)

func (l LogLevel) String() string { return word(logLevels(), l) }

func logLevels() []string { return []string{"debug", "info", "warn", "error"} }

// LogFormat is where log entries go and in which form.
type LogFormat uint8

// Log formats. FormatAuto is the journal when standard error is connected to
// it, console text on a terminal, else JSON.
const (
	FormatAuto LogFormat = iota
	FormatJournal
	FormatJSON
	FormatConsole
)

func (f LogFormat) String() string { return word(logFormats(), f) }

func logFormats() []string { return []string{"auto", "journal", "json", "console"} }

// Mode is how advertisements are addressed.
type Mode uint8

// Heartbeat modes.
const (
	Unicast Mode = iota
	Multicast
)

func (m Mode) String() string { return word(modes(), m) }

func modes() []string { return []string{"unicast", "multicast"} }

// Auth is how advertisements prove where they come from.
type Auth uint8

// Heartbeat authentication. AuthHMAC accepts what is proved, AuthPermissive
// everything; both seal what they send.
const (
	AuthNone Auth = iota
	AuthHMAC
	AuthPermissive
)

func (a Auth) String() string { return word(auths(), a) }

func auths() []string { return []string{"none", "hmac", "permissive"} }

// Checksum is which reading of the VRRPv3 IPv4 checksum is sent. Both are accepted.
type Checksum uint8

// Checksum readings. ChecksumAuto sends RFC 9568's until the peer is heard with
// the other.
const (
	ChecksumAuto Checksum = iota
	ChecksumRFC
	ChecksumKeepalived
)

func (c Checksum) String() string { return word(checksums(), c) }

func checksums() []string { return []string{"auto", "rfc", "keepalived"} }

// afterLosses are the words of replication.AfterLoss, in its order.
func afterLosses() []string {
	return words(replication.Exact, replication.Drained, replication.Manual)
}

// healthEffects are the words of health.Effect, in its order.
func healthEffects() []string { return words(health.Yield, health.Fault) }

func words[E fmt.Stringer](values ...E) []string {
	var list []string
	for _, v := range values {
		list = append(list, v.String())
	}
	return list
}

// AddressKind is how a database is reached.
type AddressKind uint8

// Kinds of database addresses.
const (
	UnixSocket AddressKind = iota
	TCP
	Container
)

func (k AddressKind) String() string { return word(addressKinds(), k) }

func addressKinds() []string { return []string{"unix", "tcp", "container"} }

// String is the form of the configuration file.
func (a Address) String() string {
	switch a.Kind {
	case UnixSocket:
		return "unix:" + a.Path
	case TCP:
		return "tcp:" + net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port)))
	case Container:
		if a.Path != "" {
			return "container:" + a.Container + ":" + a.Path
		}
		return "container:" + a.Container
	}
	return a.Kind.String()
}

// Verify is how much of a database server's certificate is verified.
type Verify uint8

// VerifyIdentity wants a certificate of the CA for the host of the address; where
// that is a socket, which has none, any certificate of the CA. VerifyCA wants any
// certificate of the CA.
const (
	VerifyIdentity Verify = iota
	VerifyCA
)

func (v Verify) String() string { return word(verifies(), v) }

func verifies() []string { return []string{"identity", "ca"} }

// word names an enumerated value as the file does.
func word[E ~uint8](words []string, e E) string {
	if int(e) < len(words) {
		return words[e]
	}
	return fmt.Sprintf("%T(%d)", e, uint8(e))
}
