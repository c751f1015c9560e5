package reflect

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/tulle-mesh/tulle/controller/state"
	"github.com/tulle-mesh/tulle/controller/status"
)

// source is what the Reflector knows of a kind.
type source interface {
	audited
	run(ctx context.Context)
	apply(x *state.Tx)
	stand() standing
	reports() []status.Report
}

// audited is what an audit knows of a kind.
type audited interface {
	fmt.Stringer
	compare(ctx context.Context, namespace string) (difference, error)
	persists(d difference) []string
	restart()
}

// standing is how far a kind is.
type standing struct {
	objects int
	waiting int  // changes that are not applied yet
	read    bool // listed once, or there is no such kind
	absent  bool // the API server does not have the kind
	err     error
}

// spec is what is particular to a kind of object, *O, and the row, *R, that is made of it.
type spec[O, R any] struct {
	name    string // as manifests call it
	plural  string
	example runtime.Object
	// optional kinds are those of custom resources.
	optional bool
	lists    lister
	decode   func(obj any) (*O, error) // nil where objects come as *O
	convert  func(*O) (*R, []status.Problem)
	put      func(*state.Tx, *R) *R // returns the row to hold
	remove   func(*state.Tx, state.Name)
	adopt    func(was, now *R) // gives a new row what put adds to rows; may be nil
}

// kind holds the rows of one kind of object. It is the store that a client-go reflector writes to.
type kind[O, R any] struct {
	spec[O, R]

	poke   func() // something is pending, or to be told
	errors func() // counts

	mu      sync.Mutex // guards the rest
	held    map[string]held[R]
	pending map[string]bool
	stood   standing
	cancel  context.CancelFunc // ends the reflector that runs
}

// held is what is known of an object.
type held[R any] struct {
	version  string
	row      *R // nil for one that has no effect
	problems []status.Problem
}

// arrival is an object on its way: its row, under its name.
type arrival[R any] struct {
	metav1.ObjectMeta

	held held[R]
}

func (k *kind[O, R]) String() string { return k.name }

// run keeps the rows up to date until ctx ends.
func (k *kind[O, R]) run(ctx context.Context) {
	silent := klog.New(nil) // what goes wrong is reported, on change
	ctx = klog.NewContext(ctx, silent)
	for ctx.Err() == nil {
		one, cancel := context.WithCancel(ctx)
		k.mu.Lock()
		k.cancel = cancel
		k.mu.Unlock()
		r := cache.NewReflectorWithOptions(k.lists.watched(k.note), k.example, k, cache.ReflectorOptions{
			Name: k.plural, TypeDescription: k.name, Logger: &silent, Backoff: backoff(),
		})
		r.RunWithContext(one)
		cancel()
	}
}

// backoff is between attempts to reach the API server. When it is back, nobody waits for long.
func backoff() *wait.Backoff {
	return &wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 16, Cap: 5 * time.Second}
}

// restart has everything read anew.
func (k *kind[O, R]) restart() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.cancel != nil {
		k.cancel()
	}
}

// note takes the outcome of a list or the beginning of a watch.
func (k *kind[O, R]) note(err error) {
	k.mu.Lock()
	before := k.stood
	k.stood.absent = k.optional && apierrors.IsNotFound(err)
	k.stood.err = err
	if k.stood.absent {
		k.stood.read, k.stood.err = true, nil
	}
	changed := before.absent != k.stood.absent || (before.err == nil) != (k.stood.err == nil)
	k.mu.Unlock()
	if err != nil && !k.stood.absent {
		k.errors()
	}
	if changed {
		k.poke()
	}
}

// arrive makes a row of what the API server sent.
func (k *kind[O, R]) arrive(obj any) (*arrival[R], error) {
	if a, ok := obj.(*arrival[R]); ok {
		return a, nil
	}
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj
	}
	m, ok := obj.(metav1.Object)
	if !ok {
		return nil, fmt.Errorf("a %T among %s", obj, k.plural)
	}
	a := &arrival[R]{ObjectMeta: metav1.ObjectMeta{
		Namespace: m.GetNamespace(), Name: m.GetName(), ResourceVersion: m.GetResourceVersion(),
	}}
	a.held.version = strings.Clone(m.GetResourceVersion())
	o, ok := obj.(*O)
	if k.decode != nil {
		var err error
		if o, err = k.decode(obj); err != nil {
			a.held.problems = []status.Problem{{Severity: status.Broken, Message: err.Error()}}
			return a, nil //nolint:nilerr // it is reported with the object's name
		}
	} else if !ok {
		return nil, fmt.Errorf("a %T among %s", obj, k.plural)
	}
	a.held.row, a.held.problems = k.convert(o)
	return a, nil
}

func (a *arrival[R]) key() string {
	if a.Namespace == "" {
		return a.Name
	}
	return a.Namespace + "/" + a.Name
}

// Transformer implements cache.TransformingStore: objects of the first list are let go one by one.
func (k *kind[O, R]) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) { return k.arrive(obj) }
}

// Add implements cache.ReflectorStore.
func (k *kind[O, R]) Add(obj any) error {
	a, err := k.arrive(obj)
	if err != nil {
		return err
	}
	k.mu.Lock()
	k.hold(a)
	k.mu.Unlock()
	k.poke()
	return nil
}

func (k *kind[O, R]) hold(a *arrival[R]) {
	key := a.key()
	was := k.held[key].row
	if was != nil && a.held.row != nil {
		if k.adopt != nil {
			k.adopt(was, a.held.row)
		}
		if reflect.DeepEqual(was, a.held.row) { // most changes are not ours: keep one copy
			a.held.row = was
			k.held[key] = a.held
			return
		}
	}
	k.held[key] = a.held
	k.pending[key] = true
}

// Update implements cache.ReflectorStore.
func (k *kind[O, R]) Update(obj any) error { return k.Add(obj) }

// Delete implements cache.ReflectorStore.
func (k *kind[O, R]) Delete(obj any) error {
	a, err := k.arrive(obj)
	if err != nil {
		return err
	}
	k.mu.Lock()
	delete(k.held, a.key())
	k.pending[a.key()] = true
	k.mu.Unlock()
	k.poke()
	return nil
}

// Replace implements cache.ReflectorStore.
func (k *kind[O, R]) Replace(objs []any, _ string) error {
	seen := make(map[string]bool, len(objs))
	k.mu.Lock()
	defer k.poke()
	defer k.mu.Unlock()
	for i, obj := range objs {
		a, err := k.arrive(obj)
		if err != nil {
			return err
		}
		objs[i] = nil
		seen[a.key()] = true
		if before, ok := k.held[a.key()]; !ok || before.version != a.held.version {
			k.hold(a)
		}
	}
	for key := range k.held {
		if !seen[key] {
			delete(k.held, key)
			k.pending[key] = true
		}
	}
	k.stood.read, k.stood.absent, k.stood.err = true, false, nil
	return nil
}

// Resync implements cache.ReflectorStore.
func (k *kind[O, R]) Resync() error { return nil }

// has reports whether there is an object that has an effect.
func (k *kind[O, R]) has(key string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.held[key].row != nil
}

// again applies rows anew whose surroundings changed.
func (k *kind[O, R]) again(affected func(key string, row *R) bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for key, h := range k.held {
		if h.row != nil && affected(key, h.row) {
			k.pending[key] = true
		}
	}
}

// change is one that is applied.
type change[R any] struct {
	key string
	row *R
}

// apply moves what is pending into the state.
func (k *kind[O, R]) apply(x *state.Tx) {
	for _, c := range k.take() {
		if c.row == nil {
			ns, name, ok := strings.Cut(c.key, "/")
			if !ok {
				ns, name = "", c.key
			}
			k.remove(x, state.Name{Namespace: ns, Name: name})
			continue
		}
		if kept := k.put(x, c.row); kept != c.row {
			k.keep(c.key, c.row, kept)
		}
	}
}

func (k *kind[O, R]) take() []change[R] {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := make([]change[R], 0, len(k.pending))
	for key := range k.pending {
		all = append(all, change[R]{key, k.held[key].row})
	}
	if len(k.pending) > 1024 {
		k.pending = make(map[string]bool) // a map never shrinks
	} else {
		clear(k.pending)
	}
	return all
}

// keep replaces a row that was completed, unless a newer one came meanwhile.
func (k *kind[O, R]) keep(key string, was, now *R) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if h := k.held[key]; h.row == was {
		h.row = now
		k.held[key] = h
	}
}

func (k *kind[O, R]) stand() standing {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.stood
	s.objects, s.waiting = len(k.held), len(k.pending)
	return s
}

// reports are about the kind and its objects.
func (k *kind[O, R]) reports() []status.Report {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []status.Report
	switch {
	case k.stood.absent:
		all = append(all, status.Report{
			Severity: status.Notice, Object: status.Object{Kind: k.name},
			Message: "the API server does not know " + k.plural + "; they count as soon as it does",
		})
	case k.stood.err != nil:
		all = append(all, status.Report{
			Severity: status.Broken, Object: status.Object{Kind: k.name},
			Message: fmt.Sprintf("%s cannot be read: %v", k.plural, k.stood.err),
		})
	}
	for key, h := range k.held {
		ns, name, ok := strings.Cut(key, "/")
		if !ok {
			ns, name = "", key
		}
		for _, p := range h.problems {
			all = append(all, status.Of(status.Object{Kind: k.name, Namespace: ns, Name: name}, p))
		}
	}
	return all
}
