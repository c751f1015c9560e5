package kube

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/tulle-mesh/tulle/identity"
)

// pass lets d go by, and everything that is due happen.
func pass(d time.Duration) {
	time.Sleep(d) //house:sleep its callers are in a bubble, whose clock it moves
	synctest.Wait()
}

// member is one replica of a service.
type member struct {
	*Replicas

	leads   atomic.Bool
	watches atomic.Pointer[identity.Heard]
	leave   func()
}

func join(t *testing.T, c *fake.Clientset, name string, meshed int) *member {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	m := &member{Replicas: NewReplicas(ctx, ReplicasConfig{
		Client: c, Namespace: "tulle", Name: name, Meshed: func() int { return meshed },
	})}
	m.watches.Store(&identity.Heard{})
	var wg sync.WaitGroup
	wg.Go(func() {
		m.Lead(ctx, func(ctx context.Context) {
			m.leads.Store(true)
			<-ctx.Done()
			m.leads.Store(false)
		})
	})
	wg.Go(func() { m.Publish(ctx, func() identity.Heard { return *m.watches.Load() }) })
	m.leave = func() { cancel(); wg.Wait() }
	t.Cleanup(m.leave)
	pass(5 * time.Second)
	return m
}

func TestOneReplicaLeadsAndTheNextTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := apiServer()
		a, b := join(t, c, "a", 0), join(t, c, "b", 0)
		if !a.leads.Load() || b.leads.Load() {
			t.Fatalf("a leads: %v, b leads: %v", a.leads.Load(), b.leads.Load())
		}
		a.leave()
		pass(5 * time.Second) // it was let go, so nobody waits for it to run out
		if a.leads.Load() || !b.leads.Load() {
			t.Errorf("after a left, a leads: %v, b leads: %v", a.leads.Load(), b.leads.Load())
		}
	})
}

// R10.3: that every proxy has a version is known when every replica says so of its watchers, and
// together they have all.
func TestAVersionIsEverywhereWhenAllReplicasSaySo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := apiServer()
		a, b := join(t, c, "a", 5), join(t, c, "b", 5)
		for _, step := range []struct {
			what string
			a, b identity.Heard
			want bool
		}{
			{"all have it", identity.Heard{Watchers: 2, Lowest: 7}, identity.Heard{Watchers: 3, Lowest: 8}, true},
			{"one of b's has not", identity.Heard{Watchers: 2, Lowest: 7}, identity.Heard{Watchers: 3, Lowest: 6}, false},
			{"one is not heard of", identity.Heard{Watchers: 2, Lowest: 7}, identity.Heard{Watchers: 2, Lowest: 7}, false},
			{"b has none", identity.Heard{Watchers: 5, Lowest: 7}, identity.Heard{}, true},
		} {
			a.watches.Store(&step.a)
			b.watches.Store(&step.b)
			pass(publishLook + time.Second)
			if got := a.AllOn(7); got != step.want {
				t.Errorf("%s: %v", step.what, got)
			}
		}
		old := &Replicas{cfg: ReplicasConfig{Client: c, Namespace: "tulle", Name: "old"}}
		ok(t, old.publish(t.Context(), standing{Replica: "old", At: time.Now().Add(-2 * forgetAfter)}))
		a.watches.Store(&identity.Heard{Watchers: 1, Lowest: 9})
		pass(publishLook + time.Second)
		lease, err := a.lease(t.Context())
		ok(t, err)
		if all := standings(lease); len(all) != 2 || all[old.annotation()].Replica != "" {
			t.Errorf("a replica that left long ago is remembered: %v", all)
		}
	})
}

func TestTheBundleIsWhereItIsNeeded(t *testing.T) { // R10.3
	synctest.Test(t, func(t *testing.T) {
		c := apiServer()
		var mu sync.Mutex // guards the rest
		pem, wanted, changed := "one", map[string]bool{"shop": true}, make(chan struct{})
		news := make(chan struct{}, 1)
		b := NewBundles(BundlesConfig{
			Client: c, Namespace: "tulle", News: news,
			PEM:     func() []byte { mu.Lock(); defer mu.Unlock(); return []byte(pem) },
			Changed: func() <-chan struct{} { mu.Lock(); defer mu.Unlock(); return changed },
			Namespaces: func() map[string]bool {
				mu.Lock()
				defer mu.Unlock()
				return maps.Clone(wanted)
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); b.Run(ctx) }() // ends with ctx
		want := func(what, data string, namespaces ...string) {
			t.Helper()
			pass(time.Second)
			all, err := c.CoreV1().ConfigMaps(metav1.NamespaceAll).List(t.Context(), metav1.ListOptions{})
			ok(t, err)
			var in []string
			for _, m := range all.Items {
				if m.Name == BundleConfigMap && m.Data[BundleKey] == data && m.Labels[managedLabel] == ManagedBy {
					in = append(in, m.Namespace)
				}
			}
			slices.Sort(in)
			if !slices.Equal(in, namespaces) {
				t.Errorf("%s: in %v, want %v", what, in, namespaces)
			}
		}
		want("at the start", "one", "shop", "tulle")
		mu.Lock()
		wanted["other"] = true
		mu.Unlock()
		news <- struct{}{}
		want("another namespace", "one", "other", "shop", "tulle")
		mu.Lock()
		pem = "two"
		close(changed)
		changed = make(chan struct{})
		mu.Unlock()
		want("another bundle", "two", "other", "shop", "tulle")
		ok(t, c.CoreV1().ConfigMaps("shop").Delete(t.Context(), BundleConfigMap, metav1.DeleteOptions{}))
		want("one was deleted", "two", "other", "shop", "tulle")
		_, err := c.CoreV1().ConfigMaps("other").Update(t.Context(), &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: BundleConfigMap, Namespace: "other"}, Data: map[string]string{BundleKey: "mallory"},
		}, metav1.UpdateOptions{})
		ok(t, err)
		want("one was changed", "two", "other", "shop", "tulle")
		_, err = c.CoreV1().ConfigMaps("foreign").Create(t.Context(), &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: BundleConfigMap, Namespace: "foreign"},
		}, metav1.CreateOptions{})
		ok(t, err)
		mu.Lock()
		delete(wanted, "other")
		mu.Unlock()
		news <- struct{}{}
		want("one is not needed, by a pod that starts perhaps", "two", "other", "shop", "tulle")
		pass(unneeded / 2)
		mu.Lock()
		wanted["other"] = true
		mu.Unlock()
		news <- struct{}{}
		pass(time.Second)
		mu.Lock()
		delete(wanted, "other")
		mu.Unlock()
		news <- struct{}{}
		pass(unneeded / 2)
		want("and was needed in between", "two", "other", "shop", "tulle")
		pass(unneeded / 2)
		want("one has not been needed for long", "two", "shop", "tulle")
		_, err = c.CoreV1().ConfigMaps("foreign").Get(t.Context(), BundleConfigMap, metav1.GetOptions{})
		ok(t, err) // somebody else's
		cancel()
		<-ended
	})
}
