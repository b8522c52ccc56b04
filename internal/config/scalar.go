package config

import (
	"fmt"
	"math"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// Lengths are not in the patterns: counted repetitions take the time and the room of as
// many copies, in every command.
var (
	decimal         = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)
	decimalFraction = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?$`)
	namePattern     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
	accountPattern  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?$`)
	hostPattern     = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*\.?$`)
)

// text returns a string. An unquoted number or truth value is not one.
func (v value) text() (string, bool) {
	s, ok := v.plain()
	if !ok {
		v.wrong("text", "")
		return "", false
	}
	if v.kind() != "text" {
		v.wrong("text", "put it in quotes: \""+s+"\"")
		return "", false
	}
	if s == "" {
		v.problem(v.name()+" is empty", "fill it in, or remove the key")
		return "", false
	}
	return s, true
}

// plain returns any scalar as it is written: 3306 and true are text where
// text is wanted.
func (v value) plain() (string, bool) {
	if v.node == nil || v.node.Kind != yaml.ScalarNode || v.missing() {
		return "", false
	}
	return v.node.Value, true
}

func (v value) boolean() bool {
	s, ok := v.plain()
	if ok && v.tag() == "!!bool" {
		return strings.EqualFold(s, "true")
	}
	hint := "write true or false"
	switch strings.ToLower(s) {
	case "yes", "on", "y":
		hint = "write true"
	case "no", "off", "n":
		hint = "write false"
	case "true", "false":
		hint = "remove the quotes"
	}
	v.wrong("true or false", hint)
	return false
}

// integer returns a whole number within bounds, or ok false.
func (v value) integer(low, high uint64) (uint64, bool) {
	want := fmt.Sprintf("a whole number from %d to %d", low, high)
	if high == math.MaxUint64 {
		want = fmt.Sprintf("a whole number from %d", low)
	}
	written, ok := v.plain()
	if !ok || v.tag() != "!!int" {
		hint := ""
		if _, err := strconv.ParseInt(written, 10, 64); err == nil {
			hint = "remove the quotes"
		}
		v.wrong(want, hint)
		return 0, false
	}
	if !decimal.MatchString(written) {
		v.problem(fmt.Sprintf("%s must be %s, not %s", v.name(), want, quote(written)), "use decimal digits only, without a leading zero")
		return 0, false
	}
	u, err := strconv.ParseUint(written, 10, 64)
	if err != nil || u < low || u > high {
		v.problem(fmt.Sprintf("%s must be %s, not %s", v.name(), want, written), "")
		return 0, false
	}
	return u, true
}

// port returns a TCP port, 0 when there is none.
func (v value) port() uint16 {
	u, _ := v.integer(1, math.MaxUint16)
	return uint16(u)
}

// maxDuration bounds every time span of the file.
const maxDuration = 24 * time.Hour

// duration returns a time span from low to maxDuration, or 0 and a problem.
func (v value) duration(low time.Duration) time.Duration {
	s, ok := v.plain()
	if !ok || v.kind() == "true or false" {
		v.wrong("a time", "write it with a unit: 250ms, 2s, 1m")
		return 0
	}
	d, err := time.ParseDuration(s)
	switch _, bare := strconv.ParseFloat(s, 64); {
	case bare == nil:
		v.problem(fmt.Sprintf("%s needs a unit", v.name()), fmt.Sprintf("write %ss for seconds, %sms for milliseconds", s, s))
	case err != nil:
		v.problem(fmt.Sprintf("%s must be a time, not %s", v.name(), quote(s)), "write a number and a unit without a space: 250ms, 2s, 1m, 1h")
	case d < 0:
		v.problem(fmt.Sprintf("%s is negative", v.name()), "")
	case d < low && d == 0:
		v.problem(fmt.Sprintf("%s must be above 0", v.name()), "")
	case d < low:
		v.problem(fmt.Sprintf("%s must be at least %s", v.name(), show(low)), "")
	case d > maxDuration:
		v.problem(fmt.Sprintf("%s must be at most %s", v.name(), show(maxDuration)), "")
	default:
		return d
	}
	return 0
}

// show prints a time span as an operator writes it: 1m, not 1m0s.
func show(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// oneOf reads one of words into e; a wrong word leaves e alone.
func oneOf[E ~uint8](v value, words []string, e *E) bool {
	s, ok := v.plain()
	if !ok {
		v.wrong("one of "+strings.Join(words, ", "), "")
		return false
	}
	for i, w := range words {
		if s == w {
			*e = E(i)
			return true
		}
	}
	v.choice(s, words)
	return false
}

// choice notes a word that is none of words.
func (v value) choice(s string, words []string) {
	hint := ""
	if near := nearest(s, words); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	v.problem(fmt.Sprintf("%s must be %s, not %s", v.name(), or(words), quote(s)), hint)
}

// or joins words: a, b or c.
func or(words []string) string { return join(words, " or ") }

// and joins words: a, b and c.
func and(words []string) string { return join(words, " and ") }

func join(words []string, last string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + last + words[len(words)-1]
}

// nameHint says what a name may be made of: what a shell, a file name and a
// metrics label take without quotes.
const nameHint = "use letters, digits, _ . and -, beginning with a letter or digit, at most 63"

func validName(s string) bool {
	return len(s) <= 63 && namePattern.MatchString(s)
}

// validContainer reports whether Docker takes s as the name of a container or a service.
func validContainer(s string) bool {
	return len(s) <= 255 && namePattern.MatchString(s)
}

// identifier returns a name that needs no quoting anywhere.
func (v value) identifier() string {
	s, ok := v.text()
	if ok && !validName(s) {
		v.problem(fmt.Sprintf("%s cannot be %s", v.name(), quote(s)), nameHint)
		return ""
	}
	return s
}

// account returns the name of a system account.
func (v value) account() string {
	s, ok := v.text()
	if ok && !accountPattern.MatchString(s) {
		v.problem(fmt.Sprintf("%s is not a valid account name", quote(s)), "name an account of this host, at most 32 characters")
		return ""
	}
	return s
}

// file returns an absolute path. Its value is never quoted in a message: where
// a path to a secret belongs, the secret itself may stand.
func (v value) file() string {
	s, ok := v.text()
	if !ok {
		return ""
	}
	switch {
	case !path.IsAbs(s):
		v.problem(v.name()+" must be a full path", "begin it with /")
	case strings.ContainsFunc(s, func(r rune) bool { return r < ' ' }):
		v.problem(v.name()+" has a control character", "write the path on one line")
	case len(s) > 4095:
		v.problem(v.name()+" is longer than a path can be", "")
	case strings.HasSuffix(s, "/"):
		v.problem(v.name()+" names a directory", "name a file, without a / at its end")
	default:
		return path.Clean(s)
	}
	return ""
}

// link returns the name of a network interface, as the kernel allows.
func (v value) link() string {
	s, ok := v.text()
	switch {
	case !ok:
		return ""
	case len(s) > 15:
		v.problem(fmt.Sprintf("the interface name %s is too long", quote(s)), "an interface name has at most 15 bytes")
	case s == "." || s == ".." || strings.ContainsAny(s, "/: \t\n\r"):
		v.problem(fmt.Sprintf("%s is not a valid interface name", quote(s)), "see ip link")
	default:
		return s
	}
	return ""
}

// address returns one IP address.
func (v value) address() (netip.Addr, bool) {
	s, ok := v.text()
	if !ok {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		hint := "write an IP address: 192.0.2.11"
		if p, perr := netip.ParsePrefix(s); perr == nil {
			hint = "without the prefix length: " + p.Addr().String()
		} else if _, perr := netip.ParseAddrPort(s); perr == nil {
			hint = "without a port"
		}
		v.problem(fmt.Sprintf("%s is not an IP address", quote(s)), hint)
		return netip.Addr{}, false
	}
	return v.usable(a)
}

// usable refuses addresses that cannot be one host's.
func (v value) usable(a netip.Addr) (netip.Addr, bool) {
	why := ""
	switch {
	case a.Is4In6():
		why = "is an IPv4 address in IPv6 clothes: write " + a.Unmap().String()
	case a.Zone() != "":
		why = "has a zone"
	case a.IsUnspecified():
		why = "is no host's address"
	case a.IsMulticast():
		why = "is a multicast address"
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		why = "is the broadcast address"
	default:
		return a, true
	}
	v.problem(fmt.Sprintf("%s %s", a, why), "")
	return netip.Addr{}, false
}

// percent returns a share above 0 and below 100: 5% is 5.
func (v value) percent() float64 {
	s, ok := v.plain()
	if !ok {
		v.wrong("a percentage", "write 5%")
		return 0
	}
	digits, sign := strings.CutSuffix(s, "%")
	switch f, err := strconv.ParseFloat(digits, 64); {
	case err == nil && !sign:
		v.problem(v.name()+" needs a per cent sign", "write "+s+"%")
	case !sign || !decimalFraction.MatchString(digits):
		v.problem(fmt.Sprintf("%s must be a percentage, not %s", v.name(), quote(s)), "write a number and a per cent sign: 5%")
	case f <= 0 || f >= 100:
		v.problem(fmt.Sprintf("%s must be above 0%% and below 100%%, not %s", v.name(), quote(s)), "")
	default:
		return f
	}
	return 0
}

// hostPort splits HOST:PORT. The host is a name or an address.
func hostPort(s string) (host string, port uint16, ok bool) {
	host, digits, found := strings.Cut(s, ":")
	if i := strings.LastIndexByte(s, ':'); strings.HasPrefix(s, "[") && i > 1 && s[i-1] == ']' {
		host, digits, found = s[1:i-1], s[i+1:], true
		if a, err := netip.ParseAddr(host); err != nil || !a.Is6() {
			return "", 0, false
		}
	} else if !validHost(host) {
		return "", 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	return host, uint16(n), found && err == nil && n > 0
}

// validHost reports whether s is a host name (RFC 1123) or an IPv4 address.
func validHost(s string) bool {
	return len(s) <= 253 && hostPattern.MatchString(s) &&
		!slices.ContainsFunc(strings.Split(s, "."), func(label string) bool { return len(label) > 63 })
}
