package main

import (
	"context"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// spdxType is the media type of SPDX documents in JSON.
const spdxType = types.MediaType("application/spdx+json")

// splitRef cuts "registry/name:tag".
func splitRef(ref string) (repository, tag string) {
	i := strings.LastIndexByte(ref, ':')
	return ref[:i], ref[i+1:]
}

// push uploads the index, and each platform's bill of materials as a referrer of its image (OCI
// distribution 1.1, "listing referrers").
func (b *built) push(ctx context.Context, insecure bool) error {
	var opts []name.Option
	if insecure {
		opts = append(opts, name.Insecure)
	}
	ref, err := name.NewTag(b.ref, opts...)
	if err != nil {
		return err
	}
	to := []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)}
	if err := remote.WriteIndex(ref, b.index, to...); err != nil {
		return err
	}
	for _, one := range b.boms {
		artifact, err := one.artifact()
		if err != nil {
			return err
		}
		digest, err := artifact.Digest()
		if err != nil {
			return err
		}
		if err := remote.Write(ref.Digest(digest.String()), artifact, to...); err != nil {
			return err
		}
	}
	return nil
}

// artifact is a manifest whose only layer is the document and whose subject is the image.
func (o bom) artifact() (v1.Image, error) {
	subject, err := partial.Descriptor(o.of)
	if err != nil {
		return nil, err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), spdxType)
	img, err = mutate.Append(img, mutate.Addendum{Layer: static.NewLayer(o.spdx, spdxType), MediaType: spdxType})
	if err != nil {
		return nil, err
	}
	out, ok := mutate.Subject(img, *subject).(v1.Image)
	if !ok {
		panic("BUG: an image with a subject is none")
	}
	return out, nil
}
