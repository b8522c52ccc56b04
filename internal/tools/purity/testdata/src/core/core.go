// Package core breaks every rule once and keeps it once.
package core

import (
	"maps"
	"slices"
)

func goroutine(f func()) {
	go f() // want `no goroutines`
}

func channels(in chan int) int { // want `no goroutines`
	in <- 1  // want `no goroutines`
	select { // want `no goroutines`
	default:
	}
	return <-in // want `no goroutines`
}

type named map[string]int

func mapLoops(m named) (last string, sum int) {
	for k := range m { // want `map order is random`
		last = k
	}
	for k := range maps.Keys(m) { // want `map order is random`
		last = k
	}
	// unordered:
	for k := range m { // want `map order is random`
		last = k
	}
	for _, n := range m { // unordered: a sum
		sum += n
	}
	// unordered: a sum
	for _, n := range m {
		sum += n
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		last = k
	}
	return last, sum
}
