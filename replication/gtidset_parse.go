package replication

// The text of a GTID set, as every MySQL since 5.6 writes it and takes it back:
// UUID:1-5:7,UUID:tag:1-3:other:4. White space, case, order and overlaps are
// the writer's choice; numbers are not.

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

const (
	// maxIntervals bounds the intervals ParseGTIDSet takes. A set has one for each
	// server that ever wrote and one for each gap, so a handful.
	maxIntervals = 16384

	maxTagLength = 32 // the server's own bound
)

// ParseGTIDSet reads a GTID set such as gtid_executed; the empty text is the
// empty set. Tags are read whatever the server's version. White space may
// surround every part, UUIDs and tags may be in upper case, a server may come
// more than once, and intervals may overlap. A UUID or a tag without a number, a
// number outside 1 to 2⁶³−2, an interval that ends before it begins, a text over
// 128 KiB and more than 16,384 intervals are errors.
func ParseGTIDSet(s string) (GTIDSet, error) {
	set, err := parseSet(s)
	if err != nil {
		return GTIDSet{}, fmt.Errorf("parse GTID set %s: %w", quoted(s), err)
	}
	return set, nil
}

// written is one interval of a text.
type written struct {
	writer writer
	span   span
}

func parseSet(s string) (GTIDSet, error) {
	if len(s) > maxPositionLength {
		return GTIDSet{}, fmt.Errorf("longer than %d bytes", maxPositionLength)
	}
	if strings.TrimSpace(s) == "" {
		return GTIDSet{}, nil
	}
	var all []written
	for element := range strings.SplitSeq(s, ",") {
		var err error
		if all, err = appendElement(all, element); err != nil {
			return GTIDSet{}, err
		}
	}
	slices.SortFunc(all, func(a, b written) int {
		return cmp.Or(a.writer.compare(b.writer), cmp.Compare(a.span.first, b.span.first))
	})
	var set GTIDSet
	for _, w := range all {
		n := len(set.parts)
		if n == 0 || set.parts[n-1].writer != w.writer {
			set.parts = append(set.parts, setPart{writer: w.writer})
			n++
		}
		set.parts[n-1].spans = appendSpan(set.parts[n-1].spans, w.span)
	}
	return set, nil
}

// appendElement reads what one server wrote, UUID:[tag:]interval and so on.
func appendElement(all []written, element string) ([]written, error) {
	text, rest, _ := strings.Cut(element, ":")
	server, err := parseUUID(strings.TrimSpace(text))
	if err != nil {
		return nil, err
	}
	of := writer{server: server}
	numbers := 0 // since the UUID or the last tag
	for part := range strings.SplitSeq(rest, ":") {
		part = strings.TrimSpace(part)
		if startsTag(part) {
			if of.tag != "" && numbers == 0 {
				return nil, fmt.Errorf("tag %s without a number", quoted(of.tag))
			}
			if of.tag, err = parseTag(part); err != nil {
				return nil, err
			}
			numbers = 0
			continue
		}
		r, err := parseSpan(part)
		if err != nil {
			return nil, err
		}
		if len(all) == maxIntervals {
			return nil, fmt.Errorf("more than %d intervals", maxIntervals)
		}
		all = append(all, written{of, r})
		numbers++
	}
	if numbers == 0 {
		return nil, fmt.Errorf("tag %s without a number", quoted(of.tag))
	}
	return all, nil
}

func parseUUID(s string) (serverUUID, error) {
	var u serverUUID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return serverUUID{}, fmt.Errorf("%s is not a UUID", quoted(s))
	}
	digits := s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	if _, err := hex.Decode(u[:], []byte(digits)); err != nil {
		return serverUUID{}, fmt.Errorf("%s is not a UUID", quoted(s))
	}
	return u, nil
}

func startsTag(s string) bool {
	return s != "" && (s[0] == '_' || 'a' <= s[0] && s[0] <= 'z' || 'A' <= s[0] && s[0] <= 'Z')
}

func parseTag(s string) (string, error) {
	if len(s) > maxTagLength {
		return "", fmt.Errorf("tag %s is longer than %d characters", quoted(s), maxTagLength)
	}
	for _, c := range []byte(s) {
		if !startsTag(string(c)) && (c < '0' || c > '9') {
			return "", fmt.Errorf("tag %s has other characters than letters, digits and underscores", quoted(s))
		}
	}
	return strings.ToLower(s), nil
}

func parseSpan(s string) (span, error) {
	text, rest, isRange := strings.Cut(s, "-")
	first, err := parseNumber(text)
	if err != nil {
		return span{}, fmt.Errorf("interval %s: %w", quoted(s), err)
	}
	if !isRange {
		return span{first, first}, nil
	}
	last, err := parseNumber(rest)
	if err != nil {
		return span{}, fmt.Errorf("interval %s: %w", quoted(s), err)
	}
	if last < first {
		return span{}, fmt.Errorf("interval %s ends before it begins", quoted(s))
	}
	return span{first, last}, nil
}

func parseNumber(s string) (uint64, error) {
	n, err := parseDigits(strings.TrimSpace(s), 64)
	if err != nil {
		return 0, err
	}
	if n == 0 || n > maxNumber {
		return 0, fmt.Errorf("%d is not a transaction number", n)
	}
	return n, nil
}
