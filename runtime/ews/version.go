package ews

import (
	"sync"
	"time"

	"github.com/ens-operator/ens-operator/runtime/config"
)

// version is a RequestServerVersion. A later one has everything that the earlier ones have.
type version int

// The ladder. Below its first step are servers without support from anybody (ews.md, section 1).
const (
	exchange2010SP1 version = iota
	exchange2010SP2         // ContactDataShape of ResolveNames
	exchange2013            // item:Preview
)

var versionNames = [...]config.ServerVersion{config.Exchange2010SP1, config.Exchange2010SP2, config.Exchange2013}

// String is the version as it is spelled on the wire.
func (v version) String() string { return string(versionNames[v]) }

// newestOf is the version that an endpoint's configuration caps requests at.
func newestOf(configured config.ServerVersion) version {
	for v, name := range versionNames {
		if name == configured {
			return version(v)
		}
	}
	return exchange2013
}

// A server that refused a version is asked with it again after this time: it may have been upgraded.
const versionMemoryTime = time.Hour

// versionMemory is the newest version that a server is believed to know.
type versionMemory struct {
	mu     sync.Mutex
	newest version
	// until is when the belief ends; zero is none.
	until time.Time
}

// newestVersion is the newest version that may be asked for now.
func (c *Client) newestVersion() version {
	newest := newestOf(c.options.Endpoint.ServerVersion)
	c.versions.mu.Lock()
	defer c.versions.mu.Unlock()
	if c.options.Clock.Now().Before(c.versions.until) {
		return min(newest, c.versions.newest)
	}
	return newest
}

// versionRefused remembers that the server does not know v.
func (c *Client) versionRefused(v version) {
	now := c.options.Clock.Now()
	c.versions.mu.Lock()
	defer c.versions.mu.Unlock()
	if now.Before(c.versions.until) && c.versions.newest < v {
		return // known already, from a request that was under way at the same time
	}
	c.versions.newest, c.versions.until = v-1, now.Add(versionMemoryTime)
}
