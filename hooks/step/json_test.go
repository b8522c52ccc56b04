package step

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/hooks"
)

// relationship is the file by which Compass tells its hosts apart.
const relationship = `{"primary":{"master":true,"host_ip":"192.168.1.4","company_list":{"1":{"mysql_host":"d1-33150","mysql_port":33150}}},` +
	`"reserve":{"master":false,"host_ip":"192.168.1.5","company_list":{"1":{"mysql_host":"d1-33150","mysql_port":33150}}}}`

func lit(key, value string) hooks.JSONKey { return hooks.JSONKey{Key: key, Value: value} }
func str(key, value string) hooks.JSONKey { return hooks.JSONKey{Key: key, Value: value, Text: true} }

func TestSetJSON(t *testing.T) {
	const odd = "{ \"z\" : 1.0,\"a\":1e5 ,\n\t\"big\":123456789012345678901234567890, \"k\" : \"old\" ,\r\n \"esc\":\"\\u0041\\/\\ud800\",\"list\":[1,{\"k\":1}] ,\"z\":-0 }\n\n"
	tests := []struct {
		name, src string
		set       []hooks.JSONKey
		old, new  string // what changes
	}{
		{"odd-form", odd, []hooks.JSONKey{str("k", "new")}, `"old"`, `"new"`},
		{"compass", relationship, []hooks.JSONKey{lit("primary.master", "false")}, `"primary":{"master":true`, `"primary":{"master":false`},
		{"number-as-written", odd, []hooks.JSONKey{lit("a", "1.50E+3")}, "1e5", "1.50E+3"},
		{"text-to-number", `{"a":"1"}`, []hooks.JSONKey{lit("a", "1")}, `"1"`, `1`},
		{"number-to-text", `{"a":1}`, []hooks.JSONKey{str("a", "1")}, `1`, `"1"`},
		{"to-null", `{"a":true}`, []hooks.JSONKey{lit("a", "null")}, `true`, `null`},
		{"quotes-and-controls", `{"a":""}`, []hooks.JSONKey{str("a", "<&>\"\\\n\u2028é")}, `""`, `"<&>\"\\\n\u2028é"`},
		{"key-with-escapes", `{"\u0061\u0022":7}`, []hooks.JSONKey{lit(`a"`, "2")}, `7`, `2`},
		{"key-with-dot", `{"srv1.example":{"m":1},"srv1":{"example":{"m":3}}}`, []hooks.JSONKey{lit(`srv1\.example.m`, "2")}, `{"m":1}`, `{"m":2}`},
		{"empty-key", `{"a":{"":1}}`, []hooks.JSONKey{lit("a.", "2")}, `1`, `2`},
		{"same-key-in-array", `{"l":[{"k":1}],"k":1}`, []hooks.JSONKey{lit("k", "2")}, `,"k":1`, `,"k":2`},
		{"same-key-deeper", `{"o":{"k":1},"k":1}`, []hooks.JSONKey{lit("k", "2")}, `,"k":1`, `,"k":2`},
		{"duplicate-elsewhere", `{"x":1,"x":2,"k":1,"o":{"k":0,"k":0}}`, []hooks.JSONKey{lit("k", "2")}, `"k":1`, `"k":2`},
		{"byte-order-mark", "\ufeff{\"k\":1}", []hooks.JSONKey{lit("k", "2")}, `1`, `2`},
		{"no-newline", `{"k":1}`, []hooks.JSONKey{lit("k", "2")}, `1`, `2`},
		{"add-tight", `{"a":1}`, []hooks.JSONKey{lit("b", "2")}, `1}`, `1,"b":2}`},
		{"add-spaced", `{"a": 1}`, []hooks.JSONKey{lit("b", "2")}, `1}`, `1, "b": 2}`},
		{"add-spaced-list", `{ "a":1 , "b":2 }`, []hooks.JSONKey{lit("c", "3")}, `2 }`, `2, "c":3 }`},
		{"add-lines", "{\n  \"a\": 1,\n  \"b\": [1,\n 2]\n}\n", []hooks.JSONKey{lit("c", "3")}, "2]\n", "2],\n  \"c\": 3\n"},
		{"add-one-line", "{\r\n\t\"a\" : 1\r\n}", []hooks.JSONKey{lit("b", "2")}, "1\r\n", "1,\r\n\t\"b\" : 2\r\n"},
		{"add-to-empty", `{"reserve":{}}`, []hooks.JSONKey{lit("reserve.master", "true")}, `{}`, `{"master":true}`},
		{"add-to-empty-with-blanks", `{"reserve": { }}`, []hooks.JSONKey{lit("reserve.master", "true")}, `{ }`, `{"master": true }`},
		{"add-to-empty-file", `{}`, []hooks.JSONKey{str("a", "b")}, `{}`, `{"a": "b"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if strings.Count(tt.src, tt.old) != 1 {
				t.Fatalf("the test names no single place: %q", tt.old)
			}
			want := strings.Replace(tt.src, tt.old, tt.new, 1)
			got, err := setJSON([]byte(tt.src), tt.set)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, string(got)); diff != "" {
				t.Error(diff)
			}
			again, err := setJSON(got, tt.set)
			if err != nil || !bytes.Equal(again, got) {
				t.Errorf("a second time: %q, %v", again, err)
			}
		})
	}
}

func TestSetJSONSeveralKeys(t *testing.T) {
	set := []hooks.JSONKey{lit("reserve.master", "true"), lit("primary.master", "false"), str("primary.since", "x")}
	got, err := setJSON([]byte(relationship), set)
	if err != nil {
		t.Fatal(err)
	}
	var before, after map[string]map[string]any
	if err := errors.Join(json.Unmarshal([]byte(relationship), &before), json.Unmarshal(got, &after)); err != nil {
		t.Fatal(err)
	}
	before["reserve"]["master"], before["primary"]["master"], before["primary"]["since"] = true, false, "x"
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error(diff)
	}
}

func TestSetJSONRefuses(t *testing.T) {
	tests := []struct {
		name, src string
		set       []hooks.JSONKey
		reason    Reason
		line      int
	}{
		{"empty", "", nil, ReasonMissing, 0},
		{"blanks", " \n", nil, ReasonMissing, 0},
		{"cut-off", "{\n\"k\": tr", nil, ReasonSyntax, 2},
		{"comment", "{\n// c\n\"k\": 1}", nil, ReasonSyntax, 2},
		{"trailing-comma", "{\"k\": 1,\n}", nil, ReasonSyntax, 2},
		{"two-values", "{\"k\": 1}\n{\"k\": 1}", nil, ReasonSyntax, 2},
		{"leading-zero", "{\"k\": 1,\n\"n\": 01}", nil, ReasonSyntax, 2},
		{"bare-minus", "{\"k\": -}", nil, ReasonSyntax, 1},
		{"no-fraction", "{\"k\": 1.}", nil, ReasonSyntax, 1},
		{"no-exponent", "{\"k\": 1e+}", nil, ReasonSyntax, 1},
		{"tab-in-text", "{\"k\": \"\t\"}", nil, ReasonSyntax, 1},
		{"wrong-escape", `{"k": "\x41"}`, nil, ReasonSyntax, 1},
		{"open-text", `{"k": "\`, nil, ReasonSyntax, 1},
		{"single-quotes", `{'k': 1}`, nil, ReasonSyntax, 1},
		{"no-colon", `{"k" 1}`, nil, ReasonSyntax, 1},
		{"open-array", `{"k": [1`, nil, ReasonSyntax, 1},
		{"nan", `{"k": NaN}`, nil, ReasonSyntax, 1},
		{"too-deep", strings.Repeat("[", jsonDepth+1), nil, ReasonSyntax, 1},
		{"not-utf8", "{\"k\":\n\"\xff\"}", nil, ReasonEncoding, 2},
		{"utf16", "\xff\xfe{\x00}\x00", nil, ReasonEncoding, 1},
		{"duplicate", "{\"k\": 1,\n\"k\": 2}", nil, ReasonDuplicate, 2},
		{"duplicate-in-disguise", "{\"k\": 1,\n\"\\u006b\": 2}", nil, ReasonDuplicate, 2},
		{"duplicate-parent", "{\"o\": {\"k\": 1},\n\"o\": {}}", []hooks.JSONKey{lit("o.k", "2")}, ReasonDuplicate, 2},
		{"value-is-object", "{\n\"k\": {}}", nil, ReasonNotScalar, 2},
		{"value-is-array", "{\n\"k\": []}", nil, ReasonNotScalar, 2},
		{"missing-parent", "{\"a\":\n{}}", []hooks.JSONKey{lit("a.b.c", "1")}, ReasonMissing, 2},
		{"parent-is-text", "{\"a\":\n\"\"}", []hooks.JSONKey{lit("a.b", "1")}, ReasonNotMapping, 2},
		{"parent-is-null", "{\"a\":\nnull}", []hooks.JSONKey{lit("a.b", "1")}, ReasonNotMapping, 2},
		{"parent-is-array", "{\"a\":\n[1]}", []hooks.JSONKey{lit("a.0", "1")}, ReasonNotMapping, 2},
		{"root-is-array", "[1]", nil, ReasonNotMapping, 1},
		{"root-is-text", `"k"`, nil, ReasonNotMapping, 1},
		{"same-key-twice", `{"k":1}`, []hooks.JSONKey{lit("k", "true"), lit("k", "false")}, ReasonOverlap, 0},
		{"through-another", `{"k":1}`, []hooks.JSONKey{lit("k.a", "true"), lit("k", "false")}, ReasonOverlap, 0},
		{"value-not-utf8", `{"k":1}`, []hooks.JSONKey{str("k", "\xff")}, ReasonValue, 0},
		{"value-no-json", `{"k":1}`, []hooks.JSONKey{lit("k", "01")}, ReasonValue, 0},
		{"value-an-object", `{"k":1}`, []hooks.JSONKey{lit("k", `{}`)}, ReasonValue, 0},
		{"new-key-not-utf8", `{"k":1}`, []hooks.JSONKey{lit("\xff", "1")}, ReasonValue, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			set := tt.set
			if set == nil {
				set = []hooks.JSONKey{lit("k", "5")}
			}
			out, err := setJSON([]byte(tt.src), set)
			got := (*Refusal)(nil)
			if !errors.As(err, &got) {
				t.Fatalf("got %q, %v", out, err)
			}
			if got.Reason != tt.reason || got.Line != tt.line {
				t.Errorf("got %v on line %d (%s), want %v on line %d", got.Reason, got.Line, got.Detail, tt.reason, tt.line)
			}
		})
	}
}

func TestJSONStep(t *testing.T) {
	path := writeFile(t, "relationship.json", relationship)
	s := NewJSON(hooks.JSON{File: path, Set: []hooks.JSONKey{lit("reserve.master", "true"), lit("primary.master", "false")}})
	wantState(t, s, WouldChange)
	apply(t, s, time.Minute)
	wantState(t, s, Ok)
	want := strings.NewReplacer(`"master":true`, `"master":false`, `"master":false`, `"master":true`).Replace(relationship)
	if data, err := os.ReadFile(path); err != nil || string(data) != want {
		t.Errorf("got %s, %v", data, err)
	}
	for key, want := range map[string]string{"reserve.master": "true", "primary.host_ip": "192.168.1.4"} {
		if got, err := ReadJSON(path, key); got != want || err != nil {
			t.Errorf("%s reads %q, %v", key, got, err)
		}
	}
	if _, err := ReadJSON(path, "reserve.other"); err == nil {
		t.Error("a key that is not there was read")
	}
	err := NewJSON(hooks.JSON{File: path, Set: []hooks.JSONKey{lit("third.master", "true")}}).Apply(t.Context())
	if err == nil || err.Error() != "set third.master in "+path+":1: is missing (third)" {
		t.Errorf("got %v", err)
	}
}

// FuzzSetJSON: an edit is refused or reads as asked, with everything else as it was to
// the byte, and is made of what encoding/json takes for JSON as well.
func FuzzSetJSON(f *testing.F) {
	for _, src := range []string{
		relationship, `{"a":1}`, `{"a":{"b":"x"},"c":[1,2]}`, "{\n \"a\" : 1.0 ,\r\n \"a\":2}", `{"a":"\ud800"}`, "[]", "\ufeff{}", `{"a":{}}`, `{"":0}`, "1e5", `{"\u0061":null}`,
	} {
		f.Add(src, "a", "x", true)
		f.Add(src, "a.b", "1.0", false)
		f.Add(src, `\.`, "null", false)
	}
	f.Fuzz(func(t *testing.T, src, key, value string, asText bool) {
		_, err := scanJSON([]byte(src))
		if valid := json.Valid([]byte(src)) && strings.ToValidUTF8(src, "") == src; valid != (err == nil) {
			t.Fatalf("%q: encoding/json says %v, the scanner %v", src, valid, err)
		}
		set := []hooks.JSONKey{{Key: key, Value: value, Text: asText}}
		out, err := setJSON([]byte(src), set)
		if err != nil {
			if r := (*Refusal)(nil); !errors.As(err, &r) || r.Reason == ReasonUnverified {
				t.Fatalf("an error without a reason: %v", err)
			}
			return
		}
		if again, err := setJSON(out, set); err != nil || !bytes.Equal(again, out) {
			t.Fatalf("%q became %q, and then %q, %v", src, out, again, err)
		}
		prefix, suffix := common(src, string(out))
		body := []byte(strings.TrimPrefix(src, "\ufeff"))
		root, err := scanJSON(body)
		if err != nil {
			t.Fatal(err)
		}
		m, err := locateJSON(body, root, hooks.SplitKey(key))
		if err != nil {
			t.Fatal(err)
		}
		old := 0
		if m.value != nil {
			old = m.value.end - m.value.start
		}
		if gone := len(src) - prefix - suffix; gone > old {
			t.Fatalf("%q became %q: more than the value went", src, out)
		}
	})
}
