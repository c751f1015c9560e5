// Package image packs OCI images from files of this machine, without an engine: one layer, from
// scratch. It is for test images; what Tulle ships is packed elsewhere.
package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
)

// Config is what a container of the image does when its pod says nothing else.
type Config struct {
	Entrypoint, Cmd, Env []string
	User                 string // "uid" or "uid:gid"; empty means root
	WorkingDir           string
}

// descriptor points to a blob.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type object = map[string]any

// Write makes an archive in the OCI image layout, with an image named ref for GOARCH of this process.
func Write(to, ref string, c Config, files *Files) error {
	layer, plain, err := files.layer()
	if err != nil {
		return fmt.Errorf("image %s: %w", ref, err)
	}
	a := archive{}
	config := a.blob("application/vnd.oci.image.config.v1+json", marshal(object{
		"created": epoch.UTC(), "architecture": runtime.GOARCH, "os": "linux",
		"config": object{"Entrypoint": c.Entrypoint, "Cmd": c.Cmd, "Env": append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, c.Env...), "User": c.User, "WorkingDir": c.WorkingDir},
		"rootfs": object{"type": "layers", "diff_ids": []string{digest(plain)}},
	}))
	content := a.blob("application/vnd.oci.image.layer.v1.tar+gzip", layer)
	manifest := a.blob("application/vnd.oci.image.manifest.v1+json", marshal(object{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"config": config, "layers": []descriptor{content},
	}))
	// containerd takes the name from its own annotation, others from the standard's.
	manifest.Annotations = map[string]string{"io.containerd.image.name": ref, "org.opencontainers.image.ref.name": ref}
	a.file("index.json", marshal(object{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []descriptor{manifest},
	}))
	a.file("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	return a.write(to)
}

func marshal(o object) []byte {
	b, err := json.Marshal(o)
	if err != nil {
		panic("BUG: " + err.Error()) // plain maps and strings
	}
	return b
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// archive is the outer tar.
type archive struct {
	names   []string
	content [][]byte
}

func (a *archive) file(name string, content []byte) {
	a.names, a.content = append(a.names, name), append(a.content, content)
}

func (a *archive) blob(mediaType string, content []byte) descriptor {
	d := descriptor{MediaType: mediaType, Digest: digest(content), Size: len(content)}
	a.file(path.Join("blobs/sha256", d.Digest[len("sha256:"):]), content)
	return d
}

func (a *archive) write(to string) error {
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	w := tar.NewWriter(out)
	for n, name := range a.names {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(a.content[n])), ModTime: epoch}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := w.Write(a.content[n]); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return out.Close()
}

// compress favours speed: the archive is read once, on the machine that wrote it.
func compress(plain []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(w, bytes.NewReader(plain)); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil { // it writes the end
		return nil, err
	}
	return out.Bytes(), nil
}
