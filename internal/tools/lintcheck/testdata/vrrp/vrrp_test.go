package vrrp_test

import (
	"os"
	"testing"
	"time"

	_ "github.com/tanist-ha/tanist/vrrp/wire"
)

func TestMayTouchTheWorld(t *testing.T) { t.Log(time.Now(), os.Getpid()) }
