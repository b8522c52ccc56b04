// Package node runs the orchestrators of one host: one goroutine owns them,
// waits for events and deadlines, and carries out what they answer. What is slow
// runs in workers whose only output is an event.
//
// The loop itself does netlink calls, datagram sends and nothing else: no disk,
// no log, no D-Bus, no database. It waits for no renewal that takes long: other
// processes can hold the kernel's lock on the network's configuration for seconds.
package node
