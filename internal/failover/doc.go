// Package failover is the core of Tanist: for one instance on one node it
// decides who holds the address and what is done around its move. It composes
// the four pure packages vrrp, health, hooks and replication.
//
// An Orchestrator has no clock, goroutine, lock or I/O. Step takes an event and
// returns effects, in order; Deadline says when it wants a Tick. An effect whose
// result matters carries an ID and comes back as an event. So the same code runs
// in the daemon, in the simulator and in transcripts that a person can read.
//
// The files, by what a node can be about: boot.go and lease.go keep what it has;
// bid.go takes over from a peer that is silent or gave up; give.go and take.go
// are the two sides of a planned switchover; demote.go steps down.
package failover
