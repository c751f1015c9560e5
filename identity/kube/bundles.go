package kube

import (
	"context"
	"maps"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/tulle-mesh/tulle/internal/logkey"
)

// BundlesConfig is what Bundles is made of.
type BundlesConfig struct {
	Client    kubernetes.Interface
	Namespace string // the control plane's, which always has the bundle
	// PEM is the bundle, Changed a channel that is closed when it is no more.
	PEM     func() []byte
	Changed func() <-chan struct{}
	// Namespaces are those that have meshed pods or ask for them; News has a value when they may differ.
	Namespaces func() map[string]bool
	News       <-chan struct{}
	Log        *zap.Logger // nil is silent
}

// Bundles keeps ConfigMap tulle-trust-bundle in the namespaces that need it, and takes it out of those that have not
// needed it for a while: a pod that is about to start may mount it. Its label says whose it is.
type Bundles struct {
	cfg BundlesConfig
}

// NewBundles returns Bundles that do nothing before Run.
func NewBundles(cfg BundlesConfig) *Bundles {
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	return &Bundles{cfg: cfg}
}

// Times of a look at all namespaces.
const (
	gather      = 50 * time.Millisecond // changes come in bursts
	retryBundle = 10 * time.Second
	// unneeded is how long a namespace keeps a bundle that none of its pods has: longer than an admission request and the
	// creation of its pod take together, by far.
	unneeded = 10 * time.Minute
)

// Run writes until ctx ends. One replica does it.
func (b *Bundles) Run(ctx context.Context) {
	there := &bundles{data: make(map[string]string), own: make(map[string]bool), changed: make(chan struct{}, 1)}
	silent := klog.New(nil)
	ctx = klog.NewContext(ctx, silent)
	r := cache.NewReflectorWithOptions(b.lists(), &corev1.ConfigMap{}, there, cache.ReflectorOptions{Name: BundleConfigMap, Logger: &silent})
	var wg sync.WaitGroup
	wg.Go(func() { r.RunWithContext(ctx) }) // owned by Run, ends with ctx
	defer wg.Wait()
	failed, idle := make(map[string]string), make(map[string]time.Time)
	for ctx.Err() == nil {
		changed := b.cfg.Changed()
		var retry <-chan time.Time
		wait, whole := b.tidy(ctx, there, idle)
		if !b.write(ctx, there, failed) || !whole {
			wait = retryBundle
		}
		if wait > 0 {
			retry = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-there.changed:
		case <-b.cfg.News:
		case <-retry:
		}
		select {
		case <-ctx.Done():
		case <-time.After(gather):
		}
	}
}

// lists reads the ConfigMaps of this name alone.
func (b *Bundles) lists() cache.ListerWatcher {
	all := b.cfg.Client.CoreV1().ConfigMaps(metav1.NamespaceAll)
	one := fields.OneTermEqualSelector("metadata.name", BundleConfigMap).String()
	return cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = one
			return all.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = one
			return all.Watch(ctx, o)
		},
	}, b.cfg.Client)
}

// write brings every namespace that differs up to date; false when some could not be. failed is what
// was logged, by namespace.
func (b *Bundles) write(ctx context.Context, there *bundles, failed map[string]string) bool {
	pem := string(b.cfg.PEM())
	wanted := b.cfg.Namespaces()
	wanted[b.cfg.Namespace] = true
	whole := true
	for ns := range wanted {
		data, ok := there.get(ns)
		if ok && data == pem {
			continue
		}
		err := b.put(ctx, ns, pem, ok)
		if apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			continue // the namespace is gone, or going
		}
		why := ""
		if err != nil {
			whole, why = false, err.Error()
		}
		if why != failed[ns] && why != "" {
			b.cfg.Log.Error("the trust bundle could not be written", zap.String(logkey.Namespace, ns), zap.Error(err))
		}
		failed[ns] = why
	}
	return whole
}

// tidy deletes bundles that nobody has needed for a while. idle is since when, by namespace; wait is until one more is
// due, zero for never. whole is false when one could not be deleted.
func (b *Bundles) tidy(ctx context.Context, there *bundles, idle map[string]time.Time) (wait time.Duration, whole bool) {
	wanted := b.cfg.Namespaces()
	wanted[b.cfg.Namespace] = true
	now, whole := time.Now(), true
	held := there.ours()
	for ns := range idle {
		if wanted[ns] || !held[ns] {
			delete(idle, ns)
		}
	}
	for ns, own := range held {
		if wanted[ns] || !own {
			continue
		}
		since, known := idle[ns]
		if !known {
			since = now
			idle[ns] = since
		}
		left := unneeded - now.Sub(since)
		if left > 0 {
			if wait == 0 || left < wait {
				wait = left
			}
			continue
		}
		call, cancel := context.WithTimeout(ctx, callTime)
		err := b.cfg.Client.CoreV1().ConfigMaps(ns).Delete(call, BundleConfigMap, metav1.DeleteOptions{})
		cancel()
		if err != nil && !apierrors.IsNotFound(err) {
			whole = false
			b.cfg.Log.Error("a trust bundle that nobody needs could not be deleted", zap.String(logkey.Namespace, ns), zap.Error(err))
			continue
		}
		delete(idle, ns)
	}
	return wait, whole
}

func (b *Bundles) put(ctx context.Context, ns, pem string, update bool) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	api := b.cfg.Client.CoreV1().ConfigMaps(ns)
	o := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: BundleConfigMap, Namespace: ns, Labels: labels()},
		Data:       map[string]string{BundleKey: pem},
	}
	if !update {
		_, err := api.Create(ctx, o, metav1.CreateOptions{})
		if !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	_, err := api.Update(ctx, o, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) && update {
		_, err = api.Create(ctx, o, metav1.CreateOptions{})
	}
	return err
}

// bundles is what namespaces hold, as the API server tells it: the store of a reflector.
type bundles struct {
	changed chan struct{} // holds a token when there is news

	mu   sync.Mutex // guards the rest
	data map[string]string
	own  map[string]bool // namespaces whose bundle has our label
}

// ours are the namespaces that hold a bundle of ours.
func (b *bundles) ours() map[string]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.own)
}

func (b *bundles) get(ns string) (string, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d, ok := b.data[ns]
	return d, ok
}

func (b *bundles) news() {
	select {
	case b.changed <- struct{}{}:
	default: // it is known that there is
	}
}

// Add implements cache.ReflectorStore.
func (b *bundles) Add(obj any) error {
	if o, ok := obj.(*corev1.ConfigMap); ok && o.Name == BundleConfigMap {
		b.mu.Lock()
		b.data[o.Namespace] = o.Data[BundleKey]
		b.own[o.Namespace] = o.Labels[managedLabel] == ManagedBy
		b.mu.Unlock()
		b.news()
	}
	return nil
}

// Update implements cache.ReflectorStore.
func (b *bundles) Update(obj any) error { return b.Add(obj) }

// Delete implements cache.ReflectorStore.
func (b *bundles) Delete(obj any) error {
	if o, ok := obj.(*corev1.ConfigMap); ok && o.Name == BundleConfigMap {
		b.mu.Lock()
		delete(b.data, o.Namespace)
		delete(b.own, o.Namespace)
		b.mu.Unlock()
		b.news()
	}
	return nil
}

// Replace implements cache.ReflectorStore.
func (b *bundles) Replace(objs []any, _ string) error {
	b.mu.Lock()
	clear(b.data)
	clear(b.own)
	b.mu.Unlock()
	for _, o := range objs {
		if err := b.Add(o); err != nil {
			return err
		}
	}
	b.news()
	return nil
}

// Resync implements cache.ReflectorStore.
func (*bundles) Resync() error { return nil }
