package diagnostics

import (
	"encoding/json"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// redacted stands where something was taken out.
const redacted = "REDACTED"

// secretName tells names whose values are nobody's business. It errs on the side of silence.
var secretName = regexp.MustCompile(`(?i)(passw(or)?d|passphrase|secret|token|api[-_]?key|credential|private[-_]?key|authorization|cookie|session[-_]?(id|key)|dsn$|connection[-_]?string)`)

// What gives itself away wherever it stands.
var (
	jwt        = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*`)
	bearer     = regexp.MustCompile(`(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}`)
	privateKey = regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)`)
	userinfo   = regexp.MustCompile(`([a-z][a-z0-9+.-]*://)[^/\s:@"']+:[^/\s@"']+@`)
	assigned   = regexp.MustCompile(`(?i)(["']?[a-z0-9_.-]*(?:passw(?:or)?d|passphrase|secret|token|api[-_]?key|credential)[a-z0-9_.-]*["']?\s*[=:]\s*)("[^"\n]*"|'[^'\n]*'|[^\s,;&"'}]+)`)
	query      = regexp.MustCompile(`(\?)[^\s"'#]*=[^\s"'#]*`)
)

// redactText takes out of logs and the like what looks secret: tokens, keys, passwords in addresses and
// assignments, query strings (R12.3).
func redactText(s string) string {
	s = privateKey.ReplaceAllString(s, redacted)
	s = jwt.ReplaceAllString(s, redacted)
	s = bearer.ReplaceAllString(s, "$1 "+redacted)
	s = userinfo.ReplaceAllString(s, "${1}"+redacted+"@")
	s = query.ReplaceAllString(s, "${1}"+redacted)
	return assigned.ReplaceAllStringFunc(s, func(m string) string {
		parts := assigned.FindStringSubmatch(m)
		if place.MatchString(parts[1]) {
			return m
		}
		return parts[1] + redacted
	})
}

// place tells settings that say where a secret is, and not what.
var place = regexp.MustCompile(`(?i)(file|path|dir|name|audience|lifetime|seconds)["']?\s*[=:]\s*$`)

// redactObject takes out of an object what it must not tell: data of Secrets, values of the environment
// and annotations with telling names, what kubectl applied last, who manages which field.
func redactObject(o *unstructured.Unstructured) {
	unstructured.RemoveNestedField(o.Object, "metadata", "managedFields")
	annotations := o.GetAnnotations()
	delete(annotations, "kubectl.kubernetes.io/last-applied-configuration")
	o.SetAnnotations(annotations)
	if o.GetKind() == "Secret" {
		for _, field := range []string{"data", "stringData"} {
			m, found, err := unstructured.NestedMap(o.Object, field)
			if err != nil || !found {
				unstructured.RemoveNestedField(o.Object, field)
				continue
			}
			for k := range m {
				m[k] = redacted
			}
			o.Object[field] = m
		}
		return
	}
	o.Object, _ = redactValue(o.Object).(map[string]any)
}

// redactValue walks through an object: maps with name and value are variables of the environment.
func redactValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if name, ok := v["name"].(string); ok {
			if text, has := v["value"].(string); has && !strings.HasPrefix(name, "TULLE_") && text != "" {
				v["value"] = redacted // an application's, whatever it is called
			}
		}
		for k, inner := range v {
			if text, isText := inner.(string); isText && secretName.MatchString(k) && text != "" && !structural[k] {
				v[k] = redacted
				continue
			}
			v[k] = redactValue(inner)
		}
		return v
	case []any:
		for i := range v {
			v[i] = redactValue(v[i])
		}
		return v
	case string:
		return redactText(v)
	}
	return v
}

// structural are fields of Kubernetes whose names sound secret and whose values name objects.
var structural = map[string]bool{"secretName": true, "imagePullSecret": true, "tokenExpirationSeconds": true, "automountServiceAccountToken": true}

// redactJSON redacts text that may be JSON.
func redactJSON(raw []byte) []byte {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return []byte(redactText(string(raw)))
	}
	b, err := json.MarshalIndent(redactValue(v), "", "  ")
	if err != nil {
		return nil
	}
	return append(b, '\n')
}
