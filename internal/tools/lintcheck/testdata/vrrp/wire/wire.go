package wire

import (
	"net"
	"os"
	"time"

	_ "github.com/tanist-ha/tanist/hooks" // want depguard
	_ "github.com/tanist-ha/tanist/internal/mono"
	_ "github.com/tanist-ha/tanist/vrrp"
	_ "github.com/tanist-ha/tanist/vrrp/vip" // want depguard
	_ "go.uber.org/zap"                      // want depguard
)

func Wire() (time.Time, net.IP) {
	go println() // want forbidigo
	os.Exit(1)   // want forbidigo
	return time.Now(), nil
}
