package controllers_test

import (
	"net/url"

	corev1 "k8s.io/api/core/v1"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/hack/testenv"
)

// ownCrash is a tenant's own database, which the operator reaches by way of the process's fuse.
type ownCrash struct {
	*testenv.Database
	proxy *databaseProxy
}

// ownDatabaseStories are about a tenant with a database of its own.
func ownDatabaseStories() map[string]crashStory {
	create := func(c *crashStage) {
		c.makeOwn()
		for _, object := range samples(c.t) {
			inOwn(object)
			c.apply(object)
		}
		c.standIn()
	}
	otherPassword := func(c *crashStage) {
		execute(c.stage, c.own.SuperuserURL, "ALTER ROLE "+c.own.Owner+" PASSWORD '"+nextOwnPassword+"'")
		c.tell("url", c.ownURL(nextOwnPassword))
	}
	destroy := func(c *crashStage) {
		change(c.stage, c.acme(), "acme", func(o *api.EnsTenant) { o.Spec.DeletionPolicy = api.DeletionDelete })
	}
	remove := func(c *crashStage) { c.remove(&api.EnsTenant{}, "acme") }
	return map[string]crashStory{
		"a tenant is made with a database of its own":           {change: create, check: inItsOwn},
		"its own database has another password":                 {before: []func(*crashStage){create}, change: otherPassword, check: inItsOwn},
		"a tenant is deleted with the data in its own database": {before: []func(*crashStage){create, destroy}, change: remove, check: nothingLeftInOwn},
	}
}

const nextOwnPassword = "the-next-password"

// makeOwn makes the database and the Secret with its URL.
func (c *crashStage) makeOwn() {
	c.t.Helper()
	c.own = &ownCrash{Database: ownDatabase(c.stage)}
	location, err := url.Parse(c.own.URL)
	if err != nil {
		c.t.Fatal(err)
	}
	c.own.proxy = startDatabaseProxy(c.t, &fuse{}, location.Host)
	password, _ := location.User.Password()
	c.tell("url", c.ownURL(password))
}

// ownURL leads to the tenant's own database by way of the fuse.
func (c *crashStage) ownURL(password string) string {
	c.t.Helper()
	location, err := url.Parse(c.own.URL)
	if err != nil {
		c.t.Fatal(err)
	}
	location.User, location.Host = url.UserPassword(c.own.Owner, password), c.own.proxy.address
	return location.String()
}

// inItsOwn is for a tenant that works, with its data in its own database and nothing in the shared one.
func inItsOwn(c *crashStage, before, crashed, after keptValues) {
	c.t.Helper()
	c.sameKeys(before, crashed, after)
	c.sameToken(before, crashed, after)
	c.told()
	if role := roleOf(c.t, c.databaseURL()); role != c.own.Owner || count(c.stage, c.own.Database, schemas, c.names().Schema) != 1 {
		c.t.Errorf("pods log in as %s, or there is no schema", role)
	}
	if c.schemaExists() || len(c.passwords()) != 0 {
		c.t.Error("something was made in the shared database")
	}
}

func nothingLeftInOwn(c *crashStage, before, _, after keptValues) {
	c.t.Helper()
	const settings = "SELECT count(*) FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole WHERE r.rolname = $1"
	if len(before) == 0 || len(after) != 0 || count(c.stage, c.own.Database, schemas, c.names().Schema) != 0 ||
		count(c.stage, c.own.Database, settings, c.own.Owner) != 0 {
		c.t.Errorf("%d Secrets, the schema or settings of the role are left", len(after))
	}
	if !c.there(&corev1.Secret{}, "own") {
		c.t.Error("the Secret with the URL is gone, which is the user's")
	}
	c.onlyGarbage()
}
