// Package deadfs mounts, for tests, a file system whose server has gone silent: what
// asks it something waits in the kernel, and not even SIGKILL ends that.
package deadfs

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// The FUSE protocol, as far as it takes to begin: linux/fuse.h.
const (
	opInit     = 26
	headerSize = 16 // of an answer
	initSize   = 64
	maxWrite   = 4096
	requestMax = 1 << 17
)

// FS is a mounted one.
type FS struct {
	Dir string
	// Release ends all waiting with an error; it happens at the end of the test at the latest.
	Release func()

	asked atomic.Int32
}

// Asked returns how many requests are beyond recall.
func (fs *FS) Asked() int { return int(fs.asked.Load()) }

// Mount mounts one for a test.
func Mount(t *testing.T) *FS {
	t.Helper()
	fs := &FS{Dir: t.TempDir()}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skipf("needs root and FUSE: %v", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd)
	if err := unix.Mount("tanist-test", fs.Dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		_ = unix.Close(fd)
		t.Skipf("needs root and FUSE: %v", err)
	}
	server := os.NewFile(uintptr(fd), "/dev/fuse") // before the mount nothing could wait for it
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		fs.serve(server)
	}()
	fs.Release = sync.OnceFunc(func() {
		server.Close()
		<-ended
	})
	t.Cleanup(func() {
		fs.Release()
		if err := unix.Unmount(fs.Dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return fs
}

// serve answers the first request and takes the others, so that they cannot be
// withdrawn any more.
func (fs *FS) serve(f *os.File) {
	request := make([]byte, requestMax)
	for {
		n, err := f.Read(request)
		if err != nil {
			return
		}
		if n < 48 || binary.NativeEndian.Uint32(request[4:]) != opInit {
			fs.asked.Add(1)
			continue
		}
		answer := make([]byte, headerSize+initSize)
		binary.NativeEndian.PutUint32(answer, uint32(len(answer)))
		copy(answer[8:16], request[8:16])                    // which request
		copy(answer[16:24], request[40:48])                  // the kernel's own version
		binary.NativeEndian.PutUint16(answer[32:], 16)       // in the background
		binary.NativeEndian.PutUint16(answer[34:], 12)       // and then congested
		binary.NativeEndian.PutUint32(answer[36:], maxWrite) // bytes
		binary.NativeEndian.PutUint32(answer[40:], 1)        // ns of a timestamp
		if _, err := f.Write(answer); err != nil {
			return
		}
	}
}
