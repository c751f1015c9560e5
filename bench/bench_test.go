//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

func TestMedianIsTheMiddleOrBetweenTheTwoInTheMiddle(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{8, 2, 4, 6}, 5}} {
		if got := median(c.in); got != c.want {
			t.Errorf("median of %v: %v, want %v", c.in, got, c.want)
		}
	}
}

func TestQuantilesAreOfSortedTenths(t *testing.T) {
	var s []int32
	for i := range int32(1000) {
		s = append(s, i*10)
	}
	if a, b, c := quantile(s, 0.5), quantile(s, 0.99), quantile(s, 1); a != 500 || b != 990 || c != 999 {
		t.Errorf("got %v, %v, %v", a, b, c)
	}
}

// collect feeds a response in pieces and tells when each answer was whole.
func collect(t *testing.T, o *loadOrders, input []byte, piece int) (answers int, err error) {
	t.Helper()
	o.Rate = 1 // done does not ask on
	g := &generator{orders: o}
	c := &loadConn{g: g, codec: newCodec(o)}
	c.codec.request(c, 0)
	if o.Proto == protoGRPC {
		c.codec.request(c, 0)
	}
	for len(input) > 0 && err == nil {
		n := min(piece, len(input))
		var rest []byte
		rest, err = c.codec.responses(c, append(slices.Clone(c.in), input[:n]...))
		c.keep(rest)
		input = input[n:]
	}
	return g.answered, err
}

// answersOf are what the origin writes for two requests of the generator.
func answersOf(p proto) []byte {
	o := &loadOrders{Proto: p, Body: 256}
	c := &loadConn{g: &generator{orders: o}, codec: newCodec(o)}
	c.codec.begin(c)
	c.codec.request(c, 0)
	c.codec.request(c, 0)
	var s stream
	newServer(listenerOrders{Proto: p, Body: 256}).serve(&s, c.out)
	return s.out
}

func TestTheGeneratorUnderstandsTheOriginInAnyPieces(t *testing.T) {
	for _, p := range []proto{protoHTTP1, protoGRPC, protoTCP} {
		in, want := answersOf(p), 2
		if p == protoTCP {
			in, want = in[:tcpMessage], 1 // it asks one thing at a time
		}
		for _, piece := range []int{1, 7, 100, len(in)} {
			if n, err := collect(t, &loadOrders{Proto: p, Body: 256}, in, piece); n != want || err != nil {
				t.Errorf("%s in pieces of %d: %d answers, %v; want %d", p, piece, n, err, want)
			}
		}
	}
}

func TestTheGeneratorRefusesWrongAnswers(t *testing.T) {
	call := answersOf(protoGRPC)
	for name, c := range map[string]struct {
		proto proto
		in    []byte
	}{
		"status":       {protoHTTP1, []byte("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 256\r\n\r\n")},
		"length":       {protoHTTP1, responseBytes(255)},
		"no length":    {protoHTTP1, []byte("HTTP/1.1 200 OK\r\n\r\n")},
		"other bytes":  {protoTCP, make([]byte, tcpMessage)},
		"too much":     {protoTCP, payload(tcpMessage + 1)},
		"reset":        {protoGRPC, appendFrame(nil, frameReset, 0, 1, []byte{0, 0, 0, 2})},
		"no message":   {protoGRPC, appendFrame(nil, frameHeaders, flagEnd, 1, nil)},
		"other stream": {protoGRPC, bytes.ReplaceAll(call, []byte{0, 0, 0, 1}, []byte{0, 0, 0, 9})},
		"small table":  {protoGRPC, appendFrame(nil, frameSettings, 0, 0, []byte{0, 1, 0, 0, 0, 0})},
	} {
		if n, err := collect(t, &loadOrders{Proto: c.proto, Body: 256}, c.in, 1<<20); err == nil {
			t.Errorf("%s: %d answers and no error", name, n)
		}
	}
}

func TestAConstantRateHasDueTimes(t *testing.T) {
	p := pace{from: 1000, rate: 1e6}
	for i := range int64(5) {
		if got, want := p.next(), 1000+i*1000; got != want {
			t.Errorf("request %d is due at %d, want %d", i, got, want)
		}
		p.sent++
	}
}

func TestRatiosAreToHAProxy(t *testing.T) {
	load := func(cpu, p50 float64) []loadReport {
		return []loadReport{{Requests: 10, Seconds: 1, ProxyCPU: cpu, P50: p50}}
	}
	b := &bench{opts: &options{rounds: 1}}
	text := b.markdown([]row{{kase: cases()[0], results: []*result{
		{contender: "direct", reports: load(0, 100)}, {contender: "tulle", reports: load(10, 150)}, {contender: "haproxy", reports: load(20, 200)},
	}}}, time.Second, time.Unix(0, 0))
	if want := "| tulle | 10.0 (0.50) | 10 | 50 (0.50) |"; !strings.Contains(text, want) {
		t.Errorf("%q is not in:\n%s", want, text)
	}
}

func TestUntilTellsTheLastError(t *testing.T) {
	err := until(context.Background(), time.Millisecond, func() error { return errors.New("refused") })
	if err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v", err)
	}
}

func TestAnUnknownCaseIsToldWhichThereAre(t *testing.T) {
	for _, args := range []string{"nope", "http1,nope"} {
		_, err := parse([]string{"-cases", args}, io.Discard)
		if err == nil || !strings.Contains(err.Error(), `no case "nope"; there are http1, http1-rate`) {
			t.Errorf("-cases %s: %v", args, err)
		}
	}
	if o, err := parse([]string{"-cases", "tcp,idle"}, io.Discard); err != nil || len(o.only) != 2 {
		t.Errorf("two that there are: %+v, %v", o, err)
	}
}
