package mysql

// What a channel is set to, as the server shows it: everything but the password.

import (
	"strconv"
	"strings"
)

type settings struct {
	channel string
	host    string
	port    string
	user    string
	gtid    bool // it goes by GTIDs, from what was applied
	tls     *SourceTLS
	verify  bool // the source's certificate is verified
}

func settingsOf(r row) settings {
	either := func(mariaDB, mySQL string) string {
		if v, ok := r[mariaDB]; ok {
			return v.String
		}
		return r[mySQL].String
	}
	s := settings{
		channel: either("Connection_name", "Channel_Name"),
		host:    either("Master_Host", "Source_Host"),
		port:    either("Master_Port", "Source_Port"),
		user:    either("Master_User", "Source_User"),
		gtid:    r["Using_Gtid"].String == "Slave_Pos" || r["Auto_Position"].String == "1",
	}
	if either("Master_SSL_Allowed", "Source_SSL_Allowed") == "Yes" {
		s.tls = &SourceTLS{
			CA:   either("Master_SSL_CA_File", "Source_SSL_CA_File"),
			Cert: either("Master_SSL_Cert", "Source_SSL_Cert"),
			Key:  either("Master_SSL_Key", "Source_SSL_Key"),
		}
		s.verify = either("Master_SSL_Verify_Server_Cert", "Source_SSL_Verify_Server_Cert") == "Yes"
	}
	return s
}

// pointAt reports whether a change to src would change nothing, the password left
// aside, which no server shows.
func (s settings) pointAt(src Source) bool {
	if s.host != src.Host || s.port != strconv.Itoa(int(src.Port)) || s.user != src.User || !s.gtid {
		return false
	}
	if src.TLS == nil || s.tls == nil {
		return src.TLS == nil && s.tls == nil
	}
	return *s.tls == *src.TLS && s.verify
}

// String lists the settings for a person who has to enter them again.
func (s settings) String() string {
	var b strings.Builder
	add := func(key, value string) {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(key + "=" + value)
	}
	if s.channel != "" {
		add("channel", strconv.Quote(s.channel))
	}
	add("host", s.host)
	add("port", s.port)
	add("user", strconv.Quote(s.user))
	add("gtid", yesNo(s.gtid))
	add("tls", yesNo(s.tls != nil))
	if t := s.tls; t != nil {
		add("verify", yesNo(s.verify))
		for _, f := range []struct{ key, path string }{{"ca", t.CA}, {"cert", t.Cert}, {"key", t.Key}} {
			if f.path != "" {
				add(f.key, strconv.Quote(f.path))
			}
		}
	}
	return b.String()
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
