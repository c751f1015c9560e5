// Package charts holds Tulle's Helm charts and renders them in-process, without a cluster and
// without the helm program.
//
// The same chart installed by `helm install` gives the same objects. Rendering is a pure function of
// Options: nothing random, no certificate and no time is in a template, so that what is applied again
// changes nothing.
//
// A chart's values are merged from its values.yaml, the profiles in their order (values-ha.yaml is the
// profile "ha"), Options.Values and Options.Set; the later wins. values.schema.json refuses what no
// template knows.
package charts
