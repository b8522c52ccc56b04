package replication

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	uuidA = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
	uuidB = "3e11fa47-71ca-11e1-9e33-c80aa9429563"
	uuidC = "c0ffee00-0000-4000-8000-00000000000c"
)

func mustSet(t testing.TB, s string) GTIDSet {
	t.Helper()
	set, err := ParseGTIDSet(s)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestParseGTIDSet(t *testing.T) {
	gaps := func(n int) string {
		var b strings.Builder
		b.WriteString(uuidA)
		for i := range n {
			fmt.Fprintf(&b, ":%d", 2*i+1)
		}
		return b.String()
	}
	for _, tc := range []struct{ name, in, out, err string }{
		{"empty", "", "", ""},
		{"blank", " \r\n\t", "", ""},
		{"one number", uuidA + ":5", uuidA + ":5", ""},
		{"interval of one", uuidA + ":5-5", uuidA + ":5", ""},
		{"intervals", uuidA + ":1-5:7:11-18", uuidA + ":1-5:7:11-18", ""},
		{"as a server prints it", uuidA + ":1-5,\n" + uuidB + ":1", uuidA + ":1-5," + uuidB + ":1", ""},
		{"white space everywhere", " " + uuidA + " : 1 - 5 : 7 ,\n " + uuidB + ":1\n", uuidA + ":1-5:7," + uuidB + ":1", ""},
		{"upper case", strings.ToUpper(uuidA) + ":TAG_1:1", uuidA + ":tag_1:1", ""},
		{"unsorted", uuidB + ":9:1-2," + uuidA + ":1", uuidA + ":1," + uuidB + ":1-2:9", ""},
		{"adjacent", uuidA + ":1-5:6-9", uuidA + ":1-9", ""},
		{"overlapping", uuidA + ":4-9:1-5:2:3", uuidA + ":1-9", ""},
		{"a server twice", uuidA + ":1-3," + uuidB + ":1," + uuidA + ":4", uuidA + ":1-4," + uuidB + ":1", ""},
		{"tag", uuidA + ":tag:1-5", uuidA + ":tag:1-5", ""},
		{"several tags after one UUID", uuidA + ":1-3:b:1:4-5:a:2", uuidA + ":1-3:a:2:b:1:4-5", ""},
		{"a tag twice", uuidA + ":a:1:b:1:a:2", uuidA + ":a:1-2:b:1", ""},
		{"numbers of two tags are two", uuidA + ":1," + uuidA + ":a:1", uuidA + ":1:a:1", ""},
		{"longest tag", uuidA + ":" + strings.Repeat("x", 32) + ":1", uuidA + ":" + strings.Repeat("x", 32) + ":1", ""},
		{"largest", uuidA + ":9223372036854775806", uuidA + ":9223372036854775806", ""},
		{"as many gaps as allowed", gaps(maxIntervals), gaps(maxIntervals), ""},

		{"number 0", uuidA + ":0", "", "0 is not a transaction number"},
		{"from 0", uuidA + ":0-5", "", "0 is not a transaction number"},
		{"too large", uuidA + ":9223372036854775807", "", "is not a transaction number"},
		{"far too large", uuidA + ":18446744073709551616", "", "not a number of 64 bits"},
		{"backwards", uuidA + ":5-1", "", "ends before it begins"},
		{"sign", uuidA + ":+5", "", "not a number"},
		{"three ends", uuidA + ":1-2-3", "", "not a number"},
		{"open end", uuidA + ":1-", "", "not a number"},
		{"UUID alone among others", uuidA + "," + uuidB + ":1", "", "not a number"},
		{"UUID and colon", uuidA + ":", "", "not a number"},
		{"trailing colon", uuidA + ":1:", "", "not a number"},
		{"trailing comma", uuidA + ":1,", "", `"" is not a UUID`},
		{"tag without number", uuidA + ":tag", "", `tag "tag" without a number`},
		{"tag after tag", uuidA + ":a:b:1", "", `tag "a" without a number`},
		{"tag too long", uuidA + ":" + strings.Repeat("x", 33) + ":1", "", "longer than 32"},
		{"tag with a dash", uuidA + ":a-b:1", "", "other characters"},
		{"tag beyond ASCII", uuidA + ":aä:1", "", "other characters"},
		{"short UUID", uuidA[1:] + ":1", "", "is not a UUID"},
		{"UUID without dashes", strings.ReplaceAll(uuidA, "-", "") + ":1", "", "is not a UUID"},
		{"UUID with a wrong digit", "g" + uuidA[1:] + ":1", "", "is not a UUID"},
		{"dashes elsewhere", "3e11fa4-771ca-11e1-9e33-c80aa9429562:1", "", "is not a UUID"},
		{"MariaDB among it", uuidA + ":1,0-1-5", "", "is not a UUID"},
		{"one gap too many", gaps(maxIntervals + 1), "", "more than 16384 intervals"},
		{"endless", uuidA + strings.Repeat(":1", maxPositionLength/2), "", "longer than"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			set, err := ParseGTIDSet(tc.in)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error %v, want one with %q", err, tc.err)
				}
				if len(err.Error()) > 400 {
					t.Errorf("error of %d bytes", len(err.Error()))
				}
				if !set.Empty() {
					t.Errorf("with the error comes %s", set)
				}
				return
			}
			if err != nil || set.String() != tc.out {
				t.Fatalf("%q, %v, want %q", set, err, tc.out)
			}
			if set.Empty() != (tc.out == "") {
				t.Errorf("empty: %v", set.Empty())
			}
		})
	}
}

func TestGTIDSetAlgebra(t *testing.T) {
	for _, tc := range []struct{ name, a, b, minus, both, union string }{
		{"empty", "", "", "", "", ""},
		{"empty and some", "", uuidA + ":1-5", "", "", uuidA + ":1-5"},
		{"some and empty", uuidA + ":1-5", "", uuidA + ":1-5", "", uuidA + ":1-5"},
		{"equal", uuidA + ":1-5:7", uuidA + ":1-5:7", "", uuidA + ":1-5:7", uuidA + ":1-5:7"},
		{"a tail", uuidA + ":1-207", uuidA + ":1-204", uuidA + ":205-207", uuidA + ":1-204", uuidA + ":1-207"},
		{"a head", uuidA + ":1-9", uuidA + ":4-9", uuidA + ":1-3", uuidA + ":4-9", uuidA + ":1-9"},
		{"a hole", uuidA + ":1-9", uuidA + ":4-6", uuidA + ":1-3:7-9", uuidA + ":4-6", uuidA + ":1-9"},
		{"one over several", uuidA + ":1-3:5-6:9", uuidA + ":2-9", uuidA + ":1", uuidA + ":2-3:5-6:9", uuidA + ":1-9"},
		{"several over one", uuidA + ":1-10", uuidA + ":2:4:6-7:10-12", uuidA + ":1:3:5:8-9", uuidA + ":2:4:6-7:10", uuidA + ":1-12"},
		{"adjacent", uuidA + ":1-3:7", uuidA + ":4-6", uuidA + ":1-3:7", "", uuidA + ":1-7"},
		{
			"two servers", uuidA + ":1-5," + uuidB + ":1-3", uuidB + ":2," + uuidC + ":1",
			uuidA + ":1-5," + uuidB + ":1:3", uuidB + ":2", uuidA + ":1-5," + uuidB + ":1-3," + uuidC + ":1",
		},
		{
			"tags are writers of their own", uuidA + ":1-5:a:1-5", uuidA + ":1-3:b:1",
			uuidA + ":4-5:a:1-5", uuidA + ":1-3", uuidA + ":1-5:a:1-5:b:1",
		},
		{
			"up to the last number", uuidA + ":1-9223372036854775806", uuidA + ":1-9223372036854775805",
			uuidA + ":9223372036854775806", uuidA + ":1-9223372036854775805", uuidA + ":1-9223372036854775806",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, b := mustSet(t, tc.a), mustSet(t, tc.b)
			got := []string{a.Subtract(b).String(), a.Intersect(b).String(), a.Union(b).String(), b.Union(a).String()}
			if diff := cmp.Diff([]string{tc.minus, tc.both, tc.union, tc.union}, got); diff != "" {
				t.Error(diff)
			}
			checkLaws(t, a, b)
			if a.String() != tc.a || b.String() != tc.b {
				t.Errorf("changed to %s and %s", a, b)
			}
		})
	}
}

func TestGTIDSetCount(t *testing.T) {
	for text, want := range map[string]uint64{
		"":                                     0,
		uuidA + ":5":                           1,
		uuidA + ":1-5:7:a:1-2," + uuidB + ":1": 9,
		uuidA + ":1-9223372036854775806":       maxNumber,
		uuidA + ":1-9223372036854775806:a:1-2:b:1-2":                   maxNumber + 4,
		uuidA + ":1-9223372036854775806:a:1-9223372036854775806:b:1-9": math.MaxUint64,
	} {
		if got := mustSet(t, text).Count(); got != want {
			t.Errorf("%s counts %d, want %d", text, got, want)
		}
	}
}

// checkLaws holds two sets to what is true of any two.
func checkLaws(t *testing.T, a, b GTIDSet) {
	t.Helper()
	both, union, aOnly, bOnly := a.Intersect(b), a.Union(b), a.Subtract(b), b.Subtract(a)
	for _, set := range []GTIDSet{both, union, aOnly, bOnly} {
		checkCanonical(t, set)
	}
	for law, holds := range map[string]bool{
		"A = (A−B) ∪ (A∩B)":         aOnly.Union(both).Equal(a),
		"(A−B) ∩ B = ∅":             aOnly.Intersect(b).Empty(),
		"A∪B = B∪A":                 union.Equal(b.Union(a)),
		"A∩B = B∩A":                 both.Equal(b.Intersect(a)),
		"A∪B = (A−B) ∪ B":           aOnly.Union(b).Equal(union),
		"A∩B = A − (A−B)":           a.Subtract(aOnly).Equal(both),
		"A∪A = A and A−A = ∅":       a.Union(a).Equal(a) && a.Subtract(a).Empty(),
		"A contains B ⇔ B−A = ∅":    a.Contains(b) == bOnly.Empty(),
		"A contains B ⇔ A∪B = A":    a.Contains(b) == union.Equal(a),
		"A = B ⇔ each contains all": a.Equal(b) == (a.Contains(b) && b.Contains(a)),
		"A = B ⇔ equal texts":       a.Equal(b) == (a.String() == b.String()),
		"missing is the difference": b.Missing(a) == aOnly.Count() && a.Missing(b) == bOnly.Count(),
	} {
		if !holds {
			t.Errorf("%s does not hold for A = %s, B = %s", law, a, b)
		}
	}
	// Sums that do not fit are cut off, and then say nothing.
	if sum := addSaturating(a.Count(), b.Count()); sum < math.MaxUint64 && union.Count() != sum-both.Count() {
		t.Errorf("|A∪B| is %d, |A|+|B|−|A∩B| is %d for A = %s, B = %s", union.Count(), sum-both.Count(), a, b)
	}
}

// checkCanonical requires the one form in which equal sets have equal fields.
func checkCanonical(t *testing.T, s GTIDSet) {
	t.Helper()
	for i, p := range s.parts {
		if i > 0 && s.parts[i-1].writer.compare(p.writer) >= 0 || len(p.spans) == 0 {
			t.Fatalf("%v: writers out of order, or one without numbers", s.parts)
		}
		for j, r := range p.spans {
			if r.first < 1 || r.last < r.first || r.last > maxNumber || j > 0 && r.first <= p.spans[j-1].last+1 {
				t.Fatalf("%v: spans out of order, touching or out of range", s.parts)
			}
		}
	}
	back, err := ParseGTIDSet(s.String())
	if err != nil || !back.Equal(s) {
		t.Fatalf("%s parses back as %s, %v", s, back, err)
	}
}

// model is a set the naive way, every transaction by itself.
type model map[string]bool

// randomSet returns the same transactions as a text and as a model. Numbers are
// few, so that two sets meet.
func randomSet(r *rand.Rand) (string, model) {
	m := model{}
	var elements []string
	for range r.IntN(5) {
		server := []string{uuidA, uuidB, uuidC}[r.IntN(3)]
		tag := []string{"", "", "blue", "red"}[r.IntN(4)]
		element := server
		if tag != "" {
			element += ":" + tag
		}
		for range 1 + r.IntN(4) {
			first := 1 + r.IntN(30)
			last := first + r.IntN(8)
			element += fmt.Sprintf(":%d-%d", first, last)
			for n := first; n <= last; n++ {
				m[fmt.Sprintf("%s:%s:%d", server, tag, n)] = true
			}
		}
		elements = append(elements, element)
	}
	return strings.Join(elements, ","), m
}

// members lists a set the naive way.
func members(s GTIDSet) model {
	m := model{}
	for _, p := range s.parts {
		for _, r := range p.spans {
			for n := r.first; n <= r.last; n++ {
				m[fmt.Sprintf("%s:%s:%d", p.writer.server, p.writer.tag, n)] = true
			}
		}
	}
	return m
}

func (m model) where(keep func(string) bool) model {
	kept := model{}
	for id := range m {
		if keep(id) {
			kept[id] = true
		}
	}
	return kept
}

// A property: sets do what lists of every single transaction do.
func TestGTIDSetAgainstNaiveModel(t *testing.T) {
	contained := 0
	for seed := range uint64(4000) {
		r := rand.New(rand.NewPCG(seed, 7))
		textA, modelA := randomSet(r)
		textB, modelB := randomSet(r)
		a, b := mustSet(t, textA), mustSet(t, textB)
		union := modelA.where(func(string) bool { return true })
		for id := range modelB {
			union[id] = true
		}
		got := []model{members(a), members(a.Subtract(b)), members(a.Intersect(b)), members(a.Union(b))}
		want := []model{
			modelA,
			modelA.where(func(id string) bool { return !modelB[id] }),
			modelA.where(func(id string) bool { return modelB[id] }),
			union,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("seed %d: A = %s, B = %s: %s", seed, a, b, diff)
		}
		if n := b.Missing(a); n != uint64(len(want[1])) {
			t.Fatalf("seed %d: %d missing, want %d", seed, n, len(want[1]))
		}
		if got := b.Contains(a); got != (len(want[1]) == 0) {
			t.Fatalf("seed %d: contains %v", seed, got)
		} else if got {
			contained++
		}
		checkLaws(t, a, b)
	}
	if contained < 100 {
		t.Errorf("only %d times did one contain the other: the test shows little", contained)
	}
}

func FuzzGTIDSet(f *testing.F) {
	for _, s := range []string{
		"", uuidA + ":1-5", uuidA + ":1-5:7,\n" + uuidB + ":1", uuidA + ":1:tag:1-3:5:other:2-4", strings.ToUpper(uuidA) + ":9-9223372036854775806",
		uuidA + ":0", uuidA + ":5-1", "0-1-100", uuidA + ":3:1:2," + uuidA + ":2-8", uuidC + " : t : 4 - 6",
	} {
		f.Add(s, uuidA+":2-3:6:tag:2,"+uuidC+":5")
	}
	f.Fuzz(func(t *testing.T, textA, textB string) {
		a, errA := ParseGTIDSet(textA)
		b, errB := ParseGTIDSet(textB)
		if errA == nil {
			checkCanonical(t, a)
		}
		if errA != nil || errB != nil || len(textA)+len(textB) > maxPositionLength/4 {
			return // the text of a union must parse back
		}
		checkLaws(t, a, b)
	})
}

func BenchmarkGTIDSetMissing(b *testing.B) {
	ours := mustSet(b, uuidA+":1-1000:1002-123456:123458,"+uuidB+":1-77")
	theirs := mustSet(b, uuidA+":1-123460,"+uuidB+":1-99")
	b.ReportAllocs()
	for b.Loop() {
		if ours.Missing(theirs) != 26 {
			b.Fatal(ours.Missing(theirs))
		}
	}
}
