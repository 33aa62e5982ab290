package config_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

// keyFile is a key whose bytes are all b, as a file holds it.
func keyFile(b byte) []byte {
	return []byte(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, config.KeySize)))
}

func TestParseKeysReadsEveryVersion(t *testing.T) {
	t.Parallel()
	keys, err := config.ParseKeys(map[string][]byte{
		"kek-1": keyFile(1), "kek-2": keyFile(2), "kek-10": append(keyFile(10), '\n'),
		"webhook-999999": keyFile(9),
		// Of no concern here.
		"kek-": keyFile(3), "kek-0": keyFile(3), "kek-01": keyFile(3), "kek-1000000": keyFile(3), "xkek-1": keyFile(3),
		"webhook-1.bak": []byte("not a key"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := config.Numbers(keys.KEKs); !slices.Equal(got, []int{1, 2, 10}) {
		t.Errorf("got KEKs %v", got)
	}
	if got := config.Numbers(keys.Webhooks); !slices.Equal(got, []int{999_999}) {
		t.Errorf("got webhook keys %v", got)
	}
	if got := config.Newest(keys.KEKs); got != 10 {
		t.Errorf("KEK %d is the newest, want 10: numbers are not ordered as text", got)
	}
	if !bytes.Equal(keys.KEKs[10].Reveal(), bytes.Repeat([]byte{10}, config.KeySize)) {
		t.Error("a KEK is not what the file holds")
	}
	if got := config.Newest(nil); got != 0 {
		t.Errorf("of no keys %d is the newest, want 0", got)
	}
}

func TestParseKeysRefuses(t *testing.T) {
	t.Parallel()
	good := map[string][]byte{"kek-1": keyFile(1), "webhook-1": keyFile(2)}
	tests := map[string]struct {
		file    string
		content []byte
		noKey   bool
	}{
		"a set without KEK":         {"kek-1", nil, true},
		"a set without webhook key": {"webhook-1", nil, true},
		"an empty file":             {"kek-1", []byte{}, false},
		"a key that is too short":   {"kek-1", []byte(base64.StdEncoding.EncodeToString(make([]byte, config.KeySize-1))), false},
		"a key that is too long":    {"webhook-1", []byte(base64.StdEncoding.EncodeToString(make([]byte, config.KeySize+1))), false},
		"a key without its padding": {"kek-1", bytes.TrimRight(keyFile(1), "="), false},
		"a key in another base64":   {"kek-1", []byte(base64.URLEncoding.EncodeToString(bytes.Repeat([]byte{0xff}, config.KeySize))), false},
		"a key in raw bytes":        {"kek-1", make([]byte, config.KeySize), false},
		"a broken further version":  {"kek-2", []byte("swordfish"), false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := maps.Clone(good)
			if files[test.file] = test.content; test.content == nil {
				delete(files, test.file)
			}
			_, err := config.ParseKeys(files)
			if err == nil || errors.Is(err, config.ErrNoKey) != test.noKey {
				t.Fatalf("got %v, want an error, ErrNoKey %t", err, test.noKey)
			}
			kind, _, _ := strings.Cut(test.file, "-")
			if !strings.Contains(err.Error(), kind) || strings.Contains(err.Error(), "swordfish") {
				t.Errorf("the error should name the key and not show it: %v", err)
			}
		})
	}
}

func TestNewKeyFilesAreReadBackAndNeverTheSame(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	files := config.NewKeyFiles()
	fileSet(files).write(t, folder)
	keys, err := config.LoadKeys(folder)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for range 2 {
		for _, key := range []secret.Value{keys.KEKs[1], keys.Webhooks[1]} {
			if text := key.RevealString(); len(text) != config.KeySize || seen[text] {
				t.Errorf("a key of %d bytes that was there already: %t", len(text), seen[text])
			} else {
				seen[text] = true
			}
		}
		if keys, err = config.ParseKeys(config.NewKeyFiles()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLoadKeysSaysWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	if _, err := config.LoadKeys(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing folder: got %v, want os.ErrNotExist", err)
	}
	folder := t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, "kek-1"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := config.LoadKeys(folder); err == nil || !strings.Contains(err.Error(), "kek-1") {
		t.Errorf("a folder in the place of a key: got %v, want an error that names it", err)
	}
}

func TestCheckValueRecognisesAKey(t *testing.T) {
	t.Parallel()
	one, two := secret.New(bytes.Repeat([]byte{1}, config.KeySize)), secret.New(bytes.Repeat([]byte{2}, config.KeySize))
	// The value is in databases, so it must never change: HMAC-SHA-256 by another implementation, cut to 16 bytes.
	const golden = "843f9bd3c6e675d2e6ad4eb2023d80ae"
	if got := config.CheckValue(one); got != golden {
		t.Errorf("got %s, want %s", got, golden)
	}
	if config.CheckValue(one) == config.CheckValue(two) {
		t.Error("two keys have the same check value")
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add("kek-1", keyFile(1), "webhook-1", keyFile(2))
	f.Add("kek-999999", keyFile(1), "webhook-1000000", keyFile(2))
	f.Add("kek-1\n", []byte("\r\n"), "webhook-1", []byte("===="))
	f.Fuzz(func(t *testing.T, name1 string, content1 []byte, name2 string, content2 []byte) {
		keys, err := config.ParseKeys(map[string][]byte{name1: content1, name2: content2})
		if err != nil {
			return
		}
		for _, kind := range []map[int]secret.Value{keys.KEKs, keys.Webhooks} {
			for number, key := range kind {
				if number < 1 || number > 999_999 || len(key.Reveal()) != config.KeySize {
					t.Fatalf("accepted key %d of %d bytes", number, len(key.Reveal()))
				}
			}
			if len(kind) == 0 || config.Newest(kind) == 0 {
				t.Fatal("accepted a set without one kind of key")
			}
		}
	})
}
