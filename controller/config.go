package controller

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/tulle-mesh/tulle/controller/state"
	"github.com/tulle-mesh/tulle/internal/mesh"
)

// Namespace is where the control plane's own identities live, by default.
const Namespace = "tulle"

// Config says what a Plane runs. At least one of Identity and Destination is set.
type Config struct {
	// Settings hold for the whole mesh; the zero value is the default.
	Settings state.Settings
	// Source is where the mesh is read: "kubernetes" or "files:DIR". Destination needs it; with it,
	// identity refuses identities that no workload has.
	Source string
	// Cluster is what Source kubernetes means; nil otherwise.
	Cluster *Cluster
	// Namespace is where the control plane's own identities live; "" is tulle.
	Namespace   string
	Identity    *IdentityConfig
	Destination *DestinationConfig
	// Admin is where /ready, /live and /metrics are served, and /debug for loopback; nil: nowhere.
	Admin net.Listener
	Log   *zap.Logger // nil is silent
	// LogLevel serves /debug/log-level of Admin, GET and PUT; nil: the level cannot be changed.
	LogLevel http.Handler
}

// IdentityConfig is the identity service's.
type IdentityConfig struct {
	// Listener is served and closed by Plane.Run; required.
	Listener net.Listener
	// StateDir keeps the authority, the key that signs join tokens and those that were used (mode
	// 0600), and the trust bundle in StateDir/bundle; required outside a cluster.
	StateDir string
	// LeafLifetime is how long certificates last; 0 is 24 h.
	LeafLifetime time.Duration
}

// DestinationConfig is the destination service's.
type DestinationConfig struct {
	// Listener is served and closed by Plane.Run; required.
	Listener net.Listener
	// In a cluster, and without an identity service in the process: where it is, the file with destination's own join
	// token, and the directory with the trust bundle to begin with.
	IdentityAddr, TokenFile, BundleDir string
	// Replica names this instance to proxies; empty is the host's name.
	Replica string
}

// name is the identity of a service of the control plane.
func (cfg *Config) name(account string) mesh.Identity {
	if cfg.Cluster != nil {
		account = clusterAccounts + account
	}
	return mesh.NewIdentity(cfg.Settings.TrustDomain, cfg.Namespace, account)
}

// kubernetes is the Source that is a cluster.
const kubernetes = "kubernetes"

// dir is the directory of a files source.
func (cfg *Config) dir() string {
	dir, _ := strings.CutPrefix(cfg.Source, "files:")
	return dir
}

func (cfg *Config) check() error {
	switch dir, isDir := strings.CutPrefix(cfg.Source, "files:"); {
	case cfg.Source == kubernetes && cfg.Cluster == nil:
		return errors.New("source kubernetes: there is no API server to read")
	case cfg.Source != "" && cfg.Source != kubernetes && (!isDir || dir == ""):
		return fmt.Errorf("source %q: want kubernetes or files:DIR", cfg.Source)
	}
	if cfg.Identity == nil && cfg.Destination == nil {
		return errors.New("neither identity nor destination is to run")
	}
	if i := cfg.Identity; i != nil && (i.Listener == nil || i.StateDir == "" && cfg.Cluster == nil) {
		return errors.New("identity wants a listener and a state directory, or --source kubernetes")
	}
	d := cfg.Destination
	if d == nil {
		return nil
	}
	if d.Listener == nil || cfg.Source == "" {
		return errors.New("destination wants a listener and a source")
	}
	if (cfg.Identity == nil || cfg.Cluster != nil) && (d.IdentityAddr == "" || d.TokenFile == "" || d.BundleDir == "") {
		return errors.New("destination without identity wants its address, a token file and a trust bundle directory")
	}
	return nil
}
