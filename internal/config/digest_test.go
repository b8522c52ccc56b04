package config

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func digests(t *testing.T, text string) (string, []string) {
	t.Helper()
	f, err := Parse("tanist.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var ins []string
	for i := range f.Instances {
		ins = append(ins, f.Instances[i].Digest())
	}
	return f.Digest(), ins
}

// Every good sample has a digest, the same each time it is read.
func TestDigestOfEverySample(t *testing.T) {
	hexes := regexp.MustCompile(`^[0-9a-f]{32}$`)
	for _, file := range append(samples(t, "good"), filepath.Join("testdata", "contract.yaml")) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		global, ins := digests(t, string(text))
		again, insAgain := digests(t, string(text))
		if global != again || strings.Join(ins, " ") != strings.Join(insAgain, " ") {
			t.Errorf("%s: read twice, %s %v and %s %v", file, global, ins, again, insAgain)
		}
		for _, d := range append(ins, global) {
			if !hexes.MatchString(d) {
				t.Errorf("%s: %q", file, d)
			}
		}
	}
}

func TestDigestIsOfTheMeaning(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "contract.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	global, ins := digests(t, text)
	for _, test := range []struct {
		name, old, new   string
		global, instance bool // differ
	}{
		{name: "a comment", old: "instances:", new: "# a comment\ninstances:"},
		{name: "another way to write it", old: "advert_interval: 250ms", new: "advert_interval: 0.25s"},
		{name: "a default written or not", old: "preempt: false", new: "# preempt: false"},
		{name: "log", old: "level: info", new: "level: debug"},
		{name: "http", old: "127.0.0.1:7512", new: "127.0.0.1:7599"},
		{name: "key file", old: "/etc/tanist/cluster.key", new: "/etc/other.key"},
		{name: "interface", old: "interface: eth0", new: "interface: eth1"},
		{name: "password file", old: "password_file: /etc/tanist/mysql.password", new: "password_file: /etc/x"},
		{name: "port", old: "peer_port: 7511", new: "peer_port: 7599", global: true},
		{name: "node", old: "10.77.1.11", new: "10.77.1.21", global: true},
		{name: "vip", old: "10.77.0.100/24", new: "10.77.0.101/24", instance: true},
		{name: "lease", old: "lease: 2s", new: "lease: 3s", instance: true},
		{name: "a step", old: "unit: {start: lsyncd.service}", new: "unit: {restart: lsyncd.service}", instance: true},
		{name: "a check", old: "min_free: 5%", new: "min_free: 6%", instance: true},
		{name: "max_lag", old: "max_lag: 5s", new: "max_lag: 6s", instance: true},
		{name: "a yaml key", old: "key: master_service_label", new: "key: other", instance: true},
	} {
		if !strings.Contains(text, test.old) {
			t.Errorf("%s: the sample has no %q", test.name, test.old)
			continue
		}
		g, i := digests(t, strings.Replace(text, test.old, test.new, 1))
		if (g != global) != test.global || (i[0] != ins[0]) != test.instance {
			t.Errorf("%s: global differs %v, instance differs %v", test.name, g != global, i[0] != ins[0])
		}
	}
}
