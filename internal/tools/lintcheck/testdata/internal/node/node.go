package node

import (
	_ "github.com/spf13/cobra" // want depguard
	_ "github.com/tanist-ha/tanist/internal/failover"
	_ "github.com/tanist-ha/tanist/internal/peer" // want depguard
	_ "github.com/tanist-ha/tanist/vrrp"
	_ "github.com/tanist-ha/tanist/vrrp/wire" // want depguard
	_ "go.uber.org/zap"
)
