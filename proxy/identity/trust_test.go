package identity

import (
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/internal/certify"
	"github.com/tulle-mesh/tulle/proxy/identity/identitytest"
)

// A proxy that missed a whole rotation cannot reach the service; what is mounted anew brings it back.
func TestAMountedBundleThatWasReplacedIsReadAgain(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.fake.Fail(errors.New("away"))
		r.start(t)
		r.fake.Rotate()
		r.fake.Withdraw()
		before := r.creds.Get().Bundle.Hash()
		pass(time.Minute)
		if r.creds.Get().Bundle.Hash() != before {
			t.Fatal("it changed without a cause")
		}
		ok(t, r.fake.WriteBundle(r.dir))
		pass(2 * backoffStart)
		if r.creds.Get().Bundle.Hash() == before {
			t.Error("the new bundle was not read")
		}
		r.fake.Fail(nil)
		pass(2 * backoffStart)
		if !r.verifies() {
			t.Errorf("state %+v", r.State())
		}
	})
}

func TestBundlesThatAreRefused(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.start(t)
		before := r.creds.Get().Bundle
		leaf := r.creds.Get().Leaf.Certificate[0]
		good := certify.Bundle{Version: 9, TrustDomain: trustDomain, Roots: [][]byte{rootOf(t, r.dir)}}
		for name, spoil := range map[string]func(*certify.Bundle){
			"no root":               func(b *certify.Bundle) { b.Roots = nil },
			"no certificate":        func(b *certify.Bundle) { b.Roots = [][]byte{{1}} },
			"a leaf as a root":      func(b *certify.Bundle) { b.Roots = [][]byte{leaf} },
			"another trust domain":  func(b *certify.Bundle) { b.TrustDomain = "other.test" },
			"older than what holds": func(b *certify.Bundle) { b.Version = 0 },
		} {
			b := good
			spoil(&b)
			if r.acceptBundle(b) == nil {
				t.Errorf("%s: it was accepted", name)
			}
			if r.creds.Get().Bundle != before {
				t.Errorf("%s: it was taken into force", name)
			}
			if r.State().Trust == nil {
				t.Errorf("%s: the state does not say it", name)
			}
		}
		ok(t, r.acceptBundle(good))
		if r.State().Trust != nil || r.State().TrustVersion != 9 {
			t.Errorf("state %+v", r.State())
		}
	})
}

func rootOf(t *testing.T, dir string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, bundleFile))
	ok(t, err)
	b, _ := pem.Decode(data)
	return b.Bytes
}

func TestTheBundleIsReadFromADirectory(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	ok(t, identitytest.New(trustDomain, nil).WriteBundle(one))
	ok(t, identitytest.New(trustDomain, nil).WriteBundle(two))
	a, err := os.ReadFile(filepath.Join(one, bundleFile))
	ok(t, err)
	b, err := os.ReadFile(filepath.Join(two, bundleFile))
	ok(t, err)

	several := t.TempDir()
	ok(t, os.WriteFile(filepath.Join(several, "a.pem"), a, 0o600))
	ok(t, os.WriteFile(filepath.Join(several, "b.pem"), b[:len(b)-1], 0o600)) // without its line end
	ok(t, os.WriteFile(filepath.Join(several, "README"), []byte("x"), 0o600))
	got, err := readBundle(several)
	ok(t, err)
	if got.Len() != 2 {
		t.Errorf("R10.3: %d roots of two files", got.Len())
	}
	ok(t, os.WriteFile(filepath.Join(several, bundleFile), a, 0o600))
	got, err = readBundle(several)
	ok(t, err)
	if got.Len() != 1 {
		t.Errorf("%d roots, want those of %s alone", got.Len(), bundleFile)
	}
	for name, dir := range map[string]string{"no directory": filepath.Join(one, "x"), "an empty one": t.TempDir()} {
		if _, err := readBundle(dir); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
