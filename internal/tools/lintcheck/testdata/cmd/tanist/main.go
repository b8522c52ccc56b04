package main

import (
	"fmt"
	"os"

	_ "github.com/spf13/cobra"
	_ "github.com/tanist-ha/tanist/internal/node"
	_ "github.com/tanist-ha/tanist/test/sim" // want depguard
	_ "github.com/tanist-ha/tanist/vrrp/wire"
	_ "go.uber.org/zap"
)

func main() {
	fmt.Println()
	os.Exit(1)
}
