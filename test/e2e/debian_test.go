package e2e

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/test/cluster/debian"
)

// loadedImages are Debian's images that the nodes have, one at a time: most runs ask for a few of them, and
// two downloads at once are no faster.
type loadedImages struct {
	sync.Mutex
	seen map[string]error
}

// debian makes images of Debian's packages and loads them into both nodes, when a test first asks; the pod
// then says image: "tulle.test/nginx:1" (Recipe.Ref) and brings its configuration. Where there can be
// none, the test is skipped and says why.
func (e *env) debian(recipes ...debian.Recipe) {
	e.t.Helper()
	e.images.Lock()
	defer e.images.Unlock()
	for _, r := range recipes {
		err, there := e.images.seen[r.Name]
		if !there {
			err = e.loadDebian(r)
			if e.images.seen == nil {
				e.images.seen = map[string]error{}
			}
			e.images.seen[r.Name] = err
		}
		if m, ok := errors.AsType[*debian.MissingError](err); ok {
			e.t.Skip(m)
		} else if err != nil {
			e.t.Fatal(err)
		}
	}
}

func (e *env) loadDebian(r debian.Recipe) error {
	ctx, stop := context.WithTimeout(e.t.Context(), 3*patience) // it downloads and compresses
	defer stop()
	begun := time.Now()
	archive, err := debian.Image(ctx, "", r)
	if err != nil {
		return err
	}
	made := time.Since(begun)
	if err := e.LoadImages(ctx, archive); err != nil {
		return err
	}
	e.t.Logf("image %s: made or found in %.1f s, in both nodes %.1f s later", r.Ref(), made.Seconds(), (time.Since(begun) - made).Seconds())
	return nil
}

// file is one of testdata.
func file(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestDebianNginx runs the image as its package configures it, without a mesh.
func TestDebianNginx(t *testing.T) {
	e := setup(t)
	t.Parallel()
	e.debian(debian.Nginx)
	e.apply(`
apiVersion: v1
kind: Pod
metadata: {name: nginx, labels: {app: nginx}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: nginx, image: "tulle.test/nginx:1", readinessProbe: {periodSeconds: 1, tcpSocket: {port: 80}}}]
`)
	e.rollout("pod/nginx")
	if page := e.get("http://" + e.field("pod/nginx", "{.status.podIP}") + "/index.nginx-debian.html"); len(page) < 100 {
		t.Errorf("the page of Debian's nginx is %q", page)
	}
}
