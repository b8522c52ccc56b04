package site

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// Build builds tanist, static as in a release, into dir and returns its path. It
// must be called from within the module.
func Build(ctx context.Context, dir string) (string, error) {
	bin := filepath.Join(dir, "tanist")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", bin, "github.com/tanist-ha/tanist/cmd/tanist")
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build tanist: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return bin, nil
}
