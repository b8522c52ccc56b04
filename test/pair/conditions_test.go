package pair

import (
	"errors"
	"syscall"
	"testing"

	"github.com/tanist-ha/tanist/test/lab"
	"github.com/tanist-ha/tanist/test/site"
)

const (
	sigKILL = syscall.SIGKILL
	sigSTOP = syscall.SIGSTOP
	sigCONT = syscall.SIGCONT
)

// signal reaches the daemon from outside its host, as an accident would.
func signal(t *testing.T, s *site.Site, n *lab.Node, sig syscall.Signal) {
	t.Helper()
	if err := n.KillUnit(within(t), "tanist.service", sig); err != nil {
		t.Fatal(err)
	}
}

func gone(s *site.Site, n *lab.Node) error {
	switch held, err := s.HoldsVIP(n); {
	case err != nil:
		return err
	case held:
		return errors.New("it is still there")
	}
	return nil
}
