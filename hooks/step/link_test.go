package step

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/hooks"
)

// site is the part of a BitrixVM that the operators link.
type site struct {
	t                  *testing.T
	dir                string
	available, enabled string
}

func newSite(t *testing.T, names ...string) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir()}
	s.available, s.enabled = filepath.Join(s.dir, "site_avaliable"), filepath.Join(s.dir, "site_enabled")
	for _, d := range []string{s.available, s.enabled} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range names {
		s.write(filepath.Join(s.available, n))
	}
	return s
}

func (s *site) write(path string) {
	s.t.Helper()
	if err := os.WriteFile(path, []byte(path), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) link(target, path string) {
	s.t.Helper()
	if err := os.Symlink(target, path); err != nil {
		s.t.Fatal(err)
	}
}

// listing is what a directory holds: links with what they say.
func (s *site) listing() map[string]string {
	s.t.Helper()
	entries, err := os.ReadDir(s.enabled)
	if err != nil {
		s.t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range entries {
		got[e.Name()] = "no link"
		if says, err := os.Readlink(filepath.Join(s.enabled, e.Name())); err == nil {
			got[e.Name()] = says
		}
	}
	return got
}

func TestLink(t *testing.T) {
	type links map[string]string
	tests := []struct {
		name    string
		action  func(s *site) hooks.Link
		before  func(s *site)
		want    func(s *site) links
		outcome hooks.Outcome // when it is run; the second run changes nothing
		reason  LinkReason    // of a refusal
	}{
		{
			name: "each match, into a directory",
			action: func(s *site) hooks.Link {
				return hooks.Link{Path: s.enabled + "/", Target: s.available + "/http*"}
			},
			want: func(s *site) links {
				return links{"http_a": s.available + "/http_a", "http_b": s.available + "/http_b"}
			},
			outcome: hooks.Changed,
		},
		{
			name:   "a directory without its slash",
			action: func(s *site) hooks.Link { return hooks.Link{Path: s.enabled, Target: s.available + "/up.conf"} },
			want:   func(s *site) links { return links{"up.conf": s.available + "/up.conf"} }, outcome: hooks.Changed,
		},
		{
			name:   "one link, its target may be missing",
			action: func(s *site) hooks.Link { return hooks.Link{Path: s.enabled + "/current", Target: "../nowhere"} },
			want:   func(*site) links { return links{"current": "../nowhere"} }, outcome: hooks.Changed,
		},
		{
			name: "a relative pattern is relative to the links",
			action: func(s *site) hooks.Link {
				return hooks.Link{Path: s.enabled + "/", Target: "../site_avaliable/http_[a]"}
			},
			want: func(*site) links { return links{"http_a": "../site_avaliable/http_a"} }, outcome: hooks.Changed,
		},
		{
			name:   "a link that says something else is replaced",
			action: func(s *site) hooks.Link { return hooks.Link{Path: s.enabled + "/current", Target: s.available} },
			before: func(s *site) { s.link("/elsewhere", s.enabled+"/current") },
			want:   func(s *site) links { return links{"current": s.available} }, outcome: hooks.Changed,
		},
		{
			name:   "a link to a directory is replaced, not filled",
			action: func(s *site) hooks.Link { return hooks.Link{Path: s.enabled + "/current", Target: "/new"} },
			before: func(s *site) { s.link(s.available, s.enabled+"/current") },
			want:   func(*site) links { return links{"current": "/new"} }, outcome: hooks.Changed,
		},
		{
			name:   "what is so already stays",
			action: func(s *site) hooks.Link { return hooks.Link{Path: s.enabled + "/", Target: s.available + "/http_a"} },
			before: func(s *site) { s.link(s.available+"/http_a", s.enabled+"/http_a") },
			want:   func(s *site) links { return links{"http_a": s.available + "/http_a"} }, outcome: hooks.Unchanged,
		},
		{
			name: "a file is never replaced, and then nothing is changed",
			action: func(s *site) hooks.Link {
				return hooks.Link{Path: s.enabled + "/", Target: s.available + "/http*"}
			},
			before: func(s *site) { s.write(s.enabled + "/http_b") },
			want:   func(*site) links { return links{"http_b": "no link"} }, outcome: hooks.Failed, reason: LinkOccupied,
		},
		{
			name: "nor is a directory",
			action: func(s *site) hooks.Link {
				return hooks.Link{Path: s.enabled + "/", Target: s.available + "/http_a"}
			},
			before: func(s *site) {
				if err := os.Mkdir(s.enabled+"/http_a", 0o700); err != nil {
					s.t.Fatal(err)
				}
			},
			want: func(*site) links { return links{"http_a": "no link"} }, outcome: hooks.Failed, reason: LinkOccupied,
		},
		{
			name:   "no match",
			action: func(s *site) hooks.Link { return hooks.Link{Path: s.enabled + "/", Target: s.available + "/nginx*"} },
			want:   func(*site) links { return links{} }, outcome: hooks.Failed, reason: LinkNoMatch,
		},
		{
			name:   "no pattern",
			action: func(s *site) hooks.Link { return hooks.Link{Path: s.enabled + "/", Target: s.available + "/[a"} },
			want:   func(*site) links { return links{} }, outcome: hooks.Failed, reason: LinkBadPattern,
		},
		{
			name:   "no directory",
			action: func(s *site) hooks.Link { return hooks.Link{Path: s.dir + "/none/", Target: s.available + "/http*"} },
			want:   func(*site) links { return links{} }, outcome: hooks.Failed, reason: LinkNoDirectory,
		},
		{
			name:   "two matches of one name",
			action: func(s *site) hooks.Link { return hooks.Link{Path: s.enabled + "/", Target: s.dir + "/*/same"} },
			before: func(s *site) {
				for _, d := range []string{"one", "two"} {
					if err := os.Mkdir(filepath.Join(s.dir, d), 0o700); err != nil {
						s.t.Fatal(err)
					}
					s.write(filepath.Join(s.dir, d, "same"))
				}
			},
			want: func(*site) links { return links{} }, outcome: hooks.Failed, reason: LinkTwice,
		},
		{
			name:   "to itself",
			action: func(s *site) hooks.Link { return hooks.Link{Path: s.enabled + "/x", Target: s.enabled + "/x"} },
			want:   func(*site) links { return links{} }, outcome: hooks.Failed, reason: LinkItself,
		},
		{
			name: "absent: each link that says so, also where the target has gone",
			action: func(s *site) hooks.Link {
				return hooks.Link{Path: s.enabled + "/", Target: s.available + "/http*", Absent: true}
			},
			before: func(s *site) {
				for _, n := range []string{"http_a", "http_gone"} {
					s.link(s.available+"/"+n, s.enabled+"/"+n)
				}
				s.link("/elsewhere/http_b", s.enabled+"/http_b")
				s.link(s.available+"/http_a", s.enabled+"/renamed")
				s.write(s.enabled + "/http_c")
			},
			want: func(s *site) links {
				return links{"http_b": "/elsewhere/http_b", "renamed": s.available + "/http_a", "http_c": "no link"}
			},
			outcome: hooks.Changed,
		},
		{
			name:   "absent: one link",
			action: func(s *site) hooks.Link { return hooks.Link{Path: s.enabled + "/x", Target: "/t", Absent: true} },
			before: func(s *site) { s.link("/t", s.enabled+"/x") },
			want:   func(*site) links { return links{} }, outcome: hooks.Changed,
		},
		{
			name:   "absent: a link that leads elsewhere stays",
			action: func(s *site) hooks.Link { return hooks.Link{Path: s.enabled + "/x", Target: "/t", Absent: true} },
			before: func(s *site) { s.link("/u", s.enabled+"/x") },
			want:   func(*site) links { return links{"x": "/u"} }, outcome: hooks.Unchanged,
		},
		{
			name:   "absent: a file stays",
			action: func(s *site) hooks.Link { return hooks.Link{Path: s.enabled + "/x", Target: "/t", Absent: true} },
			before: func(s *site) { s.write(s.enabled + "/x") },
			want:   func(*site) links { return links{"x": "no link"} }, outcome: hooks.Unchanged,
		},
		{
			name:   "absent: nothing there",
			action: func(s *site) hooks.Link { return hooks.Link{Path: s.dir + "/none/", Target: "/t*", Absent: true} },
			want:   func(*site) links { return links{} }, outcome: hooks.Unchanged,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, "http_a", "http_b", ".http_hidden", "up.conf")
			if tt.before != nil {
				tt.before(s)
			}
			before := s.listing()
			a := tt.action(s)
			dry, _ := DryRun(t.Context(), NewLink(a))
			if diff := cmp.Diff(before, s.listing()); dry != tt.outcome || diff != "" {
				t.Errorf("dry run: %s\n%s", dry, diff)
			}
			out, detail := Execute(t.Context(), NewLink(a))
			if out != tt.outcome {
				t.Errorf("%s %s, want %s", out, detail, tt.outcome)
			}
			if diff := cmp.Diff(map[string]string(tt.want(s)), s.listing()); diff != "" {
				t.Error(diff)
			}
			if tt.outcome == hooks.Failed {
				_, err := NewLink(a).Check(t.Context())
				if refused, ok := errors.AsType[*LinkError](err); !ok || refused.Reason != tt.reason {
					t.Errorf("%v, want %s", err, tt.reason)
				}
				return
			}
			if again, detail := Execute(t.Context(), NewLink(a)); again != hooks.Unchanged {
				t.Errorf("a second time: %s %s", again, detail)
			}
		})
	}
}

// The reverse leaves what was there.
func TestLinkReverse(t *testing.T) {
	s := newSite(t, "http_a", "http_b")
	s.link("/elsewhere", s.enabled+"/kept")
	before := s.listing()
	p := hooks.Plan{{Action: hooks.Link{Path: s.enabled + "/", Target: s.available + "/http*"}}}
	for range 2 {
		out, detail := Execute(t.Context(), NewLink(p[0].Action.(hooks.Link)))
		if out != hooks.Changed {
			t.Fatalf("%s %s", out, detail)
		}
		p = hooks.Undo(p, []hooks.Result{{Outcome: out}}, hooks.Vars{}, nil, hooks.Vars{})
	}
	if diff := cmp.Diff(before, s.listing()); diff != "" {
		t.Error(diff)
	}
}

// Whoever looks finds the old link or the new one, and nothing is left over.
func TestLinkIsReplacedInOneStep(t *testing.T) {
	s := newSite(t)
	path := s.enabled + "/current"
	s.link("/0", path)
	stop := make(chan struct{})
	var looks sync.WaitGroup
	looks.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := os.Readlink(path); err != nil {
				t.Errorf("there was no link: %v", err)
				return
			}
		}
	})
	for i := range 500 {
		if out, detail := Execute(t.Context(), NewLink(hooks.Link{Path: path, Target: fmt.Sprint("/", i+1)})); out != hooks.Changed {
			t.Fatalf("%s %s", out, detail)
		}
	}
	close(stop)
	looks.Wait()
	if diff := cmp.Diff(map[string]string{"current": "/500"}, s.listing()); diff != "" {
		t.Error(diff)
	}
}

// What came into a link's place after it was looked at stays what it is.
func TestLinkWhosePlaceWasTaken(t *testing.T) {
	for name, put := range map[string]func(string) error{
		"file":      func(path string) error { return os.WriteFile(path, []byte("kept"), 0o600) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			p := place{path: filepath.Join(dir, "link"), target: "/target"}
			if err := put(p.path); err != nil {
				t.Fatal(err)
			}
			before, err := os.Lstat(p.path)
			if err != nil {
				t.Fatal(err)
			}
			temp := beside(p.path)
			if err := os.Symlink(p.target, temp); err != nil {
				t.Fatal(err)
			}
			occupied := (*LinkError)(nil)
			if err := swapLink(temp, p); !errors.As(err, &occupied) || occupied.Reason != LinkOccupied {
				t.Errorf("point: %v", err)
			}
			if err := takeAway(p); err != nil {
				t.Errorf("remove: %v", err)
			}
			after, err := os.Lstat(p.path)
			if err != nil || !os.SameFile(before, after) {
				t.Errorf("it is another: %v", err)
			}
			onlyFile(t, p.path)
		})
	}
	t.Run("link", func(t *testing.T) { // one that says something else now is not ours to remove
		p := place{path: filepath.Join(t.TempDir(), "link"), target: "/target"}
		if err := os.Symlink("/elsewhere", p.path); err != nil {
			t.Fatal(err)
		}
		if err := takeAway(p); err != nil {
			t.Error(err)
		}
		if says, err := os.Readlink(p.path); says != "/elsewhere" {
			t.Errorf("%q, %v", says, err)
		}
		if err := point(p); err != nil {
			t.Error(err)
		}
		if err := remove(p); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(p.path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("it is still there: %v", err)
		}
	})
	t.Run("nothing", func(t *testing.T) {
		p := place{path: filepath.Join(t.TempDir(), "link"), target: "/target"}
		temp := beside(p.path)
		if err := os.Symlink(p.target, temp); err != nil {
			t.Fatal(err)
		}
		if err := swapLink(temp, p); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("got %v", err)
		}
		if err := takeAway(p); err != nil {
			t.Error(err)
		}
	})
}
