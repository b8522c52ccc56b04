package heartbeat

import (
	_ "github.com/tanist-ha/tanist/internal/failover"
	_ "github.com/tanist-ha/tanist/internal/node" // want depguard
	_ "github.com/tanist-ha/tanist/vrrp/vip"      // want depguard
	_ "github.com/tanist-ha/tanist/vrrp/wire"
)
