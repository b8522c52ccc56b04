// Package systemd talks to the service manager: units over D-Bus, readiness and
// watchdog over its notification socket, and log entries to its journal.
//
// Like every package below the module root it may be imported, but promises no
// stable API before version 1.
package systemd
