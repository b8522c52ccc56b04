package control

import (
	_ "charm.land/bubbletea/v2"                        // want depguard
	_ "github.com/prometheus/client_golang/prometheus" // want depguard
	_ "github.com/tanist-ha/tanist/internal/failover"
	_ "github.com/tanist-ha/tanist/internal/node" // want depguard
	_ "go.uber.org/zap"                           // want depguard
)
