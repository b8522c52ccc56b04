// Command clockshift runs a program with a wall clock that is off, as on a host
// whose clock nobody keeps:
//
//	clockshift 90s /usr/bin/tanist run
//
// The hosts of a lab share one kernel and its clock, time namespaces leave
// CLOCK_REALTIME alone, and a static Go program loads no library that could lie to
// it. So the program is started without the vDSO, which makes it ask the kernel, and
// its system calls for that one clock are answered by this one, its tracer. Threads of
// the program are traced, programs that it starts are not and have the right time.
package main
