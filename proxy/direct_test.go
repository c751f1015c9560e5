package proxy

import (
	"testing"
	"time"
)

// TestGRPCTimeoutIsReadWhole: a grpc-timeout is honoured, whatever its size (R4.7).
func TestGRPCTimeoutIsReadWhole(t *testing.T) {
	for _, c := range []struct {
		in   string
		want time.Duration
		ok   bool
	}{
		{"1S", time.Second, true},
		{"250m", 250 * time.Millisecond, true},
		{"99999999n", 99999999, true},
		{"7u", 7 * time.Microsecond, true},
		{"2M", 2 * time.Minute, true},
		{"1281023H", 1281023 * time.Hour, true},
		{"1281024H", maxGRPCTimeout, true},
		{"2562048H", maxGRPCTimeout, true}, // the first that no Duration holds
		{"99999999H", maxGRPCTimeout, true},
		{"0S", 1, true},
		{"S", 0, false},
		{"1", 0, false},
		{"1s", 0, false},
		{"-1S", 0, false},
		{"+1S", 0, false},
		{" 1S", 0, false},
		{"1.5S", 0, false},
		{"100000000S", 0, false},
	} {
		if got, ok := grpcTimeout([]byte(c.in)); got != c.want || ok != c.ok {
			t.Errorf("grpcTimeout(%q) = %v, %t; want %v, %t", c.in, got, ok, c.want, c.ok)
		}
	}
}
