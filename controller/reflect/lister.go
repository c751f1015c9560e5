package reflect

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// lister reads one kind from the API server.
type lister struct {
	client any // what list and watch are of: it knows whether it can stream a first list
	list   func(ctx context.Context, namespace string, o metav1.ListOptions) (runtime.Object, error)
	watch  func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error)
}

// watched is all namespaces, with every outcome told to note.
func (l lister) watched(note func(error)) cache.ListerWatcher {
	return cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			list, err := l.list(ctx, metav1.NamespaceAll, o)
			if ctx.Err() == nil {
				note(err)
			}
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			w, err := l.watch(ctx, o)
			if ctx.Err() == nil {
				note(err)
			}
			return w, err
		},
	}, l.client)
}

// typed is what a typed client of one kind can do.
type typed[L runtime.Object] interface {
	List(context.Context, metav1.ListOptions) (L, error)
	Watch(context.Context, metav1.ListOptions) (watch.Interface, error)
}

// listerOf makes a lister of a typed client's constructor for namespaces.
func listerOf[L runtime.Object, C typed[L]](client any, in func(namespace string) C) lister {
	return lister{
		client: client,
		list: func(ctx context.Context, namespace string, o metav1.ListOptions) (runtime.Object, error) {
			list, err := in(namespace).List(ctx, o)
			if err != nil {
				return nil, err // not a typed nil
			}
			return list, nil
		},
		watch: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return in(metav1.NamespaceAll).Watch(ctx, o)
		},
	}
}
