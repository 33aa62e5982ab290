package controllers_test

import (
	"bytes"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers"
	"github.com/ens-operator/ens-operator/hack/testenv"
)

// crashStory is something that a user asks for, at each change of which the operator dies once. A further rotation is a
// further story.
type crashStory struct {
	// before leads to where the story begins; each step is followed by an undisturbed run.
	before []func(*crashStage)
	// change is what the user asks for.
	change func(*crashStage)
	// again leads from the end of a round to the beginning of the next, as before does from nothing: making everything anew
	// takes long. Nil has each round begin in a namespace of its own.
	again []func(*crashStage)
	// around is what others do in the cluster whenever the operator has nothing left to do, nil for nothing; it returns whom
	// that wakes.
	around func(*crashStage) []types.NamespacedName
	// check looks at what must hold beyond having the same objects: kept are the Secrets that outlive a tenant, before the
	// change, after the crash, and at the end.
	check func(c *crashStage, before, crashed, after keptValues)
}

func crashStories() map[string]crashStory {
	create := func(c *crashStage) { c.applySamples(nil); c.standIn() }
	remove := func(c *crashStage) { c.remove(&api.EnsTenant{}, "acme") }
	destroy := func(c *crashStage) {
		change(c.stage, c.acme(), "acme", func(o *api.EnsTenant) { o.Spec.DeletionPolicy = api.DeletionDelete })
	}
	annotate := func(key, value string) func(*crashStage) {
		return func(c *crashStage) {
			change(c.stage, c.acme(), "acme", func(o *api.EnsTenant) { o.Annotations = map[string]string{key: value} })
		}
	}
	rotateKeys, rotatePassword := annotate(api.AnnotationRotateKeys, "ticket 17"), annotate(api.AnnotationRotateDatabasePassword, "ticket 17")
	stories := map[string]crashStory{
		"a tenant is made":                              {change: create, check: stillItsOwn},
		"a tenant is made anew upon what was kept":      {before: []func(*crashStage){create, remove, (*crashStage).sweep}, change: create, check: stillItsOwn},
		"everything optional is asked for":              {before: []func(*crashStage){create}, change: extend, check: stillItsOwn},
		"nothing optional is asked for any more":        {before: []func(*crashStage){create, extend}, change: reduce, check: stillItsOwn},
		"another API token is asked for":                {before: []func(*crashStage){create}, change: annotate(api.AnnotationRotateAPIToken, "ticket 17"), check: oneTokenMore},
		"the API token before comes to its end":         {before: []func(*crashStage){create, annotate(api.AnnotationRotateAPIToken, "ticket 17")}, change: pass(40 * 24 * time.Hour), check: previousTokenEnded},
		"other keys are asked for":                      {before: []func(*crashStage){create}, change: rotateKeys, check: oneKeyMore},
		"another database password is asked for":        {before: []func(*crashStage){create}, change: rotatePassword, check: otherLoginTold},
		"the database password before comes to its end": {before: []func(*crashStage){create, rotatePassword}, change: pass(4 * time.Minute), check: otherLoginOnly},
		"a tenant is deleted, and its data are kept":    {before: []func(*crashStage){create}, change: remove, check: everythingKept},
		"a tenant is deleted with its data":             {before: []func(*crashStage){create, destroy}, change: remove, check: nothingLeft},
	}
	for _, more := range []map[string]crashStory{ownDatabaseStories(), rolloutStories(), certificateStories()} {
		maps.Copy(stories, more)
	}
	return stories
}

func extend(c *crashStage) {
	change(c.stage, c.acme(), "acme", func(o *api.EnsTenant) {
		o.Spec.Runtime.Image = "registry.example.com/ens-runtime:next"
		o.Spec.Runtime.Replicas = nil
		o.Spec.Runtime.Autoscaling = &api.TenantAutoscaling{MinReplicas: 3, MaxReplicas: 9}
		o.Spec.NetworkPolicy = &api.TenantNetworkPolicy{Enabled: true}
		o.Spec.Exposure = &api.TenantExposure{Ingress: &api.IngressExposure{ClassName: "traefik"}}
	})
}

func reduce(c *crashStage) {
	change(c.stage, c.acme(), "acme", func(o *api.EnsTenant) {
		o.Spec.Runtime.Image, o.Spec.Runtime.Autoscaling, o.Spec.Runtime.Replicas = "", nil, new(int32(2))
		o.Spec.NetworkPolicy, o.Spec.Exposure = nil, nil
	})
}

func pass(d time.Duration) func(*crashStage) {
	return func(c *crashStage) { c.clock.SetTime(c.clock.Now().Add(d)) }
}

// The operator dies at every one of its changes, in every story, and the next process brings it to the same end. Or the
// answer to the change is lost, and the same process does.
func TestAnEndAtAnyChangeLeadsToTheSame(t *testing.T) {
	t.Parallel()
	o, config := withoutOperator(t)
	installCRDs(t, &stage{operator: o}, "github.com/cert-manager/cert-manager", filepath.Join("deploy", "crds", "cert-manager.io_certificates.yaml"))
	// The stories run at once, within a group, so that the servers outlive them.
	t.Run("at once", func(t *testing.T) {
		for name, story := range crashStories() {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				story.tell(t, o, config)
			})
		}
	})
}

// withoutOperator starts servers that no operator looks at, and returns how one gets to them.
func withoutOperator(t *testing.T) (*operator, *rest.Config) {
	t.Helper()
	kube, err := testenv.StartKube(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := kube.Stop(); err != nil {
			t.Error(err)
		}
	})
	scheme, err := controllers.NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	clients, err := client.NewWithWatch(kube.Config(), client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	config, err := limitedUser(t.Context(), kube, clients)
	if err != nil {
		t.Fatal(err)
	}
	return &operator{kube: kube, postgres: testenv.Postgres(t).NewDatabase(t), clients: clients}, config
}

// tell tells the story undisturbed, then once with each end and each lost answer.
func (story crashStory) tell(t *testing.T, o *operator, config *rest.Config) {
	var c *crashStage
	round := func(f *fuse) ([]string, string) {
		switch {
		case c != nil && story.again != nil:
			story.lead(c, story.again)
		case c != nil:
			c.dropRest()
			fallthrough
		default:
			c = newCrashStage(t, o, config)
			story.lead(c, story.before)
		}
		return story.round(c, f)
	}
	changes, want := round(&fuse{})
	defer func() { c.dropRest() }()
	sql := 0
	for _, change := range changes {
		if strings.HasPrefix(change, "SQL ") {
			sql++
		}
	}
	if len(changes) == 0 {
		t.Fatal("nothing is changed, so nothing would be proved")
	}
	rounds := map[manner]int{}
	for _, how := range []manner{dies, stumbles} {
		for k := range changes {
			f := &fuse{how: how, after: k}
			if _, got := round(f); got != want {
				t.Errorf("%s at change %d (%s) leads to something else\n%s", how, k+1, changes[k], difference(want, got))
			}
			if !f.hit() {
				t.Fatalf("change %d did not come: the story is not the same each time", k+1)
			}
			rounds[how]++
		}
	}
	t.Logf("%d changes, %d of them in the database; %d crashes, %d lost answers", len(changes), sql, rounds[dies], rounds[stumbles])
}

func (m manner) String() string {
	return map[manner]string{never: "no end", dies: "an end", stumbles: "a lost answer"}[m]
}

// lead leads to where the story begins; each step is followed by an undisturbed run.
func (story crashStory) lead(c *crashStage, steps []func(*crashStage)) {
	c.t.Helper()
	for _, step := range steps {
		step(c)
		story.run(c, &fuse{})
	}
}

// run has a process work until nothing is left to do, or it is dead, and returns its changes.
func (story crashStory) run(c *crashStage, f *fuse) []string {
	c.t.Helper()
	m := c.begin(f)
	defer m.end()
	m.workAmong(c.t, story.othersOf(c), c.keys()...)
	return m.made()
}

// round tells the story once. It returns the changes of the first process, and all objects at the end.
func (story crashStory) round(c *crashStage, f *fuse) ([]string, string) {
	c.t.Helper()
	before := c.kept()
	story.change(c)
	changes := story.run(c, f)
	crashed := c.kept()
	if f.how == dies {
		story.run(c, &fuse{})
	}
	story.check(c, before, crashed, c.kept())
	return changes, c.everything()
}

// keptValues are the values of the Secrets that outlive the tenant, by Secret and key.
type keptValues map[string]map[string][]byte

func (c *crashStage) kept() keptValues {
	c.t.Helper()
	values := keptValues{}
	for _, name := range []string{"acme-keys", "acme-api-token"} {
		found := &corev1.Secret{}
		if c.there(found, name) {
			values[name] = found.Data
		}
	}
	return values
}

// sameKeys sees to it that no key that ever was is another one later.
func (c *crashStage) sameKeys(values ...keptValues) {
	c.t.Helper()
	for i, earlier := range values {
		for _, later := range values[i:] {
			for name, key := range earlier["acme-keys"] {
				if !bytes.Equal(later["acme-keys"][name], key) {
					c.t.Errorf("%s was made a second time, or is lost", name)
				}
			}
		}
	}
}

// sameToken is for stories that leave the token alone.
func (c *crashStage) sameToken(values ...keptValues) {
	c.t.Helper()
	for i, earlier := range values {
		for _, later := range values[i:] {
			if token := earlier["acme-api-token"]["token"]; token != nil && !bytes.Equal(later["acme-api-token"]["token"], token) {
				c.t.Error("a second token was made, or the first is lost")
			}
		}
	}
}

// stillItsOwn is for a tenant that is there and works, with the keys and the token that it first had.
func stillItsOwn(c *crashStage, before, crashed, after keptValues) {
	c.t.Helper()
	c.sameKeys(before, crashed, after)
	c.sameToken(before, crashed, after)
	c.works()
}

func oneTokenMore(c *crashStage, before, crashed, after keptValues) {
	c.t.Helper()
	c.sameKeys(before, crashed, after)
	first := before["acme-api-token"]["token"]
	then, last := crashed["acme-api-token"]["token"], after["acme-api-token"]
	switch {
	case bytes.Equal(last["token"], first):
		c.t.Error("no new token was made")
	case !bytes.Equal(last["previous-token"], first):
		c.t.Error("a second token was made: the one before is not the first")
	case !bytes.Equal(then, first) && !bytes.Equal(then, last["token"]):
		c.t.Error("a second token was made after the crash")
	}
	c.works()
}

// oneKeyMore is for one request for other keys: those of before are there, and one more of each kind.
func oneKeyMore(c *crashStage, before, crashed, after keptValues) {
	c.t.Helper()
	stillItsOwn(c, before, crashed, after)
	if got := c.keyFiles("acme-keys"); !slices.Equal(got, []string{"kek-1", "kek-2", "webhook-1", "webhook-2"}) {
		c.t.Errorf("the keys are %v", got)
	}
}

// otherLoginTold is for one request for another database password: pods are told the other role, and both work.
func otherLoginTold(c *crashStage, before, crashed, after keptValues) {
	c.t.Helper()
	c.sameKeys(before, crashed, after)
	c.sameToken(before, crashed, after)
	c.told()
	c.lets(2)
	c.otherLogin()
}

// otherLoginOnly is for its end, when only the new one works.
func otherLoginOnly(c *crashStage, before, crashed, after keptValues) {
	c.t.Helper()
	stillItsOwn(c, before, crashed, after)
	c.otherLogin()
	if c.passwords()[c.names().Logins[0]] != "" {
		c.t.Error("the password before is still valid")
	}
}

// otherLogin sees to it that pods are told the second role: with the first, the request would have been carried out twice.
func (c *crashStage) otherLogin() {
	c.t.Helper()
	tenant := c.acme()
	c.get(tenant)
	if role := roleOf(c.t, c.databaseURL()); role != c.names().Logins[1] || tenant.Status.Database.PasswordRequest != "ticket 17" {
		c.t.Errorf("pods log in as %s, the status says %+v", role, tenant.Status.Database)
	}
}

func previousTokenEnded(c *crashStage, before, crashed, after keptValues) {
	c.t.Helper()
	stillItsOwn(c, before, crashed, after)
	if before["acme-api-token"]["previous-token"] == nil || after["acme-api-token"]["previous-token"] != nil {
		c.t.Error("there is no token before that has come to its end")
	}
}

// works looks whether what the pods are told holds, and that there is no other login.
func (c *crashStage) works() {
	c.t.Helper()
	c.told()
	c.lets(1)
}

// told looks whether what the pods are told holds: a login that the database takes, the token, a schema of the tenant's.
func (c *crashStage) told() {
	c.t.Helper()
	files := c.mounted()
	conn := c.connect(string(files["secrets/database-url"]))
	var version string
	if err := conn.QueryRow(c.t.Context(), "SELECT value FROM meta WHERE key = 'schema_version'").Scan(&version); err != nil {
		c.t.Errorf("the runtime's login: %v", err)
	}
	_ = conn.Close(c.t.Context())
	tokens := c.kept()["acme-api-token"]
	accepted := []string{string(tokens["token"])}
	if previous := tokens["previous-token"]; previous != nil {
		accepted = append(accepted, string(previous))
	}
	c.wantTokens(c.clock.Now(), accepted...)
	if c.token() != accepted[0] {
		c.t.Error("the console is told another token")
	}
}

// lets looks at how many roles have a password.
func (c *crashStage) lets(wanted int) {
	c.t.Helper()
	usable := 0
	for _, password := range c.passwords() {
		if password != "" {
			usable++
		}
	}
	if usable != wanted {
		c.t.Errorf("%d roles have a password, want %d", usable, wanted)
	}
}

func everythingKept(c *crashStage, before, crashed, after keptValues) {
	c.t.Helper()
	if !maps.EqualFunc(before, after, func(a, b map[string][]byte) bool { return maps.EqualFunc(a, b, bytes.Equal) }) ||
		len(before) != 2 || len(crashed) != 2 || !c.schemaExists() {
		c.t.Error("keys, token or data are not what they were")
	}
	c.onlyGarbage()
}

func nothingLeft(c *crashStage, before, _, after keptValues) {
	c.t.Helper()
	if len(before) == 0 || len(after) != 0 || c.schemaExists() || len(c.passwords()) != 0 {
		c.t.Errorf("%d Secrets are left, schema %t, roles %d", len(after), c.schemaExists(), len(c.passwords()))
	}
	c.onlyGarbage()
}

// onlyGarbage sees to it that the tenant is gone, and that the garbage collector will take everything that is left.
func (c *crashStage) onlyGarbage() {
	c.t.Helper()
	if c.there(&api.EnsTenant{}, "acme") {
		c.t.Error("the tenant is still there")
	}
	for _, object := range c.made() {
		kept := object.GetName() == "acme-keys" || object.GetName() == "acme-api-token"
		if (metav1.GetControllerOf(object) == nil) != kept {
			c.t.Errorf("%s %s is left over, owners %v", object.GetObjectKind().GroupVersionKind().Kind, object.GetName(), object.GetOwnerReferences())
		}
	}
}
