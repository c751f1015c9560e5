package discover

import (
	"fmt"
	"time"

	"go.uber.org/zap"

	pb "github.com/tulle-mesh/tulle/api/discovery/v1"
	"github.com/tulle-mesh/tulle/internal/discoverypb"
	"github.com/tulle-mesh/tulle/internal/logkey"
	"github.com/tulle-mesh/tulle/internal/mesh"
)

func (c *Client) helloed(m *pb.ServerHello) {
	h := Hello{
		ServerVersion: m.GetServerVersion(), Replica: m.GetReplica(), Epoch: m.GetEpoch(),
		Zone: m.GetZone(), Node: m.GetNode(),
	}
	if cluster, err := discoverypb.DecodeCluster(m.GetCluster()); err == nil {
		h.TrustDomain, h.Networks = cluster.TrustDomain, cluster.Networks
	}
	c.mu.Lock()
	c.up, c.hello = true, h
	c.stats.Connects++
	c.mu.Unlock()
	c.cfg.Log.Info("discovery stream is up",
		zap.String(logkey.Addr, c.cfg.Server), zap.String(logkey.Replica, h.Replica))
	if c.cfg.OnHello != nil {
		c.cfg.OnHello(h)
	}
	c.sink.Connected(true)
}

// handle hands on one message; kinds that are not known are ignored.
func (c *Client) handle(m *pb.SyncResponse) {
	switch m := m.GetMessage().(type) {
	case *pb.SyncResponse_Target:
		c.target(m.Target)
	case *pb.SyncResponse_Unresolved:
		c.unresolved(m.Unresolved)
	case *pb.SyncResponse_Inbound:
		c.inboundPolicy(m.Inbound)
	case *pb.SyncResponse_Digest:
		c.digest(m.Digest)
	case *pb.SyncResponse_Refusal:
		c.refusal(m.Refusal)
	}
}

// arrive finds the subject of a version that came, nil when it is not subscribed to any more.
func (c *Client) arrive(subject, version uint64) *sub {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.bySubj[subject]
	if s != nil {
		s.heard = version
		c.stats.Updates++
	}
	return s
}

func (c *Client) target(m *pb.TargetUpdate) {
	if !m.GetFull() && c.gap(m) {
		return
	}
	s := c.arrive(m.GetSubject(), m.GetVersion())
	if s == nil {
		return
	}
	u, err := decodeUpdate(m)
	u.Target = s.target
	done := c.done(s, m.GetVersion(), m.GetFull())
	if err != nil {
		done(err)
		return
	}
	c.sink.Target(u, done)
}

func decodeUpdate(m *pb.TargetUpdate) (u Update, err error) {
	u = Update{Version: m.GetVersion(), Full: m.GetFull()}
	if u.Added, err = discoverypb.DecodeEndpoints(m.GetAdded()); err != nil {
		return u, err
	}
	if u.Removed, err = discoverypb.DecodeAddrs(m.GetRemoved()); err != nil {
		return u, err
	}
	if u.Policy, err = discoverypb.DecodePolicy(m.GetPolicy()); err != nil {
		return u, err
	}
	if u.Full && u.Policy == nil {
		return u, fmt.Errorf("a full update without a policy")
	}
	return u, nil
}

// gap reports, and asks for a resync, when a change does not follow what is held.
func (c *Client) gap(m *pb.TargetUpdate) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.bySubj[m.GetSubject()]
	if s == nil || s.held == m.GetBase() && s.held != 0 {
		return false
	}
	c.stats.Gaps++
	c.resync(s, resyncGap)
	return true
}

func (c *Client) unresolved(m *pb.Unresolved) {
	s := c.arrive(m.GetSubject(), m.GetVersion())
	if s == nil {
		return
	}
	u := Update{Target: s.target, Version: m.GetVersion(), Full: true}
	u.Policy = &mesh.TargetPolicy{Kind: mesh.TargetUnknown}
	c.sink.Target(u, c.done(s, m.GetVersion(), true))
}

func (c *Client) inboundPolicy(m *pb.InboundPolicyUpdate) {
	c.mu.Lock()
	s := c.inbound
	s.heard = m.GetVersion()
	c.stats.Inbounds++
	c.mu.Unlock()
	done := c.done(s, m.GetVersion(), true)
	p, err := discoverypb.DecodeInbound(m.GetPolicy())
	if err != nil {
		done(err)
		return
	}
	c.sink.Inbound(p, m.GetVersion(), done)
}

// done answers for a version: an acknowledgement or a refusal. It may come late, when the stream
// has ended: the next one begins with the version if it did not begin yet.
func (c *Client) done(s *sub, version uint64, full bool) func(error) {
	c.mu.Lock()
	epoch, subject, session := c.hello.Epoch, s.subject, c.session
	c.mu.Unlock()
	return func(err error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.session != session {
			return // a later stream began from an older version, which is as good
		}
		if err == nil {
			s.epoch, s.held = epoch, version
		}
		if c.bySubj[subject] != s {
			return
		}
		if err == nil {
			if full {
				s.expects = false
			}
			s.ack = version
			c.out.push(s, todoAck)
			return
		}
		c.stats.Nacks++
		s.heard = s.held
		s.nack, s.reason = version, cut(err.Error(), 1024)
		c.out.push(s, todoNack)
	}
}

func cut(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

// digest compares. A digest of a version that never came means that an update was lost.
func (c *Client) digest(m *pb.Digest) {
	c.mu.Lock()
	s := c.bySubj[m.GetSubject()]
	if s == nil || m.GetSubject() == 0 {
		c.mu.Unlock()
		return
	}
	if s.heard != m.GetVersion() {
		c.stats.Gaps++
		c.resync(s, resyncGap)
		c.mu.Unlock()
		return
	}
	target, subject := s.target, s.subject
	c.mu.Unlock()
	c.sink.Digest(target, m.GetVersion(), func(have uint64, atVersion bool) {
		if atVersion {
			c.compared(s, subject, have == m.GetDigest())
		}
	})
}

func (c *Client) compared(s *sub, subject uint64, same bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bySubj[subject] != s {
		return
	}
	c.stats.Digests++
	if same {
		s.differed = 0
		return
	}
	c.stats.Mismatches++
	c.resync(s, resyncMismatch)
}

// resyncPatience is how long an answer to a resync may take before it is asked for again.
const resyncPatience = 2 * time.Minute

// resync asks for a subject whole, a jittered while from now, once. mu is held.
func (c *Client) resync(s *sub, why resyncReason) {
	if s.expects && time.Since(s.asked) < resyncPatience {
		return
	}
	s.stop()
	s.expects, s.askedBy, s.asked = true, why, time.Now()
	wait := min(c.cfg.ResyncSpread<<min(s.differed, 10), time.Minute)
	s.differed++
	subject := s.subject
	s.timer = time.AfterFunc(spread(wait), func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.bySubj[subject] == s && s.expects {
			c.stats.Resyncs++
			c.out.push(s, todoResync)
		}
	})
}

// refusal notes what the server does not serve. A target that may be asked for again is, then.
func (c *Client) refusal(m *pb.Refusal) {
	c.cfg.Log.Warn("discovery refused", zap.Stringer(logkey.Kind, m.GetCode()), zap.String(logkey.Reason, m.GetReason()))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.Refusals++
	s := c.bySubj[m.GetSubject()]
	if s == nil || m.GetSubject() == 0 || m.GetRetryAfter() == nil {
		return
	}
	delete(c.bySubj, s.subject)
	wait := m.GetRetryAfter().AsDuration()
	s.timer = time.AfterFunc(wait+spread(wait), func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.subs[s.target] == s && c.bySubj[s.subject] != s {
			c.attach(s)
		}
	})
}
