// Package replication answers two questions about a pair of databases: may this
// node be promoted now, and may a database follow a source; and if not, why. It
// holds positions (what a database has), facts (what was measured, with "not
// known" kept apart from NULL and from zero), what was heard of the source, the
// gate over all of them, and what one database has and another lacks.
//
// docs/gate.md explains the gate's answers and lists them case by case.
//
// It reads no server and no clock; the mysql package below it measures and acts.
package replication
