package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	typedcore "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/util/retry"

	"github.com/tulle-mesh/tulle/identity"
)

// What Secrets and their annotations hold besides tls.crt and tls.key.
const (
	stateKey = "authority.json"
	caKey    = "ca.crt"

	annotationVersion = "tulle.dev/version" // that the issuer came with
	annotationRotate  = "tulle.dev/rotate"  // on the root: somebody asks for a new one
)

// callTime bounds one call of the API server.
const callTime = 10 * time.Second

// Secrets is an identity.Keep: the authority in two Secrets of type kubernetes.io/tls. Every write says
// what it replaces, so that of two replicas one wins and the other reads again.
type Secrets struct {
	api  typedcore.SecretInterface
	base context.Context //nolint:containedctx // the process's own: an authority changes when it is due, for no caller
}

// NewSecrets keeps an authority in a namespace until ctx ends.
func NewSecrets(ctx context.Context, client kubernetes.Interface, namespace string) *Secrets {
	return &Secrets{api: client.CoreV1().Secrets(namespace), base: ctx}
}

// revision is what was read.
type revision struct{ root, issuer *corev1.Secret }

// Read implements identity.Keep.
func (s *Secrets) Read() (identity.Kept, error) {
	var at revision
	var err error
	if at.root, err = s.get(RootSecret); err != nil {
		return identity.Kept{}, err
	}
	if at.issuer, err = s.get(IssuerSecret); err != nil {
		return identity.Kept{}, err
	}
	k := identity.Kept{Revision: at}
	if r := at.root; r != nil {
		k.State, k.Root, k.RootKey = r.Data[stateKey], r.Data[corev1.TLSCertKey], r.Data[corev1.TLSPrivateKeyKey]
		k.GivenRoot = r.Labels[managedLabel] != ManagedBy
		_, k.Rotate = r.Annotations[annotationRotate]
	}
	i := at.issuer
	if i == nil {
		return k, nil
	}
	k.Issuer, k.IssuerKey = i.Data[corev1.TLSCertKey], i.Data[corev1.TLSPrivateKeyKey]
	if k.GivenIssuer = i.Labels[managedLabel] != ManagedBy; !k.GivenIssuer {
		// An unreadable version is 0: the root's counts then.
		k.IssuerVersion, _ = strconv.ParseUint(i.Annotations[annotationVersion], 10, 64)
		return k, nil
	}
	k.CA = i.Data[caKey]
	for _, secret := range []*corev1.Secret{at.root, i} {
		if secret == nil {
			continue
		}
		v, err := strconv.ParseUint(secret.ResourceVersion, 10, 64) // KEP-5504: they are ordered
		if err != nil {
			return identity.Kept{}, fmt.Errorf("secret %s: its version: %w", secret.Name, err)
		}
		k.IssuerVersion = max(k.IssuerVersion, v)
	}
	return k, nil
}

// get returns nil for a Secret that is not there.
func (s *Secrets) get(name string) (*corev1.Secret, error) {
	ctx, cancel := context.WithTimeout(s.base, callTime)
	defer cancel()
	secret, err := s.api.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w: %w", name, identity.ErrAway, err)
	}
	return secret, nil
}

// Write implements identity.Keep. The root comes first: a replica that ends in between leaves an issuer
// of the root before, which is in the bundle still and is replaced by whoever leads next.
func (s *Secrets) Write(read, next identity.Kept) error {
	at, _ := read.Revision.(revision)
	root := map[string][]byte{stateKey: next.State}
	if !next.GivenRoot {
		root[corev1.TLSCertKey], root[corev1.TLSPrivateKeyKey] = next.Root, next.RootKey
	}
	err := s.put(at.root, RootSecret, func(o *corev1.Secret) {
		maps.Copy(o.Data, root)
		if !next.Rotate {
			delete(o.Annotations, annotationRotate)
		}
	})
	if err != nil || next.GivenIssuer {
		return err
	}
	return s.put(at.issuer, IssuerSecret, func(o *corev1.Secret) {
		o.Data[corev1.TLSCertKey], o.Data[corev1.TLSPrivateKeyKey] = next.Issuer, next.IssuerKey
		o.Annotations[annotationVersion] = strconv.FormatUint(next.IssuerVersion, 10)
	})
}

// put creates a Secret, or replaces the one that was read if anything differs.
func (s *Secrets) put(was *corev1.Secret, name string, change func(*corev1.Secret)) error {
	ctx, cancel := context.WithTimeout(s.base, callTime)
	defer cancel()
	var err error
	if was == nil {
		next := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels()}, Type: corev1.SecretTypeTLS}
		next.Data, next.Annotations = map[string][]byte{}, map[string]string{}
		change(next)
		_, err = s.api.Create(ctx, next, metav1.CreateOptions{})
	} else {
		next := was.DeepCopy()
		if next.Data == nil {
			next.Data = map[string][]byte{}
		}
		if next.Annotations == nil {
			next.Annotations = map[string]string{}
		}
		change(next)
		if maps.Equal(next.Annotations, was.Annotations) && maps.EqualFunc(next.Data, was.Data, bytes.Equal) {
			return nil
		}
		_, err = s.api.Update(ctx, next, metav1.UpdateOptions{})
	}
	switch {
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), apierrors.IsNotFound(err):
		return errors.Join(identity.ErrConflict, err)
	case err != nil:
		return fmt.Errorf("secret %s: %w", name, err)
	}
	return nil
}

// AskForRoot has the identity service of a namespace make a new root. It does with the rights that the service itself has,
// so that it can be asked in its own pod.
func AskForRoot(ctx context.Context, client kubernetes.Interface, namespace string, now time.Time) error {
	secrets := client.CoreV1().Secrets(namespace)
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		secret, err := secrets.Get(ctx, RootSecret, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("secret %s: %w", RootSecret, err)
		}
		if secret.Labels[managedLabel] != ManagedBy {
			return fmt.Errorf("secret %s was not made by Tulle: rotate it where it was made", RootSecret)
		}
		if secret.Annotations == nil {
			secret.Annotations = map[string]string{}
		}
		secret.Annotations[annotationRotate] = now.UTC().Format(time.RFC3339)
		if _, err := secrets.Update(ctx, secret, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("secret %s: %w", RootSecret, err)
		}
		return nil
	})
}
