//go:build !linux || !amd64

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "clockshift: knows the system calls of linux/amd64 only")
	os.Exit(1)
}
