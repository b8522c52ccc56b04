package systemd

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.uber.org/zap/zapcore"
)

type pair struct{ key, value string }

// flatten turns fields into text, in their order; those below an object or a
// namespace get its name in front.
func flatten(fields []zapcore.Field) []pair {
	var pairs []pair
	prefix := ""
	for _, f := range fields {
		if f.Type == zapcore.NamespaceType {
			prefix += f.Key + "_"
			continue
		}
		enc := zapcore.NewMapObjectEncoder()
		f.AddTo(enc)
		if v, ok := enc.Fields[f.Key]; ok {
			pairs = appendValue(pairs, prefix+f.Key, v)
			delete(enc.Fields, f.Key)
		}
		for _, k := range sortedKeys(enc.Fields) { // inlined objects, errorVerbose
			pairs = appendValue(pairs, prefix+k, enc.Fields[k])
		}
	}
	return pairs
}

func appendValue(to []pair, key string, v any) []pair {
	if m, ok := v.(map[string]any); ok {
		for _, k := range sortedKeys(m) {
			to = appendValue(to, key+"_"+k, m[k])
		}
		return to
	}
	return append(to, pair{key, valueText(v)})
}

func valueText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	case time.Time:
		return v.Format(time.RFC3339Nano)
	case fmt.Stringer:
		return v.String()
	case error:
		return v.Error()
	case []any:
		if data, err := json.Marshal(v); err == nil {
			return string(data)
		}
	}
	return fmt.Sprint(v)
}

func quoteIfNeeded(s string) string {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool {
		return r == ' ' || r == '"' || r == '=' || !unicode.IsPrint(r)
	}) {
		return strconv.Quote(s)
	}
	return s
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
