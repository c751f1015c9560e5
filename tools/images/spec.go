package main

import (
	"fmt"
	"slices"
	"strings"
)

// image is one of Tulle's images.
type image struct {
	name, title string
	programs    []string // directories of cmd/, each a static binary in the root; the first is the entrypoint
	user        int      // who it runs as unless the pod says otherwise
}

// all are the images that make images builds. None holds certificates of authorities: proxies and
// control plane trust the mesh's own roots and the API server's, which are mounted.
func all() []image {
	return []image{
		{name: "tulle-proxy", title: "Tulle's proxy, and what redirects a pod's network to it", programs: []string{"tulle-proxy", "tulle-init"}, user: 2102},
		{name: "tulle-controller", title: "Tulle's control plane", programs: []string{"tulle-controller"}, user: 2103},
		{name: "tulle-shop", title: "The sample application of Tulle's documentation", programs: []string{"tulle-shop"}, user: 2104},
	}
}

// chosen are the images named, or all.
func chosen(names string) ([]image, error) {
	if names == "" {
		return all(), nil
	}
	var out []image
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(all(), func(one image) bool { return one.name == name })
		if i < 0 {
			return nil, fmt.Errorf("-image %s: there is no such image", name)
		}
		out = append(out, all()[i])
	}
	return out, nil
}
