package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// The parts of SPDX 2.3 (https://spdx.github.io/spdx-spec/v2.3/) that a list of Go modules needs.
type (
	document struct {
		SPDXVersion       string         `json:"spdxVersion"`
		DataLicense       string         `json:"dataLicense"`
		SPDXID            string         `json:"SPDXID"`
		Name              string         `json:"name"`
		DocumentNamespace string         `json:"documentNamespace"`
		CreationInfo      creation       `json:"creationInfo"`
		Packages          []spdxPackage  `json:"packages"`
		Relationships     []relationship `json:"relationships"`
	}
	creation struct {
		Created  string   `json:"created"`
		Creators []string `json:"creators"`
	}
	spdxPackage struct {
		SPDXID           string      `json:"SPDXID"`
		Name             string      `json:"name"`
		VersionInfo      string      `json:"versionInfo"`
		DownloadLocation string      `json:"downloadLocation"`
		FilesAnalyzed    bool        `json:"filesAnalyzed"`
		LicenseConcluded string      `json:"licenseConcluded"`
		LicenseDeclared  string      `json:"licenseDeclared"`
		CopyrightText    string      `json:"copyrightText"`
		Checksums        []checksum  `json:"checksums,omitempty"`
		ExternalRefs     []reference `json:"externalRefs,omitempty"`
	}
	checksum struct {
		Algorithm     string `json:"algorithm"`
		ChecksumValue string `json:"checksumValue"`
	}
	reference struct {
		Category string `json:"referenceCategory"`
		Type     string `json:"referenceType"`
		Locator  string `json:"referenceLocator"`
	}
	relationship struct {
		Element string `json:"spdxElementId"`
		Type    string `json:"relationshipType"`
		Related string `json:"relatedSpdxElement"`
	}
)

const noAssertion = "NOASSERTION"

// spdx is the bill of materials of an image: its programs, the modules that each links and the Go that
// made it, all from what the linker wrote into the binaries.
func spdx(c content) ([]byte, error) {
	d := document{
		SPDXVersion: "SPDX-2.3", DataLicense: "CC0-1.0", SPDXID: "SPDXRef-DOCUMENT",
		Name: fmt.Sprintf("%s %s %s/%s", c.image.name, c.version, c.platform.OS, c.platform.Architecture),
		CreationInfo: creation{
			Created:  created(c.programs).Format(time.RFC3339),
			Creators: []string{"Organization: The Tulle authors", "Tool: tulle-images"},
		},
	}
	sums := sha256.New()
	linked := map[string]spdxPackage{}
	for _, p := range c.programs {
		sum := sha256.Sum256(p.data)
		sums.Write(sum[:])
		own := spdxPackage{
			SPDXID: id("program", p.name), Name: p.name, VersionInfo: c.version, DownloadLocation: noAssertion,
			LicenseConcluded: "Apache-2.0", LicenseDeclared: "Apache-2.0", CopyrightText: noAssertion,
			Checksums: []checksum{{"SHA256", hex.EncodeToString(sum[:])}},
		}
		d.Packages = append(d.Packages, own)
		d.Relationships = append(d.Relationships, relationship{d.SPDXID, "DESCRIBES", own.SPDXID})
		for _, m := range modules(p) {
			linked[m.SPDXID] = m
			d.Relationships = append(d.Relationships, relationship{own.SPDXID, "DEPENDS_ON", m.SPDXID})
		}
	}
	var rest []spdxPackage
	for _, m := range linked {
		rest = append(rest, m)
	}
	slices.SortFunc(rest, func(a, b spdxPackage) int { return cmp.Compare(a.SPDXID, b.SPDXID) })
	d.Packages = append(d.Packages, rest...)
	d.DocumentNamespace = "https://github.com/tulle-mesh/tulle/spdx/" + c.image.name + "/" + hex.EncodeToString(sums.Sum(nil))
	out, err := json.MarshalIndent(d, "", " ")
	return append(out, '\n'), err
}

// modules are what p links, Go's standard library first.
func modules(p program) []spdxPackage {
	all := []spdxPackage{module("stdlib", strings.TrimPrefix(p.info.GoVersion, "go"))}
	for _, m := range p.info.Deps {
		all = append(all, module(effective(m).Path, effective(m).Version))
	}
	return all
}

// effective is the module that a replacement names, if there is one.
func effective(m *debug.Module) *debug.Module {
	if m.Replace != nil {
		return m.Replace
	}
	return m
}

// module is a Go module as a package with its package URL, https://github.com/package-url/purl-spec.
func module(path, version string) spdxPackage {
	return spdxPackage{
		SPDXID: id("module", path+"-"+version), Name: path, VersionInfo: version, DownloadLocation: noAssertion,
		LicenseConcluded: noAssertion, LicenseDeclared: noAssertion, CopyrightText: noAssertion,
		ExternalRefs: []reference{{"PACKAGE-MANAGER", "purl", "pkg:golang/" + path + "@" + url.PathEscape(version)}},
	}
}

// id is an identifier of letters, digits, "." and "-".
func id(kind, name string) string {
	return "SPDXRef-" + kind + "-" + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.':
			return r
		}
		return '-'
	}, name)
}
