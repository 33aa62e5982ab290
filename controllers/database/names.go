// Package database makes and removes what a tenant has in Postgres: a schema, which the operator owns, a role that may
// read and write its rows, and the roles that the tenant's runtime logs in as.
//
// The operator's own role has CREATEROLE and is no superuser. Everything it does can be repeated.
package database

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/ens-operator/ens-operator/runtime/store/migrations"
)

const (
	// Postgres cuts identifiers after 63 bytes: 4 of prefix, at most 40 readable ones, 1, 10 of hash, 2 of a login
	// role's suffix, and a few to spare.
	maxReadable = 40
	hashBytes   = 5
)

// Names are what a tenant's things in the database are called.
type Names struct {
	// Schema is the schema's name and that of the role which holds the grants.
	Schema string
	// Logins are the login roles, which inherit from that role. There are two, so that a password can be changed
	// without a moment in which no password works: by switching to the other one.
	Logins [2]string
}

// NamesFor derives the names from the tenant: readable, and unique by a hash over the whole identity.
func NamesFor(tenant migrations.Identity) Names {
	sum := sha256.Sum256([]byte(tenant.ClusterID + "/" + tenant.Namespace + "/" + tenant.Name))
	schema := "ens_" + readable(tenant.Namespace+"_"+tenant.Name) + "_" + hex.EncodeToString(sum[:hashBytes])
	return Names{Schema: schema, Logins: [2]string{schema + "_a", schema + "_b"}}
}

func readable(text string) string {
	text = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(text))
	return text[:min(len(text), maxReadable)]
}

func (n Names) roles() []string { return []string{n.Schema, n.Logins[0], n.Logins[1]} }
