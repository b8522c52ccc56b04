// Package sidebyside sets how many tests of a package run at the same time, where
// they mostly wait for processes of their own and not for a CPU.
package sidebyside

import (
	"flag"
	"strconv"
)

// AtMost lets n parallel tests run at once, unless -parallel says how many. It is
// for a TestMain, before it runs the tests.
func AtMost(n int) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return
	}
	if err := flag.Set("test.parallel", strconv.Itoa(n)); err != nil {
		panic(err) // only of a program that is no test
	}
}
