package config

import (
	"fmt"
	"slices"
	"strings"
)

// remedy is the hint for a key that does not exist where it stands.
func remedy(key string, known []string) string {
	if hint := elsewhere(key, known); hint != "" {
		return hint
	}
	if near := nearest(key, known); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return "known here: " + strings.Join(known, ", ")
}

// elsewhere knows where a key belongs that other programs, or other places of
// the file, have.
func elsewhere(key string, known []string) string {
	key = strings.ToLower(key)
	switch key {
	case "password", "passwd", "auth_pass":
		if slices.Contains(known, "password_file") {
			return "no secret stands in this file: put it into a file of its own and name that with password_file"
		}
		return "no secret stands in this file: the nodes share the key in key_file"
	}
	if !slices.Contains(known, "heartbeat") {
		return ""
	}
	switch key {
	case "virtual_router_id", "vrrp_id", "router_id":
		return "it is called vrid here"
	case "virtual_ipaddress", "virtual_ip", "vip", "address_list":
		return "it is called vips here, a list: vips: [192.0.2.10/24]"
	case "advert_int", "advert_interval":
		return "it is heartbeat: {advert_interval: 1s}"
	case "version", "mode", "auth", "checksum":
		return fmt.Sprintf("it stands under heartbeat: {%s: …}", key)
	case "max_lag", "max_missing", "drain_timeout", "after_loss":
		return fmt.Sprintf("it stands under gate: {%s: …}", key)
	case "nopreempt":
		return "it is preempt: false, the default"
	case "unicast_peer", "unicast_src_ip":
		return "the addresses of both nodes stand under nodes"
	case "state":
		return "which node is Active is elected; priority says which one is preferred"
	}
	return ""
}

// nearest returns the known word that a slip of the finger makes of s, or
// nothing when none is near.
func nearest(s string, known []string) string {
	best, least := "", 0
	for _, k := range known {
		d := distance(strings.ToLower(s), k)
		if d <= 1+len(k)/4 && d < len(k) && (best == "" || d < least) {
			best, least = k, d
		}
	}
	return best
}

// distance counts insertions, deletions, substitutions and swaps of
// neighbours. Long words are far from everything.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return max(len(a), len(b))
	}
	x, y := []rune(a), []rune(b)
	var before []int
	row := make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(x); i++ {
		next := make([]int, len(y)+1)
		next[0] = i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row = row, next
	}
	return row[len(y)]
}
