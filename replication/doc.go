// Package replication answers one question about a pair of databases: may this
// node be promoted now, and if not, why. It holds positions (what a database
// has), facts (what was measured, with "not known" kept apart from NULL and
// from zero), what was heard of the source, and the gate over all of them.
//
// It reads no server and no clock; the mysql package below it measures and acts.
package replication
