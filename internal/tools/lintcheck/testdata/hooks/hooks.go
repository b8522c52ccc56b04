package hooks

import (
	_ "os/exec" // want depguard

	_ "github.com/tanist-ha/tanist/vrrp/vip" // want depguard
)
