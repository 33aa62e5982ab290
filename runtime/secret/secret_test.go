package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/runtime/secret"
)

const plain = "correct horse battery staple"

type exported struct{ Password secret.Value }

type unexported struct{ password secret.Value }

type nested struct{ inner *unexported }

func TestASecretIsNeverPrinted(t *testing.T) {
	t.Parallel()
	v := secret.FromString(plain)
	values := map[string]any{
		"alone":                          v,
		"by pointer":                     &v,
		"in an exported field":           exported{v},
		"in an unexported field":         unexported{v},
		"in a pointer of a struct field": nested{&unexported{v}},
		"in a slice":                     []secret.Value{v},
		"in a map":                       map[string]secret.Value{"k": v},
		"wrapped in an error":            fmt.Errorf("opening with %v failed", v),
	}
	for name, value := range values {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
				fmt.Fprintf(&out, verb+"\n", value)
			}
			slog.New(slog.NewJSONHandler(&out, nil)).Info("event", "value", value)
			slog.New(slog.NewTextHandler(&out, nil)).Info("event", "value", value)
			_ = json.NewEncoder(&out).Encode(value)
			for _, form := range []string{plain, fmt.Sprintf("%x", plain), fmt.Sprintf("%X", plain), fmt.Sprintf("%v", []byte(plain))} {
				if strings.Contains(out.String(), form) {
					t.Fatalf("the secret was printed in the form %q:\n%s", form, out.String())
				}
			}
		})
	}
}

func TestWipeClearsTheCallersBytesAndAllCopies(t *testing.T) {
	t.Parallel()
	b := []byte(plain)
	v := secret.New(b)
	duplicate := v
	v.Wipe()
	if !duplicate.IsZero() {
		t.Error("a copy still holds the secret")
	}
	if !bytes.Equal(b, make([]byte, len(plain))) {
		t.Errorf("the bytes are still %q", b)
	}
	secret.Value{}.Wipe() // the zero Value has nothing to wipe and must not panic
}

func TestASecretIsReadFromJSON(t *testing.T) {
	t.Parallel()
	var got exported
	if err := json.Unmarshal([]byte(`{"Password":"`+plain+`"}`), &got); err != nil {
		t.Fatal(err)
	}
	if !got.Password.Equal(secret.FromString(plain)) {
		t.Errorf("read %d bytes, want the password", len(got.Password.Reveal()))
	}
}
