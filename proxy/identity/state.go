package identity

import (
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/tulle-mesh/tulle/internal/logkey"
)

var errNotYet = errors.New("not certified yet")

// State says how the proxy stands, for /ready and its metrics (R10.2).
type State struct {
	// Certified is set once there is a certificate; whether it is still valid, NotAfter says.
	Certified bool
	NotAfter  time.Time
	// NextRenewal is when the next certificate is asked for.
	NextRenewal time.Time
	// TrustVersion is the version of the bundle in force; 0 is the one that was mounted.
	TrustVersion uint64
	// Renewal and Trust are why the proxy is degraded: the last attempt to get a certificate failed,
	// the trust bundle cannot be followed. Nil is well.
	Renewal, Trust error
	// Since is when Renewal or Trust last changed between well and not.
	Since time.Time
}

// Valid reports whether there is a certificate that is valid at now: what readiness wants (R10.2).
func (s State) Valid(now time.Time) bool { return s.Certified && now.Before(s.NotAfter) }

// Degraded is why the identity service is missed, or nil.
func (s State) Degraded() error { return errors.Join(s.Renewal, s.Trust) }

// State returns how the proxy stands now.
func (c *Client) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.state
	s.NextRenewal = c.renew
	return s
}

// renewalWas and trustWas note the outcome of an attempt; what changed is logged.
func (c *Client) renewalWas(err error) {
	if c.note(func(s *State) *error { return &s.Renewal }, err) {
		c.logChange("certificate cannot be renewed", "certificate renewed again", err)
	}
}

func (c *Client) trustWas(err error) {
	if c.note(func(s *State) *error { return &s.Trust }, err) {
		c.logChange("trust bundle cannot be followed", "trust bundle followed again", err)
	}
}

// note puts err into a field of the state and reports whether that began or ended a failure.
func (c *Client) note(field func(*State) *error, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := field(&c.state)
	begun := (*f == nil || errors.Is(*f, errNotYet)) && err != nil
	ended := *f != nil && !errors.Is(*f, errNotYet) && err == nil
	*f = err
	if begun || ended {
		c.state.Since = c.cfg.Now()
	}
	return begun || ended
}

func (c *Client) logChange(begun, ended string, err error) {
	if err == nil {
		c.cfg.Log.Info(ended)
		return
	}
	s := c.State()
	c.cfg.Log.Warn(begun, zap.Error(err), zap.Time(logkey.NotAfter, s.NotAfter))
}
