package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/hooks/step"
)

// A database with a transaction that takes its time does not keep the others
// closed for it.
func TestClosingWaitsWithAllOpen(t *testing.T) {
	busy, other := startMariaDB(t), startMariaDB(t)
	ds := testDatabases(t, testFile(t, fmt.Sprintf(`
    databases:
      - {name: busy, address: 'unix:%s', user: tanist, password_file: %s}
      - {name: other, address: 'unix:%s', user: tanist, password_file: %s}`,
		busy.socket(), busy.password(), other.socket(), other.password())))
	busy.exec(t, "CREATE DATABASE app")
	busy.exec(t, "CREATE TABLE app.t (v INT) ENGINE=InnoDB")
	conn, err := busy.root.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, q := range []string{"BEGIN", "INSERT INTO app.t VALUES (1)"} {
		if _, err := conn.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	begun := time.Now()
	over := make(chan error, 1)
	w := writes{ds, false}
	go func() { over <- w.Apply(ctx) }()
	looks := 0
	for time.Since(begun) < writersGrace*3/4 {
		var closed bool
		if err := other.root.QueryRow("SELECT @@GLOBAL.read_only").Scan(&closed); err != nil {
			t.Fatal(err)
		}
		if closed && time.Since(begun) < writersGrace {
			t.Fatalf("closed after %s, while the other one waits", time.Since(begun))
		}
		looks++
	}
	if _, err := conn.ExecContext(t.Context(), "COMMIT"); err != nil && time.Since(begun) < writersGrace {
		t.Errorf("a transaction within its grace: %v", err)
	}
	if err := <-over; err != nil {
		t.Fatal(err)
	}
	if state, err := w.Check(ctx); state != step.Ok {
		t.Errorf("closed, and then %v, %v", state, err)
	}
	if looks == 0 {
		t.Error("nobody looked")
	}
}
