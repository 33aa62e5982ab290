package main

import (
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/types"
)

// billMediaType is that of CycloneDX in JSON.
const billMediaType types.MediaType = "application/vnd.cyclonedx+json"

// bill is a software bill of materials, CycloneDX 1.6: https://cyclonedx.org/docs/1.6/json/
type bill struct {
	Format      string       `json:"bomFormat"`
	SpecVersion string       `json:"specVersion"`
	Version     int          `json:"version"`
	Metadata    billMetadata `json:"metadata"`
	Components  []component  `json:"components"`
}

type billMetadata struct {
	Timestamp string    `json:"timestamp"`
	Component component `json:"component"`
}

type component struct {
	Type    string `json:"type"`
	Ref     string `json:"bom-ref"`
	Name    string `json:"name"`
	Version string `json:"version"`
	URL     string `json:"purl"`
}

// billOfMaterials lists the modules that the go command says it built the program from, and Go's own library.
func (r release) billOfMaterials(file string, p program) ([]byte, error) {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading what %s was built from: %w", p.name, err)
	}
	b := bill{
		Format:      "CycloneDX",
		SpecVersion: "1.6",
		Version:     1,
		Metadata: billMetadata{
			Timestamp: r.when.Format(time.RFC3339),
			Component: newComponent("application", info.Path, r.version),
		},
		Components: []component{newComponent("library", "std", strings.TrimPrefix(info.GoVersion, "go"))},
	}
	b.Metadata.Component.Name = p.name
	for _, module := range info.Deps {
		b.Components = append(b.Components, moduleComponent(module))
	}
	return json.MarshalIndent(b, "", "  ")
}

func moduleComponent(module *debug.Module) component {
	if module.Replace != nil {
		module = module.Replace
	}
	return newComponent("library", module.Path, module.Version)
}

func newComponent(kind, name, version string) component {
	url := "pkg:golang/" + name + "@" + strings.ReplaceAll(version, "+", "%2B")
	return component{Type: kind, Ref: url, Name: name, Version: version, URL: url}
}
