package webhook

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

var (
	names = []string{"tulle-injector.tulle.svc", "tulle-injector.tulle"}
	start = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
)

const day = 24 * time.Hour

// stepOnce takes one step and wants what was done.
func stepOnce(t *testing.T, d data, now time.Time, want string) data {
	t.Helper()
	out, did, err := step(d, names, now)
	if err != nil || did != want {
		t.Fatalf("at %v: did %q, %v; want %q", now.Sub(start), did, err, want)
	}
	return out
}

// authorities counts what a bundle trusts.
func authorities(bundle []byte) (n int) {
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		n++
	}
	return n
}

// TestARotationTrustsOldAndNew walks through the life of a Secret: whoever has the bundle of a moment
// accepts the certificates of that moment and of the one before and after (R13.1).
func TestARotationTrustsOldAndNew(t *testing.T) {
	first := stepOnce(t, nil, start, "made")
	stepOnce(t, first, start, "")
	stepOnce(t, first, start.Add(59*day), "")
	at := start.Add(60 * day)
	announced := stepOnce(t, first, at, "began")
	stepOnce(t, announced, at.Add(settle-time.Second), "")
	taken := stepOnce(t, announced, at.Add(settle), "took")
	stepOnce(t, taken, at.Add(day), "")
	if !bytes.Equal(announced[certKey], first[certKey]) || bytes.Equal(taken[certKey], first[certKey]) || taken[nextCert] != nil {
		t.Error("the new certificate was not announced first and used then")
	}
	for when, d := range map[string]data{"announced": announced, "taken": taken} {
		if authorities(d[bundleKey]) != 2 {
			t.Errorf("%s: the bundle has %d authorities, want the old and the new one", when, authorities(d[bundleKey]))
		}
	}
	for name, c := range map[string]struct{ cert, bundle data }{
		"the old certificate while it is announced":  {first, announced},
		"the old certificate after the new is taken": {first, taken},
		"the new certificate with the bundle before": {taken, announced},
		"the new certificate":                        {taken, taken},
	} {
		cert, err := c.cert.certificate(certKey, keyKey)
		if err != nil || !usable(cert, c.bundle[bundleKey], names, at.Add(time.Hour)) {
			t.Errorf("%s is not accepted: %v", name, err)
		}
	}
	next := stepOnce(t, taken, at.Add(61*day), "began")
	if authorities(next[bundleKey]) != 2 {
		t.Errorf("the first authority is still trusted: %d", authorities(next[bundleKey]))
	}
}

func TestWhatCannotBeUsedIsMadeAnew(t *testing.T) {
	good := stepOnce(t, nil, start, "made")
	other := stepOnce(t, nil, start, "made")
	change := func(key string, value []byte) data {
		d := maps.Clone(good)
		d[key] = value
		return d
	}
	for name, d := range map[string]data{
		"nothing":                    {},
		"an empty certificate":       change(certKey, nil),
		"garbage":                    change(certKey, []byte("x")),
		"another's key":              change(keyKey, other[keyKey]),
		"a bundle without it":        change(bundleKey, other[bundleKey]),
		"an empty bundle":            change(bundleKey, nil),
		"a certificate for somebody": func() data { d, _, _ := step(nil, []string{"elsewhere"}, start); return d }(),
	} {
		made, did, err := step(d, names, start.Add(time.Hour))
		if err != nil || did != "made" || authorities(made[bundleKey]) != 1 {
			t.Errorf("%s: did %q, %v", name, did, err)
		}
	}
	// A cluster that slept through everything.
	stepOnce(t, good, start.Add(lifetime+time.Second), "made")
	// What was announced cannot be used: it is announced anew.
	stepOnce(t, change(nextCert, []byte("x")), start.Add(day), "")
	if d := stepOnce(t, change(nextCert, []byte("x")), start.Add(61*day), "began"); authorities(d[bundleKey]) != 2 {
		t.Error("the broken announcement is kept")
	}
}

func TestTheAuthorityCanSignNothingElse(t *testing.T) {
	d := stepOnce(t, nil, start, "made")
	c, err := d.certificate(certKey, keyKey)
	if err != nil {
		t.Fatal(err)
	}
	if c.Leaf.IsCA || len(c.Leaf.ExtKeyUsage) != 1 || c.Leaf.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth {
		t.Errorf("%+v", c.Leaf)
	}
	if len(d) != 3 {
		t.Errorf("the Secret holds %d things; the authority's key must not be one", len(d))
	}
}
