package web

import (
	_ "github.com/prometheus/client_golang/prometheus"
	_ "github.com/tanist-ha/tanist/internal/config" // want depguard
	_ "github.com/tanist-ha/tanist/internal/control"
	_ "github.com/tanist-ha/tanist/internal/node"
	_ "github.com/tanist-ha/tanist/internal/peer" // want depguard
	_ "go.uber.org/zap"                           // want depguard
)
