package vrrp

import (
	"context" // want depguard
	"fmt"
	"log"       // want depguard
	"math/rand" // want depguard
	clock "math/rand/v2"
	"net" // want depguard
	"net/netip"
	"os"   // want depguard
	"sync" // want depguard
	wall "time"

	_ "github.com/spf13/cobra"             // want depguard
	_ "github.com/tanist-ha/tanist/health" // want depguard
	_ "github.com/tanist-ha/tanist/internal/mono"
	_ "go.uber.org/zap" // want depguard
)

type State uint8

const (
	Initialize State = iota
	Backup
	Active
)

//sumtype:decl
type Event interface{ event() }

type (
	Tick     struct{}
	Shutdown struct{}
)

func (Tick) event()     {}
func (Shutdown) event() {}

var (
	mu      sync.Mutex // want gochecknoglobals
	names   = [...]string{"Initialize", "Backup", "Active"}
	inOrder = wall.Second // want gochecknoglobals
)

func init() {} // want gochecknoinits

func Clocks() (wall.Time, netip.Addr) {
	wall.Sleep(1)                                                              // want forbidigo
	<-wall.After(1)                                                            // want forbidigo
	_ = wall.NewTimer(1)                                                       // want forbidigo
	_ = wall.NewTicker(1)                                                      // want forbidigo
	_ = wall.Since(wall.Time{})                                                // want forbidigo
	now := wall.Now                                                            // want forbidigo
	_, _, _ = rand.Int(), clock.IntN(2), clock.New(clock.NewPCG(1, 2)).IntN(2) // want forbidigo
	fmt.Println(os.Args, net.IPv4zero, names, &mu, inOrder, context.Canceled)  // want forbidigo
	log.Print(fmt.Sprint("fine"))
	return now(), netip.Addr{}
}

func Name(s State) string {
	switch s { // want exhaustive
	case Initialize:
		return "Initialize"
	case Active:
		return "Active"
	}
	return ""
}

func Handle(e Event) bool {
	switch e.(type) { // want gochecksumtype
	case Tick:
		return true
	}
	return false
}
