package kube

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"

	"github.com/tulle-mesh/tulle/identity"
	"github.com/tulle-mesh/tulle/internal/logkey"
)

// Times of the election: a leader that vanished is replaced within leaseTime.
const (
	leaseTime = 15 * time.Second
	renewTime = 10 * time.Second
	retryTime = 2 * time.Second
)

// Times of what replicas tell of themselves.
const (
	publishLook  = 15 * time.Second // how often it is looked whether there is news
	publishAgain = time.Minute      // and how old it becomes at most
	heardFor     = 3 * time.Minute  // after which a replica is not counted
	forgetAfter  = 4 * time.Minute
)

// standingPrefix begins the annotations of the Lease in which replicas tell how far their watchers are.
const standingPrefix = "standing.tulle.dev/"

// ReplicasConfig is what Replicas is made of.
type ReplicasConfig struct {
	Client    kubernetes.Interface
	Namespace string
	// Name is this replica's: its pod's.
	Name string
	// Meshed counts the proxies that there should be.
	Meshed func() int
	// Also is done by the leader besides.
	Also func(context.Context)
	Log  *zap.Logger // nil is silent
}

// Replicas is identity.Replicas over a Lease.
type Replicas struct {
	cfg  ReplicasConfig
	base context.Context //nolint:containedctx // as Secrets's
}

// NewReplicas returns Replicas that work until ctx ends.
func NewReplicas(ctx context.Context, cfg ReplicasConfig) *Replicas {
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	return &Replicas{cfg: cfg, base: klog.NewContext(ctx, klog.New(nil))}
}

// Lead implements identity.Replicas. What leads may still end while another replica begins: every write
// says what it replaces.
func (r *Replicas) Lead(ctx context.Context, lead func(context.Context)) {
	ctx = klog.NewContext(ctx, klog.New(nil))
	var wg sync.WaitGroup
	defer wg.Wait()
	for ctx.Err() == nil {
		e, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: &resourcelock.LeaseLock{
				LeaseMeta:  metav1.ObjectMeta{Namespace: r.cfg.Namespace, Name: LeaseName},
				Client:     r.cfg.Client.CoordinationV1(),
				LockConfig: resourcelock.ResourceLockConfig{Identity: r.cfg.Name},
			},
			LeaseDuration: leaseTime, RenewDeadline: renewTime, RetryPeriod: retryTime, ReleaseOnCancel: true,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(ctx context.Context) {
					r.cfg.Log.Info("leading", zap.String(logkey.Replica, r.cfg.Name))
					wg.Go(func() { lead(ctx) }) // owned by Lead, ends with ctx
					if r.cfg.Also != nil {
						wg.Go(func() { r.cfg.Also(ctx) }) // owned by Lead, ends with ctx
					}
				},
				OnStoppedLeading: func() { r.cfg.Log.Info("not leading", zap.String(logkey.Replica, r.cfg.Name)) },
			},
		})
		if err != nil {
			panic("BUG: election: " + err.Error())
		}
		e.Run(ctx)
	}
}

// standing is what a replica tells.
type standing struct {
	Replica string `json:"replica"`
	identity.Heard
	At time.Time `json:"at"`
}

func (r *Replicas) annotation() string {
	sum := sha256.Sum256([]byte(r.cfg.Name)) // a pod's name may be too long for an annotation's
	return standingPrefix + hex.EncodeToString(sum[:8])
}

// Publish implements identity.Replicas.
func (r *Replicas) Publish(ctx context.Context, heard func() identity.Heard) {
	tick := time.NewTicker(publishLook)
	defer tick.Stop()
	var last standing
	for {
		now := standing{Replica: r.cfg.Name, Heard: heard(), At: time.Now().UTC().Truncate(time.Second)}
		if now.Heard != last.Heard || now.At.Sub(last.At) >= publishAgain {
			if err := r.publish(ctx, now); err == nil {
				last = now
			} else {
				r.cfg.Log.Debug("lease", zap.Error(err)) // before there is a leader there is none
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (r *Replicas) publish(ctx context.Context, s standing) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	annotations := map[string]*string{r.annotation(): new(string(text))}
	lease, err := r.lease(ctx)
	if err != nil {
		return err
	}
	for key, other := range standings(lease) {
		if s.At.Sub(other.At) > forgetAfter {
			annotations[key] = nil
		}
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": annotations}})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	_, err = r.cfg.Client.CoordinationV1().Leases(r.cfg.Namespace).Patch(ctx, LeaseName, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

func (r *Replicas) lease(ctx context.Context) (*coordinationv1.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	lease, err := r.cfg.Client.CoordinationV1().Leases(r.cfg.Namespace).Get(ctx, LeaseName, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("lease %s: %w", LeaseName, err)
	}
	return lease, nil
}

// standings are what replicas told, by annotation. One that cannot be read has never told anything.
func standings(lease *coordinationv1.Lease) map[string]standing {
	all := make(map[string]standing)
	for key, text := range lease.Annotations {
		if strings.HasPrefix(key, standingPrefix) {
			var s standing
			_ = json.Unmarshal([]byte(text), &s)
			all[key] = s
		}
	}
	return all
}

// AllOn implements identity.Replicas: every replica that was heard lately says that its watchers hold
// the version, and together they have as many as there are proxies.
func (r *Replicas) AllOn(version uint64) bool {
	lease, err := r.lease(r.base)
	if err != nil {
		return false
	}
	watchers := 0
	for _, s := range standings(lease) {
		if time.Since(s.At) > heardFor {
			continue
		}
		if s.Watchers > 0 && s.Lowest < version {
			return false
		}
		watchers += s.Watchers
	}
	return watchers >= r.cfg.Meshed()
}
