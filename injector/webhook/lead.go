package webhook

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/tools/record"

	"github.com/tulle-mesh/tulle/internal/logkey"
	"github.com/tulle-mesh/tulle/internal/run"
)

// lead mirrors and sweeps whenever this replica holds the Lease.
func (s *Server) lead(ctx context.Context, recorder record.EventRecorder) error {
	if !cache.WaitForCacheSync(ctx.Done(), s.synced...) {
		return nil
	}
	for ctx.Err() == nil {
		t := &term{work: func(ctx context.Context) { s.work(ctx, recorder) }}
		e, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: &resourcelock.LeaseLock{
				LeaseMeta: metav1.ObjectMeta{Name: Lease, Namespace: s.cfg.Namespace}, Client: s.cfg.Client.CoordinationV1(),
				LockConfig: resourcelock.ResourceLockConfig{Identity: s.cfg.Replica},
			},
			LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
			ReleaseOnCancel: true, Name: Lease,
			Callbacks: leaderelection.LeaderCallbacks{OnStartedLeading: t.begin, OnStoppedLeading: func() {}},
		})
		if err != nil {
			return fmt.Errorf("leader election: %w", err)
		}
		e.Run(ctx)
		t.end()
	}
	return nil
}

// term is one time of holding the Lease. The elector starts its callback and does not wait for it; end does.
type term struct {
	work func(context.Context)

	mu   sync.Mutex // guards over, and running's first Add
	over bool
	// running is the work.
	running sync.WaitGroup
}

func (t *term) begin(ctx context.Context) {
	t.mu.Lock()
	if t.over { // lost before it was begun
		t.mu.Unlock()
		return
	}
	t.running.Add(1)
	t.mu.Unlock()
	defer t.running.Done()
	t.work(ctx)
}

func (t *term) end() {
	t.mu.Lock()
	t.over = true
	t.mu.Unlock()
	t.running.Wait()
}

// work is what one replica at a time does.
func (s *Server) work(ctx context.Context, recorder record.EventRecorder) {
	log := s.cfg.Log.Named("leader")
	log.Info("this replica mirrors and sweeps", zap.String(logkey.Replica, s.cfg.Replica))
	g := &run.Group{}
	g.Add("mirror", run.Func(s.mirror.run))
	sweep := &sweep{
		client: s.cfg.Client, settings: s.settings, recorder: recorder, counts: s.counts, log: s.cfg.Log.Named("sweep"), every: s.cfg.SweepEvery,
	}
	g.Add("sweep", run.Func(sweep.run))
	if err := g.Run(ctx); err != nil {
		log.Error("the leader's work ended", zap.Error(err))
	}
}
