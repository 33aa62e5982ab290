package requestid_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"testing"

	"github.com/google/uuid"

	"github.com/ens-operator/ens-operator/runtime/requestid"
)

func TestEachRequestHasAnIDOfItsOwn(t *testing.T) {
	t.Parallel()
	if id := requestid.From(t.Context()); id != "" {
		t.Errorf("a context without an id has %q", id)
	}
	one, two := requestid.New(t.Context()), requestid.New(t.Context())
	if _, err := uuid.Parse(requestid.From(one)); err != nil {
		t.Errorf("%q is no UUID: %v", requestid.From(one), err)
	}
	if requestid.From(one) == requestid.From(two) {
		t.Error("two requests have the same id")
	}
	if got := requestid.From(requestid.With(t.Context(), "known")); got != "known" {
		t.Errorf("got %q, want the id that was given", got)
	}
}

func TestLinesLoggedWithAContextCarryItsID(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	log := slog.New(requestid.Handler{Handler: slog.NewJSONHandler(&text, nil)})
	logged := func() map[string]any {
		t.Helper()
		defer text.Reset()
		line := map[string]any{}
		if err := json.Unmarshal(text.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		return line
	}
	ctx := requestid.With(t.Context(), "known")

	log.InfoContext(ctx, "x")
	if line := logged(); line["activityId"] != "known" {
		t.Errorf("got %v", line)
	}
	log.With("component", "listener").InfoContext(ctx, "x", "a", 1)
	if line := logged(); line["activityId"] != "known" || line["component"] != "listener" || line["a"] != 1.0 {
		t.Errorf("with attributes: got %v", line)
	}
	log.InfoContext(t.Context(), "x")
	if line := logged(); line["activityId"] != nil || line["userId"] != nil {
		t.Errorf("without an id: got %v", line)
	}
	log.InfoContext(ctx, "x")
	if line := logged(); line["userId"] != nil {
		t.Errorf("before it is known whose it is: got %v", line)
	}
	requestid.Identify(ctx, "4e9d")
	log.InfoContext(context.WithoutCancel(ctx), "x")
	if line := logged(); line["userId"] != "4e9d" || requestid.User(ctx) != "4e9d" {
		t.Errorf("once it is known whose it is: got %v", line)
	}
	log.DebugContext(ctx, "x")
	if text.Len() != 0 {
		t.Errorf("the level of the handler below does not count: got %s", &text)
	}
	log.WithGroup("mail").InfoContext(ctx, "x", "a", 1)
	group, _ := logged()["mail"].(map[string]any)
	if group["a"] != 1.0 || group["activityId"] != "known" {
		t.Errorf("in a group: got %v", group)
	}
}
