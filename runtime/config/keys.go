package config

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ens-operator/ens-operator/runtime/secret"
)

// KeySize is the length in bytes of every key of Keys: AES-256 and HMAC-SHA-256 take 32.
const KeySize = 32

// The prefixes of the key files; the rest of a file's name is the key's number.
const (
	KEKPrefix     = "kek-"
	WebhookPrefix = "webhook-"
)

// ErrNoKey says that a kind of key is missing altogether.
var ErrNoKey = errors.New("no key")

// Keys are the tenant's long-lived keys in all their versions, by number. The highest number seals, all of them open.
type Keys struct {
	// KEKs seal private keys and subscription keys in the database (protocol.md, rule 4).
	KEKs map[int]secret.Value
	// Webhooks sign the webhook URL.
	Webhooks map[int]secret.Value
}

// keyFileName takes numbers of at most six digits, which keeps them short in the webhook URL; nobody rotates a million
// times.
var keyFileName = regexp.MustCompile(`^(kek|webhook)-([1-9][0-9]{0,5})$`)

// ParseKeys reads Keys from file names and contents as a Secret or a folder holds them: `kek-1`, `webhook-1`, …, each
// KeySize bytes in standard base64. Other names are ignored.
func ParseKeys(files map[string][]byte) (Keys, error) {
	keys, err := ParseSomeKeys(files)
	switch {
	case err != nil:
		return Keys{}, err
	case len(keys.KEKs) == 0:
		return Keys{}, fmt.Errorf("%w: no %s<number> file", ErrNoKey, KEKPrefix)
	case len(keys.Webhooks) == 0:
		return Keys{}, fmt.Errorf("%w: no %s<number> file", ErrNoKey, WebhookPrefix)
	}
	return keys, nil
}

// ParseSomeKeys is ParseKeys for files that may lack a kind of key.
func ParseSomeKeys(files map[string][]byte) (Keys, error) {
	keys := Keys{KEKs: map[int]secret.Value{}, Webhooks: map[int]secret.Value{}}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		content := files[name]
		match := keyFileName.FindStringSubmatch(name)
		if match == nil {
			continue
		}
		number, err := strconv.Atoi(match[2])
		if err != nil {
			return Keys{}, fmt.Errorf("key %s: %w", name, err)
		}
		key := make([]byte, base64.StdEncoding.DecodedLen(len(content)))
		n, err := base64.StdEncoding.Decode(key, []byte(strings.TrimSpace(string(content))))
		if err != nil || n != KeySize {
			return Keys{}, fmt.Errorf("key %s: want %d bytes in base64", name, KeySize)
		}
		if match[1] == "kek" {
			keys.KEKs[number] = secret.New(key[:n])
		} else {
			keys.Webhooks[number] = secret.New(key[:n])
		}
	}
	return keys, nil
}

// LoadKeys reads Keys from a folder.
func LoadKeys(folder string) (Keys, error) {
	files, err := readKeyFiles(folder)
	if err != nil {
		return Keys{}, err
	}
	return ParseKeys(files)
}

// maxKeyFile is more than KeySize bytes take in base64 with any line ends.
const maxKeyFile = 128

func readKeyFiles(folder string) (map[string][]byte, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, fmt.Errorf("reading the keys: %w", cause(err))
	}
	files := map[string][]byte{}
	for _, entry := range entries {
		if !keyFileName.MatchString(entry.Name()) {
			continue
		}
		content, err := readFile(filepath.Join(folder, entry.Name()), maxKeyFile)
		if err != nil {
			return nil, fmt.Errorf("reading key %s: %w", entry.Name(), err)
		}
		files[entry.Name()] = content
	}
	return files, nil
}

// NewKeyFiles makes the first version of every key, in the form that ParseKeys reads.
func NewKeyFiles() map[string][]byte {
	return map[string][]byte{KEKPrefix + "1": NewKey(), WebhookPrefix + "1": NewKey()}
}

// NewKey makes the content of a key file.
func NewKey() []byte {
	key := make([]byte, KeySize)
	_, _ = rand.Read(key) // never fails, see crypto/rand
	return base64.StdEncoding.AppendEncode(nil, key)
}

// Newest returns the number that seals: the highest.
func Newest(keys map[int]secret.Value) int {
	newest := 0
	for number := range keys {
		newest = max(newest, number)
	}
	return newest
}

// Numbers returns the numbers of keys in rising order.
func Numbers(keys map[int]secret.Value) []int {
	numbers := make([]int, 0, len(keys))
	for number := range keys {
		numbers = append(numbers, number)
	}
	slices.Sort(numbers)
	return numbers
}

// CheckValue is a value from which the key cannot be found but by which it is recognised. The database keeps that of
// every KEK: a runtime with another key of the same number must not become ready (protocol.md, rule 2).
func CheckValue(key secret.Value) string {
	mac := hmac.New(sha256.New, key.Reveal())
	mac.Write([]byte("ens-operator key check value v1"))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}
