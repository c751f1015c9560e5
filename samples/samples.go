// Package samples holds the manifests of the sample shop (docs/shop.md), for tests that install it.
package samples

import "embed"

// Shop are the manifests, in the directory shop.
//
//go:embed shop/*.yaml
var Shop embed.FS
