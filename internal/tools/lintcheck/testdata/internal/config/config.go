package config

import (
	_ "github.com/tanist-ha/tanist/hooks"
	_ "github.com/tanist-ha/tanist/vrrp/wire" // want depguard
)
