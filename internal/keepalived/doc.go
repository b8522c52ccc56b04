// Package keepalived turns keepalived's configuration into one of Tanist's. It reads
// the format as keepalived 2.2 does, carries over what Tanist has, and says of
// everything else where it stands and what to do about it.
package keepalived
