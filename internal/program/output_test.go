package program

import (
	"bytes"
	"fmt"
	"testing"
)

func TestOutputKeepsHeadAndTail(t *testing.T) {
	var whole []byte
	for i := range 40000 {
		whole = fmt.Appendf(whole, "%05d,", i)
	}
	for _, size := range []int{1, 7, 4096, half, half + 1, 3 * half, len(whole)} {
		for _, total := range []int{0, 10, half, half + 5, 2 * half, 2*half + 1, 3*half + 17, len(whole)} {
			c := new(Output)
			for rest := whole[:total]; len(rest) > 0; {
				n, _ := c.Write(rest[:min(size, len(rest))])
				rest = rest[n:]
			}
			want := whole[:total]
			if total > 2*half {
				want = fmt.Appendf(bytes.Clone(whole[:half]), "\n[%d bytes left out]\n%s", total-2*half, whole[total-half:total])
			}
			if !bytes.Equal(c.Bytes(), want) {
				t.Errorf("%d bytes in writes of %d", total, size)
			}
		}
	}
}
