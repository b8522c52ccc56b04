package mysql

import (
	"strings"
	"testing"
	"time"
)

func TestPing(t *testing.T) {
	onAll(t, func(t *testing.T, start func(t *testing.T, id int) subject) {
		s := start(t, 1)
		d := s.database(t)
		if err := d.Ping(timeout(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		s.hang(t)
		err := d.Ping(timeout(t, 300*time.Millisecond))
		if err == nil || !strings.Contains(err.Error(), "does not answer in time") {
			t.Errorf("a server that hangs: %v", err)
		}
		s.resume(t)
		eventually(t, "an answer", func() (bool, error) {
			err := d.Ping(timeout(t, time.Minute))
			return err == nil, err
		})
		s.kill(t)
		if err := d.Ping(timeout(t, time.Minute)); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("a server that is gone: %v", err)
		}
	})
}
