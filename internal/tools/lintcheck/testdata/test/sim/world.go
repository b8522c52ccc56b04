package sim

import (
	_ "github.com/tanist-ha/tanist/internal/failover"
	_ "github.com/tanist-ha/tanist/vrrp"
	_ "github.com/tanist-ha/tanist/vrrp/vip" // want depguard
)
