package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/tulle-mesh/tulle/internal/logkey"
)

// keepEvery is how often the certificate and the caBundle are looked at when nothing tells of a change.
const keepEvery = time.Minute

// keeper keeps the certificate and what the API server trusts. Every replica has one; they agree through
// the Secret.
type keeper struct {
	client    kubernetes.Interface
	namespace string
	now       func() time.Time
	log       *zap.Logger
	counts    *counts

	cert    atomic.Pointer[tls.Certificate]
	trusted atomic.Bool // the API server's caBundle has the certificate's authority
	wake    chan struct{}
	lastErr string // of the loop alone: repeated failures are logged on change
}

// names are what the API server may call the Service.
func (k *keeper) names() []string {
	return []string{Service + "." + k.namespace + ".svc", Service + "." + k.namespace}
}

// changed has the loop look now.
func (k *keeper) changed() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// run keeps everything until ctx ends.
func (k *keeper) run(ctx context.Context) error {
	retry := time.Second
	for {
		wait := keepEvery
		if err := k.keep(ctx); err != nil && ctx.Err() == nil {
			k.tell(err)
			wait, retry = retry, min(2*retry, 30*time.Second)
		} else {
			k.tell(nil)
			retry = time.Second
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-k.wake:
			t.Stop()
		case <-t.C:
		}
	}
}

func (k *keeper) tell(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != k.lastErr && text != "" {
		k.log.Warn("the webhook's certificate or caBundle cannot be kept", zap.Error(err))
	}
	k.lastErr = text
}

// keep brings the certificate and the caBundle up to date.
func (k *keeper) keep(ctx context.Context) error {
	d, err := k.secret(ctx)
	if err != nil {
		return err
	}
	cert, err := d.certificate(certKey, keyKey)
	if err != nil {
		return err
	}
	k.cert.Store(cert)
	k.counts.expiry.Set(float64(cert.Leaf.NotAfter.Unix()))
	if err := k.publish(ctx, d[bundleKey]); err != nil {
		k.trusted.Store(false)
		return err
	}
	k.trusted.Store(true)
	return nil
}

// secret returns what the Secret holds after the step that was due. Replicas race: who loses reads what the
// winner wrote.
func (k *keeper) secret(ctx context.Context) (data, error) {
	secrets := k.client.CoreV1().Secrets(k.namespace)
	for range 10 {
		s, err := secrets.Get(ctx, Secret, metav1.GetOptions{})
		missing := apierrors.IsNotFound(err)
		if err != nil && !missing {
			return nil, fmt.Errorf("read Secret %s/%s: %w", k.namespace, Secret, err)
		}
		if missing {
			s = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: Secret, Namespace: k.namespace}, Type: corev1.SecretTypeTLS}
		}
		d, did, err := step(s.Data, k.names(), k.now())
		if err != nil || did == "" {
			return d, err
		}
		s.Data = d
		if missing {
			_, err = secrets.Create(ctx, s, metav1.CreateOptions{})
		} else {
			_, err = secrets.Update(ctx, s, metav1.UpdateOptions{})
		}
		switch {
		case apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err):
		case err != nil:
			return nil, fmt.Errorf("write Secret %s/%s: %w", k.namespace, Secret, err)
		default:
			k.counts.rotations.WithLabelValues(did).Inc()
			k.log.Info("rotation of the webhook's certificate", zap.String("step", did))
			return d, nil
		}
	}
	return nil, fmt.Errorf("secret %s/%s is written by others all the time", k.namespace, Secret)
}

// publish sets the caBundle of every webhook of ours where it differs.
func (k *keeper) publish(ctx context.Context, bundle []byte) error {
	hooks := k.client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	cfg, err := hooks.Get(ctx, WebhookConfig, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read MutatingWebhookConfiguration %s: %w", WebhookConfig, err)
	}
	patch := caBundlePatch(cfg, bundle)
	if patch == nil {
		return nil
	}
	if _, err := hooks.Patch(ctx, WebhookConfig, types.StrategicMergePatchType, patch, metav1.PatchOptions{FieldManager: Service}); err != nil {
		return fmt.Errorf("set the caBundle of MutatingWebhookConfiguration %s: %w", WebhookConfig, err)
	}
	k.log.Info("caBundle set", zap.String(logkey.Name, WebhookConfig))
	return nil
}

// caBundlePatch is what must change in cfg, nil for nothing. It names webhooks by their key and sets no
// other field: whoever applies the manifest again keeps what is set here, and the other way round.
func caBundlePatch(cfg *admissionregistrationv1.MutatingWebhookConfiguration, bundle []byte) []byte {
	type client struct {
		CABundle []byte `json:"caBundle"`
	}
	type hook struct {
		Name         string `json:"name"`
		ClientConfig client `json:"clientConfig"`
	}
	var all []hook
	for _, w := range cfg.Webhooks {
		if !bytes.Equal(w.ClientConfig.CABundle, bundle) {
			all = append(all, hook{w.Name, client{bundle}})
		}
	}
	if all == nil {
		return nil
	}
	b, err := json.Marshal(map[string]any{"webhooks": all})
	if err != nil {
		panic("BUG: a patch cannot be written: " + err.Error())
	}
	return b
}

// certificate is what the server shows.
func (k *keeper) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := k.cert.Load(); c != nil {
		return c, nil
	}
	return nil, errors.New("there is no certificate yet")
}

// missing says what keeps the API server from calling.
func (k *keeper) missing() string {
	c := k.cert.Load()
	switch {
	case c == nil:
		return "no certificate yet: Secret " + k.namespace + "/" + Secret
	case !k.now().Before(c.Leaf.NotAfter):
		return "the certificate expired at " + c.Leaf.NotAfter.Format(time.RFC3339)
	case !k.trusted.Load():
		return "the caBundle of MutatingWebhookConfiguration " + WebhookConfig + " is not set"
	}
	return ""
}
