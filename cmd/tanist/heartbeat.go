package main

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"path/filepath"
	"strings"
	"time"

	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/heartbeat"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/vrrp"
	"github.com/tanist-ha/tanist/vrrp/auth"
)

// openHeartbeat makes the heartbeat of this host, without instances.
func openHeartbeat(
	file *config.File, self int, keys []auth.Key, stateDir string, clock func() mono.Instant, log heartbeat.Log,
) (*heartbeat.Heartbeat, error) {
	return heartbeat.New(heartbeat.Config{
		Local: file.Nodes[self].Addresses, Peer: file.Nodes[1-self].Addresses, Keys: keys,
		StateFile: filepath.Join(stateDir, "heartbeat"), Clock: clock, Log: log,
	})
}

// beat makes the heartbeat of an instance, in the place of an earlier one of its
// name.
func (d *daemon) beat(in config.Instance, router vrrp.Config) (*heartbeat.Route, error) {
	cfg := advertised(in, router)
	if d.heartbeat.Has(in.Name) {
		return d.heartbeat.Replace(cfg)
	}
	return d.heartbeat.Add(cfg)
}

// clusterKeys reads the key file if the file names it or an instance authenticates.
func clusterKeys(file *config.File) ([]auth.Key, error) {
	if at := keyPlace(file); at != "" {
		return readKeys(file, at)
	}
	return nil, nil
}

// keyPlace is the place of the file that wants the key file: its own line, or
// the first instance that authenticates. It is empty when nothing does.
func keyPlace(file *config.File) string {
	if file.Given("key_file") {
		return "key_file"
	}
	for i, in := range file.Instances {
		if in.Heartbeat.Auth != config.AuthNone {
			return fmt.Sprintf("instances[%d].heartbeat.auth", i)
		}
	}
	return ""
}

// readKeys reads the key file. The error is config.Problems.
func readKeys(file *config.File, at string) ([]auth.Key, error) {
	keys, err := heartbeat.ReadKeys(file.KeyFile)
	if err == nil {
		return keys, nil
	}
	message, hint := err.Error(), ""
	var wrong *heartbeat.KeyFileError
	if errors.As(err, &wrong) {
		hint = wrong.Hint
	}
	if at != "key_file" {
		message = "authentication needs the key file: " + message
	}
	return nil, config.Problems{file.Problem(at, message, hint)}
}

// group is the interface on which an instance advertises to the VRRP group,
// empty when it advertises to the other node alone.
func group(in config.Instance) string {
	if in.Heartbeat.Mode == config.Multicast {
		return in.Interface
	}
	return ""
}

// advertised is an instance as the heartbeat needs it.
func advertised(in config.Instance, router vrrp.Config) heartbeat.Instance {
	i := heartbeat.Instance{
		Name: in.Name, Router: router, Group: group(in),
		FollowChecksum: in.Heartbeat.Checksum == config.ChecksumAuto,
	}
	if in.Heartbeat.Checksum == config.ChecksumKeepalived {
		i.Checksum = vrrp.ChecksumPseudoHeader
	}
	switch in.Heartbeat.Auth {
	case config.AuthNone:
		i.Auth = auth.None
	case config.AuthPermissive:
		i.Auth = auth.Permissive
	case config.AuthHMAC:
		i.Auth = auth.Enforce
	}
	return i
}

// authWord names a mode as the configuration does.
func authWord(m auth.Mode) string {
	switch m {
	case auth.None:
		return config.AuthNone.String()
	case auth.Permissive:
		return config.AuthPermissive.String()
	case auth.Enforce:
		return config.AuthHMAC.String()
	}
	return m.String()
}

func heartbeatPaths(s heartbeat.Status) []control.HeartbeatPath {
	paths := []control.HeartbeatPath{}
	for _, p := range s.Paths {
		path := control.HeartbeatPath{
			Interface: p.Interface, Peer: p.Peer.String(), Up: p.Up,
			LastHeardMS: agoMS(p.Heard, p.Silent), Flooded: p.Sieved, Dropped: counted(maps.All(p.Dropped)),
		}
		if p.Local.IsValid() {
			path.Local = p.Local.String()
		}
		if p.Err != nil {
			path.Error = p.Err.Error()
		}
		paths = append(paths, path)
	}
	return paths
}

func instanceHeartbeat(in *heartbeat.InstanceStatus) *control.Heartbeat {
	if in == nil {
		return nil
	}
	h := &control.Heartbeat{
		Auth: authWord(in.Auth), LastHeardMS: agoMS(in.Heard, in.Silent), SecondKey: in.SecondKey,
		Checksum: in.Checksum.String(), Mismatch: []string{}, Dropped: counted(in.Dropped.All()), Unproved: counted(in.AcceptedDoubt.All()),
	}
	if in.Heard {
		h.PeerChecksum = in.PeerChecksum.String()
	}
	if in.Heard && in.Auth != auth.None {
		proved := in.Proved
		h.Proved = &proved
	}
	if in.Doubt != 0 {
		h.Doubt = in.Doubt.String()
	}
	if in.Mismatch != 0 {
		h.Mismatch = strings.Split(in.Mismatch.String(), ",")
	}
	return h
}

func agoMS(ever bool, silent time.Duration) *int64 {
	if !ever {
		return nil
	}
	ms := silent.Milliseconds()
	return &ms
}

// counted leaves out what there was nothing of.
func counted(counts iter.Seq2[string, uint64]) map[string]uint64 {
	some := map[string]uint64{}
	for reason, n := range counts {
		if n > 0 {
			some[reason] = n
		}
	}
	return some
}
