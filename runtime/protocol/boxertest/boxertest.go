// Package boxertest is a simulated Boxer: a phone that speaks the wire contract as the app does, for tests, the demo and
// load generation. It is strict with what it is answered: an envelope that the contract does not have is an error.
package boxertest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Phone is one device of one user. Set the fields, then call PublicKey and Register.
type Phone struct {
	// BaseURL is the ENSLinkAddress, e.g. https://ens.example.com/MailNotificationService/api/ens.
	BaseURL string
	// Client makes the calls; http.DefaultClient if nil.
	Client *http.Client
	// APIToken is the tenant's token.
	APIToken string

	// Address is the user's e-mail address, Username and Password the credential for Exchange.
	Address, Username, Password string
	DeviceID, DeviceToken       string
	// Platform is iOS or Android.
	Platform string
	// EWSURL, AppID and Extra, which may replace any field, are sent with a registration.
	EWSURL, AppID string
	Extra         map[string]any
	// WithEmail sends the encrypted e-mail address with a registration.
	WithEmail bool
	// AuthType says what the credential is made of; zero is user name and password. Token is an OAuth access token,
	// TokenExpires its end, which is sent unless it is zero, and PFX a PKCS#12 file.
	AuthType     int
	Token        string
	TokenExpires time.Time
	PFX          []byte
	PFXPassword  string
	// Encryption is how the credential is encrypted; empty is RSAPKCS1.
	Encryption string
	// Secret is sent as deviceSecret unless it is empty.
	Secret string

	key      *rsa.PublicKey
	keyID    string
	dataKey  []byte
	sequence int64
}

// Answer is what a call was answered.
type Answer struct {
	// Status is the HTTP status, RetryAfter the header of that name.
	Status     int
	RetryAfter string
	// Code is the contract's response code, Message its errorMessage, empty if null.
	Code    int
	Message string
	// Fields are all fields of the answer.
	Fields map[string]any
}

// UserID is the user's id: SHA-256 of the lower-cased address (P-08).
func (p *Phone) UserID() string {
	sum := sha256.Sum256([]byte(strings.ToLower(p.Address)))
	return hex.EncodeToString(sum[:])
}

// PublicKey fetches the key under which credentials are encrypted, and keeps it.
func (p *Phone) PublicKey(ctx context.Context) (Answer, error) {
	answer, err := p.Call(ctx, "getpublickey", map[string]any{"userId": p.UserID()})
	if err != nil || answer.Status != http.StatusOK {
		return answer, err
	}
	text, _ := answer.Fields["publicKey"].(string)
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return answer, fmt.Errorf("publicKey is not base64: %w", err)
	}
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return answer, fmt.Errorf("publicKey is not a SubjectPublicKeyInfo: %w", err)
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return answer, errors.New("publicKey is not an RSA key")
	}
	p.key = key
	p.keyID, _ = answer.Fields["keyId"].(string)
	return answer, nil
}

// Encrypt encrypts text under the user's key as one PKCS#1 v1.5 block in base64 (K-07).
func (p *Phone) Encrypt(text string) (string, error) {
	if p.key == nil {
		return "", errors.New("call PublicKey first")
	}
	//nolint:staticcheck // SA1019: the original's padding is contract (K-07).
	block, err := rsa.EncryptPKCS1v15(rand.Reader, p.key, []byte(text))
	if err != nil {
		return "", fmt.Errorf("encrypting: %w", err)
	}
	return base64.StdEncoding.EncodeToString(block), nil
}

// Register registers the device with its credential.
func (p *Phone) Register(ctx context.Context) (Answer, error) {
	body, err := p.encrypted()
	if err != nil {
		return Answer{}, err
	}
	maps.Copy(body, map[string]any{
		"userId": p.UserID(), "deviceId": p.DeviceID, "deviceToken": p.DeviceToken, "platform": p.Platform, "exchangeVersion": 2,
	})
	if p.Secret != "" {
		body["deviceSecret"] = p.Secret
	}
	if p.EWSURL != "" {
		body["ewsUrl"] = p.EWSURL
	}
	if p.AppID != "" {
		body["appId"] = p.AppID
	}
	if p.WithEmail {
		if body["email"], err = p.Encrypt(p.Address); err != nil {
			return Answer{}, err
		}
	}
	maps.Copy(body, p.Extra)
	return p.Call(ctx, "registerdevicev2", body)
}

// Unregister takes the device away.
func (p *Phone) Unregister(ctx context.Context) (Answer, error) {
	return p.own(ctx, "unregister", nil)
}

// Status asks how the device stands.
func (p *Phone) Status(ctx context.Context) (Answer, error) {
	return p.own(ctx, "status", nil)
}

// Call makes any call with any JSON body.
func (p *Phone) Call(ctx context.Context, name string, body any) (Answer, error) {
	content, err := json.Marshal(body)
	if err != nil {
		return Answer{}, err
	}
	return p.Post(ctx, name, content)
}

// Post makes any call with any bytes for a body.
func (p *Phone) Post(ctx context.Context, name string, content []byte) (Answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.BaseURL+"/"+name, bytes.NewReader(content))
	if err != nil {
		return Answer{}, err
	}
	request.Header.Set("Content-Type", "application/json; charset=utf-8")
	if p.APIToken != "" {
		request.Header.Set("ApiToken", p.APIToken)
	}
	client := p.Client
	if client == nil {
		client = http.DefaultClient
	}
	response, err := client.Do(request)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	return read(response)
}

// documented are the response codes that the original's guide lists, without those that no call is ever answered: 21 is
// only logged.
var documented = []int{3, 4, 5, 6, 7, 8, 9, 14, 15, 16, 17, 23, 24, 25, 26, 28, 29, 30, 32, 34, 35, 36}

// maxAnswer bounds what the phone reads.
const maxAnswer = 1 << 20

// envelope is the beginning of every answer: four fields in this order (P-16).
const envelopeOrder = `"responseCode","errorMessage","version","environmentType"`

func read(response *http.Response) (Answer, error) {
	content, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return Answer{}, fmt.Errorf("reading the answer: %w", err)
	}
	if got := response.Header.Get("Content-Type"); got != "application/json; charset=utf-8" {
		return Answer{}, fmt.Errorf("the answer (%s) has the Content-Type %q", response.Status, got)
	}
	if got := response.Header.Get("Content-Length"); got != strconv.Itoa(len(content)) {
		return Answer{}, fmt.Errorf("the answer's Content-Length is %q, want %d", got, len(content))
	}
	answer := Answer{Status: response.StatusCode, RetryAfter: response.Header.Get("Retry-After")}
	if err := json.Unmarshal(content, &answer.Fields); err != nil {
		return Answer{}, fmt.Errorf("the answer is not JSON: %w", err)
	}
	if order := strings.Join(firstFields(content), ","); order != envelopeOrder {
		return Answer{}, fmt.Errorf("the answer begins with the fields %s, want %s", order, envelopeOrder)
	}
	code, ok := answer.Fields["responseCode"].(float64)
	if !ok {
		return Answer{}, errors.New("responseCode is not a number")
	}
	answer.Code = int(code)
	if float64(answer.Code) != code || !slices.Contains(documented, answer.Code) {
		return Answer{}, fmt.Errorf("the responseCode %v is none that Boxer knows (R-90)", code)
	}
	answer.Message, _ = answer.Fields["errorMessage"].(string)
	return answer, nil
}

// firstFields are the names of the first four fields, quoted, in the order they stand in.
func firstFields(content []byte) []string {
	var names []string
	decoder := json.NewDecoder(bytes.NewReader(content))
	_, _ = decoder.Token() // {
	for range 4 {
		name, err := decoder.Token()
		if err != nil {
			return names
		}
		names = append(names, fmt.Sprintf("%q", name))
		var value any
		if decoder.Decode(&value) != nil {
			return names
		}
	}
	return names
}
