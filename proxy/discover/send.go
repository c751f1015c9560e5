package discover

import (
	"context"
	"net/netip"
	"time"

	pb "github.com/tulle-mesh/tulle/api/discovery/v1"
	"github.com/tulle-mesh/tulle/internal/discoverypb"
	"github.com/tulle-mesh/tulle/internal/mesh"
)

// reportInterval and the limits below bound what a proxy reports.
const (
	reportInterval  = time.Second
	reportFailures  = 64
	reportErrorSize = 256
)

// FailureKind says what an endpoint did.
type FailureKind uint8

// Kinds of failure.
const (
	FailureConnect FailureKind = iota
	FailureIdentity
	FailureHandshake
)

// Failure is what was met at an endpoint (rule R6.4).
type Failure struct {
	Target    mesh.Target
	Addr      netip.AddrPort
	Kind      FailureKind
	Presented mesh.Identity // what it proved instead
	Error     string

	count uint32
}

type failureKey struct {
	target mesh.Target
	addr   netip.AddrPort
	kind   FailureKind
}

// Report tells the control plane of a failure, soon and together with others. It never blocks; what
// is too much or cannot be sent is dropped.
func (c *Client) Report(f Failure) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := failureKey{f.Target, f.Addr, f.Kind}
	have := c.failures[k]
	if have == nil {
		if len(c.failures) >= reportFailures {
			return
		}
		have = &f
		c.failures[k] = have
	}
	have.count++
	have.Error, have.Presented = cut(f.Error, reportErrorSize), f.Presented
	select {
	case c.failed <- struct{}{}:
	default: // it knows
	}
}

// send says what there is to say until ctx ends.
func (c *Client) send(ctx context.Context, stream pb.Discovery_SyncClient) error {
	defer func() { _ = stream.CloseSend() }() // its error is the stream's, which Recv has
	if err := stream.Send(c.clientHello()); err != nil {
		return err
	}
	due := time.NewTimer(reportInterval) // the first time for what an earlier stream left
	defer due.Stop()
	waiting := true
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.failed:
			if !waiting { // without failures there is no timer: an idle proxy sleeps
				waiting = true
				due.Reset(reportInterval)
			}
		case <-due.C:
			waiting = false
			if m := c.report(); m != nil {
				if err := stream.Send(m); err != nil {
					return err
				}
			}
		case <-c.out.wake:
			for _, m := range c.sayings() {
				if err := stream.Send(m); err != nil {
					return err
				}
			}
		}
	}
}

func (c *Client) clientHello() *pb.SyncRequest {
	h := &pb.ClientHello{
		ProxyVersion: c.cfg.Version,
		Features: []pb.Feature{
			pb.Feature_FEATURE_DELTA, pb.Feature_FEATURE_DIGEST_1, pb.Feature_FEATURE_REPORT, pb.Feature_FEATURE_RESUME,
		},
	}
	if c.cfg.Name != "" {
		h.Workload = &pb.Workload{Namespace: c.cfg.Namespace, Name: c.cfg.Name}
	}
	return &pb.SyncRequest{Message: &pb.SyncRequest_Hello{Hello: h}}
}

// sayings empties the outbox.
func (c *Client) sayings() []*pb.SyncRequest {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ms []*pb.SyncRequest
	for _, subject := range c.out.gone {
		ms = append(ms, &pb.SyncRequest{Message: &pb.SyncRequest_Unsubscribe{
			Unsubscribe: &pb.Unsubscribe{Subject: subject},
		}})
	}
	for _, s := range c.out.queue {
		ms = s.sayings(ms)
		s.queued, s.todo = false, 0
	}
	c.out.queue, c.out.gone = c.out.queue[:0], c.out.gone[:0]
	return ms
}

func (s *sub) sayings(ms []*pb.SyncRequest) []*pb.SyncRequest {
	if s.todo&todoSubscribe != 0 {
		s.heard = s.held
		m := &pb.Subscribe{Subject: s.subject, Target: discoverypb.EncodeTarget(s.target)}
		if s.held != 0 {
			m.Known = &pb.Position{Epoch: s.epoch, Version: s.held}
		}
		ms = append(ms, &pb.SyncRequest{Message: &pb.SyncRequest_Subscribe{Subscribe: m}})
	}
	if s.todo&todoNack != 0 {
		ms = append(ms, &pb.SyncRequest{Message: &pb.SyncRequest_Nack{
			Nack: &pb.Nack{Subject: s.subject, Version: s.nack, Reason: s.reason},
		}})
	}
	if s.todo&todoAck != 0 {
		ms = append(ms, &pb.SyncRequest{Message: &pb.SyncRequest_Ack{
			Ack: &pb.Ack{Subject: s.subject, Version: s.ack},
		}})
	}
	if s.todo&todoResync != 0 {
		why := pb.ResyncReason_RESYNC_REASON_DIGEST_MISMATCH
		if s.askedBy == resyncGap {
			why = pb.ResyncReason_RESYNC_REASON_GAP
		}
		ms = append(ms, &pb.SyncRequest{Message: &pb.SyncRequest_Resync{
			Resync: &pb.Resync{Subject: s.subject, Version: s.held, Reason: why},
		}})
	}
	return ms
}

// report takes what there is to report, nil when nothing is.
func (c *Client) report() *pb.SyncRequest {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.failures) == 0 {
		return nil
	}
	r := &pb.Report{DigestMismatches: c.stats.Mismatches}
	for k, f := range c.failures {
		m := &pb.EndpointFailure{
			Address: discoverypb.EncodeAddr(f.Addr), Kind: pb.FailureKind(f.Kind) + pb.FailureKind_FAILURE_KIND_CONNECT,
			Count: f.count, Presented: string(f.Presented), Error: f.Error,
		}
		if s := c.subs[k.target]; s != nil {
			m.Subject = s.subject
		}
		r.Failures = append(r.Failures, m)
		c.stats.Reports += uint64(f.count)
	}
	clear(c.failures)
	return &pb.SyncRequest{Message: &pb.SyncRequest_Report{Report: r}}
}
