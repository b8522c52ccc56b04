package heartbeat

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestReadKeys(t *testing.T) {
	secret := strings.Repeat("5eC4", 16)
	write := func(content string, mode os.FileMode) func(string) error {
		return func(path string) error {
			return errors.Join(os.WriteFile(path, []byte(content), mode), os.Chmod(path, mode))
		}
	}
	for _, tt := range []struct {
		name  string
		make  func(path string) error
		keys  int
		wrong string
		hint  string
	}{
		{"one", write(secret+"\n", 0o600), 1, "", ""},
		{"two, read-only", write(secret+"\n"+strings.Repeat("b", 64)+"\n", 0o400), 2, "", ""},
		{"missing", func(string) error { return nil }, 0, "does not exist", "tanist keygen"},
		{"the group reads it", write(secret+"\n", 0o640), 0, "can be read by others than its owner (mode 0640)", "chmod 600 "},
		{"others write it", write(secret+"\n", 0o602), 0, "mode 0602", "chmod 600 "},
		{"empty", write("", 0o600), 0, "empty", "keygen"},
		{"no key", write(secret[1:]+"\n", 0o600), 0, "line 1: 63 characters", "64 hexadecimal"},
		{"three keys", write(secret+"\n"+secret+"\n"+secret+"\n", 0o600), 0, "3 lines", "keygen"},
		{"a directory", func(p string) error { return os.Mkdir(p, 0o700) }, 0, "is not a file", "keygen"},
		{"a pipe", func(p string) error { return syscall.Mkfifo(p, 0o600) }, 0, "is not a file", "keygen"},
		{"of another user", func(p string) error {
			return errors.Join(write(secret+"\n", 0o600)(p), os.Chown(p, 12345, 0))
		}, 0, "belongs to user 12345", "chown root"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "cluster.key")
			if err := tt.make(path); errors.Is(err, os.ErrPermission) {
				t.Skip("needs root to give a file away")
			} else if err != nil {
				t.Fatal(err)
			}
			keys, err := ReadKeys(path)
			if tt.wrong == "" {
				if err != nil || len(keys) != tt.keys {
					t.Errorf("%d keys, %v", len(keys), err)
				}
				return
			}
			var e *KeyFileError
			if !errors.As(err, &e) || !strings.Contains(e.Error(), tt.wrong) || !strings.Contains(e.Error(), path) || !strings.Contains(e.Hint, tt.hint) {
				t.Fatalf("%v, %+v", err, e)
			}
			if strings.Contains(e.Error()+e.Hint, secret[:8]) {
				t.Errorf("the key is printed: %v", e)
			}
		})
	}
}
