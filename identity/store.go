package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Names within AuthorityConfig.Dir.
const (
	stateFile = "authority.json"
	// BundleDir holds nothing but the trust bundle, so that it can be mounted by proxies.
	BundleDir = "bundle"
	// BundleFile is the bundle in it.
	BundleFile = "trust-bundle.pem"
	// rotateFile asks the service that runs for a new root.
	rotateFile = "rotate"
)

// The whole authority is one file, so that a step of a rotation is on disk or is not.
type storedState struct {
	TrustDomain string       `json:"trustDomain"`
	Version     uint64       `json:"version"`
	Roots       []storedRoot `json:"roots"`
	Issuer      storedIssuer `json:"issuer"`
}

type storedRoot struct {
	Certificate string    `json:"certificate"`
	Key         string    `json:"key,omitempty"`
	Version     uint64    `json:"version"`
	Added       time.Time `json:"added"`
	Promoted    time.Time `json:"promoted,omitzero"`
	Superseded  time.Time `json:"superseded,omitzero"`
	// LeafSeconds is root.leaf.
	LeafSeconds int64 `json:"leafSeconds,omitzero"`
}

type storedIssuer struct {
	Certificate string `json:"certificate"`
	Key         string `json:"key,omitempty"`
}

// loadState reads the state of cfg.Dir; nil without an error when there is none.
func loadState(cfg AuthorityConfig) (*state, error) {
	if cfg.Dir == "" {
		return nil, nil
	}
	path := filepath.Join(cfg.Dir, stateFile)
	data, err := readPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var st storedState
	if err := json.Unmarshal(data, &st); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if st.TrustDomain != cfg.TrustDomain {
		return nil, fmt.Errorf("%s is of the trust domain %q, not %q: use another directory", path, st.TrustDomain, cfg.TrustDomain)
	}
	s, err := st.state()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

func (st *storedState) state() (*state, error) {
	s := &state{version: st.Version}
	var err error
	if s.roots, err = st.rootsOf(); err != nil {
		return nil, err
	}
	cert, err := parseCertPEM(st.Issuer.Certificate)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	s.issuer = issuer{cert: cert, chain: []*x509.Certificate{cert}}
	if st.Issuer.Key != "" { // none: it was given by files then
		if s.issuer.key, err = parseKeyPEM([]byte(st.Issuer.Key)); err != nil {
			return nil, fmt.Errorf("issuer: %w", err)
		}
	}
	return s, nil
}

func (st *storedState) rootsOf() ([]root, error) {
	var roots []root
	for i, sr := range st.Roots {
		cert, err := parseCertPEM(sr.Certificate)
		if err != nil {
			return nil, fmt.Errorf("root %d: %w", i, err)
		}
		r := root{cert: cert, version: sr.Version, added: sr.Added, promoted: sr.Promoted, superseded: sr.Superseded,
			leaf: time.Duration(sr.LeafSeconds) * time.Second}
		if sr.Key != "" {
			if r.key, err = parseKeyPEM([]byte(sr.Key)); err != nil {
				return nil, fmt.Errorf("root %d: %w", i, err)
			}
		}
		roots = append(roots, r)
	}
	if len(roots) == 0 {
		return nil, errors.New("it holds no root")
	}
	return roots, nil
}

// stored is the state but for the issuer.
func (s *state) stored(trustDomain string) (*storedState, error) {
	st := &storedState{TrustDomain: trustDomain, Version: s.version}
	for _, r := range s.roots {
		key, err := keyPEM(r.key)
		if err != nil {
			return nil, err
		}
		st.Roots = append(st.Roots, storedRoot{
			Certificate: string(certPEM(r.cert)), Key: key, Version: r.version,
			Added: r.added.UTC(), Promoted: r.promoted.UTC(), Superseded: r.superseded.UTC(),
			LeafSeconds: int64(r.leaf / time.Second),
		})
	}
	return st, nil
}

// saveState puts s into cfg.Dir, the authority first: a bundle never names a root that is not kept.
func saveState(cfg AuthorityConfig, s *state) error {
	if cfg.Dir == "" {
		return nil
	}
	st, err := s.stored(cfg.TrustDomain)
	if err != nil {
		return err
	}
	st.Issuer.Certificate = string(certPEM(s.issuer.cert))
	if cfg.Given == nil { // a given key stays in its own file
		key, err := keyPEM(s.issuer.key)
		if err != nil {
			return err
		}
		st.Issuer.Key = key
	}
	data, err := json.MarshalIndent(st, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(cfg.Dir, BundleDir), 0o755); err != nil {
		return err
	}
	if err := writeAtomic(filepath.Join(cfg.Dir, stateFile), append(data, '\n'), 0o600); err != nil {
		return err
	}
	return writeAtomic(filepath.Join(cfg.Dir, BundleDir, BundleFile), s.bundlePEM(), 0o644)
}

func parseCertPEM(s string) (*x509.Certificate, error) {
	certs, err := parseCertsPEM([]byte(s))
	if err != nil {
		return nil, err
	}
	return certs[0], nil
}

// parseCertsPEM reads at least one certificate; other blocks are refused.
func parseCertsPEM(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			break
		}
		if b.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("unexpected PEM block %q", b.Type)
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate in PEM")
	}
	return certs, nil
}

func keyPEM(k crypto.Signer) (string, error) {
	if k == nil {
		return "", nil
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), nil
}

func parseKeyPEM(data []byte) (crypto.Signer, error) {
	b, _ := pem.Decode(data)
	if b == nil {
		return nil, errors.New("no private key in PEM")
	}
	if b.Type == "EC PRIVATE KEY" { // what openssl writes
		k, err := x509.ParseECPrivateKey(b.Bytes)
		if err != nil {
			return nil, err
		}
		return k, nil
	}
	k, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		return nil, err
	}
	if s, ok := k.(crypto.Signer); ok {
		return s, nil
	}
	return nil, fmt.Errorf("a key of type %T cannot sign", k)
}

func parseECKeyPEM(data []byte) (*ecdsa.PrivateKey, error) {
	k, err := parseKeyPEM(data)
	if err != nil {
		return nil, err
	}
	if ec, ok := k.(*ecdsa.PrivateKey); ok {
		return ec, nil
	}
	return nil, fmt.Errorf("want an ECDSA key, got %T", k)
}

// readPrivate reads a file that nobody else may read.
func readPrivate(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if m := info.Mode().Perm(); m&0o077 != 0 {
		return nil, fmt.Errorf("%s holds keys and has mode %#o: chmod 600 it, and consider them known", path, m)
	}
	return os.ReadFile(path)
}

// writeAtomic replaces path by data, whole or not at all, over a crash too.
func writeAtomic(path string, data []byte, mode fs.FileMode) error {
	return writeAs(path, data, mode, os.Rename)
}

// writeFirst writes a file with a secret likewise, unless there is one: then the error is fs.ErrExist.
func writeFirst(path string, data []byte) error { return writeAs(path, data, 0o600, os.Link) }

// writeAs writes a file under another name, which name makes path.
func writeAs(path string, data []byte, mode fs.FileMode, name func(from, to string) error) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".*.new") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when all went well
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := name(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes a rename within dir outlive a crash.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// AskForRoot has the identity service of a state directory make a new root, now or when it runs next.
// The root comes into use as every other one: when all who follow the bundle know it.
func AskForRoot(dir string) error {
	if !isFile(dir, stateFile) {
		return fmt.Errorf("%s holds no authority", dir)
	}
	return writeAtomic(filepath.Join(dir, rotateFile), []byte("a new root was asked for\n"), 0o600)
}

func isFile(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}

func removeFile(dir, name string) error {
	err := os.Remove(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
