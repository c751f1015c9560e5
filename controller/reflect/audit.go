package reflect

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/tulle-mesh/tulle/internal/logkey"
)

// difference is what a list said otherwise than what was held: by key, the version listed ("" for not
// listed) and the version held then.
type difference map[string]versions

type versions struct{ listed, held string }

// page is how many objects are listed at a time.
const page = 500

// compare lists a kind, in one namespace or all, and returns what differs. Being behind is no mistake
// yet: see persists.
func (k *kind[O, R]) compare(ctx context.Context, namespace string) (difference, error) {
	fresh := make(map[string]string)
	for o := (metav1.ListOptions{Limit: page}); ; {
		list, err := k.lists.list(ctx, namespace, o)
		if err != nil {
			return nil, err
		}
		err = meta.EachListItem(list, func(obj runtime.Object) error {
			m, err := meta.Accessor(obj)
			if err == nil {
				fresh[keyOf(m)] = strings.Clone(m.GetResourceVersion())
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		m, err := meta.ListAccessor(list)
		if err != nil {
			return nil, err
		}
		if o.Continue = m.GetContinue(); o.Continue == "" {
			break
		}
	}
	return k.differs(fresh, namespace), nil
}

func keyOf(m metav1.Object) string {
	if m.GetNamespace() == "" {
		return m.GetName()
	}
	return m.GetNamespace() + "/" + m.GetName()
}

func (k *kind[O, R]) differs(fresh map[string]string, namespace string) difference {
	d := make(difference)
	k.mu.Lock()
	defer k.mu.Unlock()
	for key, version := range fresh {
		if h := k.held[key].version; older(h, version) {
			d[key] = versions{version, h}
		}
	}
	for key, h := range k.held {
		in := namespace == "" || strings.HasPrefix(key, namespace+"/")
		if _, listed := fresh[key]; in && !listed {
			d[key] = versions{"", h.version}
		}
	}
	return d
}

// older reports whether a version that is held is behind one that was listed.
func older(held, listed string) bool {
	if held == "" {
		return true
	}
	c, err := resourceversion.CompareResourceVersion(held, listed)
	return err == nil && c < 0
}

// persists are the keys that still are as they were when they differed.
func (k *kind[O, R]) persists(d difference) []string {
	var keys []string
	k.mu.Lock()
	defer k.mu.Unlock()
	for key, v := range d {
		h, ok := k.held[key]
		switch {
		case v.listed == "" && ok && h.version == v.held: // deleted, and still held
		case v.listed != "" && older(h.version, v.listed) && h.version == v.held:
		default:
			continue
		}
		keys = append(keys, key)
	}
	return keys
}

// recheckPause is how long rechecks rest at least.
const recheckPause = 10 * time.Second

// audits compares every now and then, and when somebody asks.
func (r *Reflector) audits(ctx context.Context) {
	next := time.NewTimer(about(r.cfg.AuditInterval))
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
			r.audit(ctx, []string{metav1.NamespaceAll}, r.sources)
			next.Reset(about(r.cfg.AuditInterval))
		case addrs := <-r.suspect:
			r.audit(ctx, r.namespacesOf(addrs), r.sources)
			if !sleep(ctx, recheckPause) {
				return
			}
		}
	}
}

// maxRecheck bounds the namespaces of one recheck.
const maxRecheck = 8

func (r *Reflector) namespacesOf(addrs []netip.AddrPort) []string {
	snapshot, seen := r.cfg.Store.Snapshot(), make(map[string]bool)
	var names []string
	for _, a := range addrs {
		w := snapshot.Owner(a)
		if w == nil || seen[w.Name.Namespace] || len(names) == maxRecheck {
			continue
		}
		seen[w.Name.Namespace] = true
		names = append(names, w.Name.Namespace)
	}
	return names
}

// audit compares kinds in namespaces with the API server, and reads a kind anew that stays behind.
func (r *Reflector) audit(ctx context.Context, namespaces []string, sources []source) {
	r.metrics.audits.Inc()
	type found struct {
		source source
		what   difference
	}
	var all []found
	for _, s := range sources {
		if st := s.stand(); !st.read || st.absent || st.err != nil {
			continue // nothing to compare; it is reported
		}
		for _, ns := range namespaces {
			d, err := s.compare(ctx, ns)
			if err != nil {
				r.cfg.Log.Debug("audit", zap.Stringer(logkey.Kind, s), zap.Error(err))
				continue
			}
			if len(d) > 0 {
				all = append(all, found{s, d})
			}
		}
	}
	if len(all) == 0 || !sleep(ctx, r.cfg.AuditGrace) {
		return
	}
	for _, f := range all {
		keys := f.source.persists(f.what)
		if len(keys) == 0 {
			continue
		}
		r.metrics.differences.WithLabelValues(f.source.String()).Add(float64(len(keys)))
		r.cfg.Log.Error("a watch was behind, everything is read anew", zap.Stringer(logkey.Kind, f.source),
			zap.Int(logkey.Count, len(keys)), zap.String(logkey.Name, keys[0]))
		f.source.restart()
	}
}
