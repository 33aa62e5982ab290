package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"github.com/jackc/pgx/v5"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/ens-operator/ens-operator/hack/testenv"
)

// TestTheStoryIsToldAndLeavesNoSecretAnywhere runs the demo, and then looks for secrets in everything that was written:
// the whole database, all logs, all Kubernetes objects and Events.
func TestTheStoryIsToldAndLeavesNoSecretAnywhere(t *testing.T) {
	log.SetLogger(logr.Discard())
	var told bytes.Buffer
	err := show(t.Context(), newNarrator(&told), func(told *story) error {
		s := told.scene
		written := places(t, s)
		for name, secret := range secrets(t, told) {
			for place, text := range written {
				if place == secret.mayStandIn {
					continue
				}
				for _, form := range []string{secret.text, hex.EncodeToString([]byte(secret.text)), base64.StdEncoding.EncodeToString([]byte(secret.text))} {
					if strings.Contains(text, form) {
						t.Errorf("%s stands in %s", name, place)
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, told.String())
	}
	t.Log(told.String())
	if strings.Contains(told.String(), alicesPassword) {
		t.Error("the story tells the password")
	}
}

// secret is a text that must stand nowhere, except maybe in one place.
type secret struct{ text, mayStandIn string }

const (
	inSecrets  = "the Secrets"
	inDatabase = "the database"
)

func secrets(t *testing.T, s *story) map[string]secret {
	t.Helper()
	token := &corev1.Secret{}
	if err := s.client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: s.tenant.Status.Secrets.APIToken}, token); err != nil {
		t.Fatal(err)
	}
	found := map[string]secret{
		"the password":     {text: alicesPassword},
		"the credential":   {text: alice + ":" + alicesPassword},
		"the address":      {text: alice},
		"the subject":      {text: mailSubject},
		"the preview":      {text: mailPreview},
		"Dora's address":   {text: dora},
		"Dora's subject":   {text: doraSubject},
		"the sender":       {text: "Bob Builder"},
		"the API token":    {string(token.Data["token"]), inSecrets},
		"the database URL": {s.database.URL, ""},
	}
	for i, token := range s.tokens {
		found[fmt.Sprintf("token %d", i)] = secret{text: token}
	}
	subscriptions := s.exchange.Subscriptions()
	if len(subscriptions) < 2 || len(s.tokens) < 2 || len(token.Data["token"]) == 0 {
		t.Fatal("there was no subscription or no token: the test shows nothing")
	}
	for i, subscription := range subscriptions {
		_, rest, _ := strings.Cut(subscription.URL, "&f=")
		filler, mark, _ := strings.Cut(rest, "&m=")
		found[fmt.Sprintf("the f of webhook %d", i)] = secret{text: filler}
		found[fmt.Sprintf("the m of webhook %d", i)] = secret{text: mark}
	}
	return found
}

// places are all that was written, as text.
func places(t *testing.T, s *scene) map[string]string {
	t.Helper()
	ctx := t.Context()
	inside, err := pgx.Connect(ctx, s.database.SuperuserURL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = inside.Close(context.WithoutCancel(ctx)) }()
	database, err := testenv.DumpSchemas(ctx, inside)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{
		inDatabase:           database,
		"the operator's log": s.operator.Output(),
		"the runtime's log":  s.runtime.Output(),
	}
	objects(t, s, found)
	events := &eventsv1.EventList{}
	if err := s.client.List(ctx, events); err != nil {
		t.Fatal(err)
	}
	found["the Events"] = asText(t, events)
	for place, text := range found {
		if len(text) < 100 {
			t.Errorf("%s has only %d characters: the test shows nothing", place, len(text))
		}
	}
	return found
}

// objects adds every object of every kind that the API server can list: Secrets apart from all others.
func objects(t *testing.T, s *scene, found map[string]string) {
	t.Helper()
	kinds, err := discovery.NewDiscoveryClientForConfigOrDie(s.kube.Config()).ServerPreferredResources()
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range kinds {
		for _, kind := range group.APIResources {
			if !strings.Contains(kind.Verbs.String(), "list") {
				continue
			}
			list := &unstructured.UnstructuredList{}
			list.SetAPIVersion(group.GroupVersion)
			list.SetKind(kind.Kind + "List")
			if err := s.client.List(t.Context(), list); err != nil {
				t.Fatalf("listing %s: %v", kind.Name, err)
			}
			place := "the other Kubernetes objects"
			if kind.Name == "secrets" {
				place = inSecrets
			}
			found[place] += asText(t, list)
		}
	}
}

func asText(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
