package heartbeat

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/tanist-ha/tanist/vrrp/auth"
)

// store keeps the identities of both daemons' runs in a file, so that replays of
// what was heard before a restart stay worthless, and that identities grow when
// the clock does not. It is used by one goroutine, but for keepSoon.
type store struct {
	path   string
	log    Log
	wanted chan struct{}
	kept   kept
	wrong  error // of the file that was found
}

// kept is the content of the file: this line of JSON and a checksum of it.
type kept struct {
	Boot  uint64    `json:"boot"` // this node's last run
	Peers []keptRun `json:"peers"`
}

// keptRun is what is known of the peer's runs in one instance.
type keptRun struct {
	Name     string `json:"name"`
	VRID     uint8  `json:"vrid"`
	Boot     uint64 `json:"boot"`
	Highest  uint64 `json:"highest"`
	Sequence uint64 `json:"sequence"`
}

const (
	// maxStateFile bounds what is read: 255 instances have 40 kB.
	maxStateFile = 1 << 20
	// maxPast bounds the instances that are remembered without being there.
	maxPast = 1024
)

var errStateFile = errors.New("it is damaged")

func openStore(path string, log Log) *store {
	s := &store{path: path, log: log, wanted: make(chan struct{}, 1)}
	if path == "" {
		return s
	}
	if s.kept, s.wrong = readState(path); s.wrong != nil {
		s.wrong = fmt.Errorf("read %s: %w", path, s.wrong)
	}
	return s
}

func readState(path string) (kept, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return kept{}, nil
	}
	if err != nil {
		return kept{}, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxStateFile))
	if err != nil {
		return kept{}, err
	}
	return decodeState(content)
}

func decodeState(content []byte) (kept, error) {
	line, sum, ok := bytes.Cut(content, []byte("\n"))
	var k kept
	if !ok || string(sum) != checksum(line) || json.Unmarshal(line, &k) != nil {
		return kept{}, errStateFile
	}
	return k, nil
}

func encodeState(k kept) ([]byte, error) {
	line, err := json.Marshal(k)
	if err != nil {
		return nil, err
	}
	return append(append(line, '\n'), checksum(line)...), nil
}

func checksum(line []byte) string {
	return fmt.Sprintf("%08x\n", crc32.Checksum(line, crc32.MakeTable(crc32.Castagnoli)))
}

// seen returns what the file says of the peer.
func (s *store) seen() map[auth.Instance]auth.Seen {
	all := map[auth.Instance]auth.Seen{}
	for _, r := range s.kept.Peers {
		if len(all) < maxPast {
			all[auth.Instance{VRID: r.VRID, Name: r.Name}] = auth.Seen{Boot: r.Boot, Highest: r.Highest, Sequence: r.Sequence}
		}
	}
	return all
}

// nextBoot gives a run that starts now its identity, and keeps it before
// anybody hears of it.
func (s *store) nextBoot(now time.Time) uint64 {
	boot := auth.NextBoot(now, s.kept.Boot)
	s.save(boot, s.seen())
	return boot
}

// confess tells what was wrong with the file.
func (s *store) confess() {
	if s.wrong != nil {
		s.log.Trouble("", "read what was known of the peer's heartbeat; replays of earlier runs are refused once the present one is heard", s.wrong)
	}
}

// keepSoon asks for a save.
func (s *store) keepSoon() {
	select {
	case s.wanted <- struct{}{}:
	default:
	}
}

// save writes the file if something is new. An error is told, not returned: the
// heartbeat goes on, and the next save tries again.
func (s *store) save(boot uint64, seen map[auth.Instance]auth.Seen) {
	k := kept{Boot: boot, Peers: []keptRun{}}
	for id, one := range seen {
		k.Peers = append(k.Peers, keptRun{id.Name, id.VRID, one.Boot, one.Highest, one.Sequence})
	}
	sortRuns(k.Peers)
	if s.path == "" || reflect.DeepEqual(k, s.kept) {
		return
	}
	content, err := encodeState(k)
	if err == nil {
		err = writeFile(s.path, content)
	}
	if err != nil {
		s.log.Trouble("", "keep what is known of the peer's heartbeat", err)
		return
	}
	s.kept = k
}

// writeFile replaces a file: whoever reads it after a crash finds the old or the
// new content.
func writeFile(path string, content []byte) (err error) {
	temporary := path + ".new"
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

func sortRuns(runs []keptRun) {
	slices.SortFunc(runs, func(a, b keptRun) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.VRID, b.VRID))
	})
}
