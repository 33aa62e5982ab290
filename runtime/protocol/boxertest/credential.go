package boxertest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// The ways in which a phone encrypts its credential.
const (
	RSAPKCS1        = "rsa-pkcs1"
	RSAPKCS1Chunked = "rsa-pkcs1-chunked"
	RSASplit        = "rsa-split"
)

// The authentication types of the contract.
const (
	AuthBasic    = 0
	AuthOAuth    = 1
	AuthCBA      = 2
	AuthBasicCBA = 3
	AuthOAuthCBA = 4
)

// dataKeySize is the length of the data key of RSASplit, in bytes.
const dataKeySize = 32

// plaintext is the credential that the phone's AuthType wants.
func (p *Phone) plaintext() ([]byte, error) {
	fields := map[string]string{}
	if p.AuthType == AuthBasic || p.AuthType == AuthBasicCBA {
		fields["username"], fields["password"] = p.Username, p.Password
	}
	if p.AuthType == AuthOAuth || p.AuthType == AuthOAuthCBA {
		fields["oauthAccessToken"] = p.Token
		if !p.TokenExpires.IsZero() {
			fields["oauthExpires"] = p.TokenExpires.UTC().Format(time.RFC3339)
		}
	}
	if p.AuthType == AuthCBA || p.AuthType == AuthBasicCBA || p.AuthType == AuthOAuthCBA {
		fields["cbaData"], fields["cbaPassword"] = base64.StdEncoding.EncodeToString(p.PFX), p.PFXPassword
	}
	return json.Marshal(fields)
}

// encrypted are the fields of a registration that carry the credential.
func (p *Phone) encrypted() (map[string]any, error) {
	if p.key == nil {
		return nil, errors.New("call PublicKey first")
	}
	plain, err := p.plaintext()
	if err != nil {
		return nil, err
	}
	scheme := p.Encryption
	if scheme == "" {
		scheme = RSAPKCS1
	}
	fields := map[string]any{"encryption": scheme, "authType": p.AuthType, "keyId": p.keyID}
	switch scheme {
	case RSAPKCS1:
		fields["credentials"], err = p.Encrypt(string(plain))
	case RSAPKCS1Chunked:
		fields["credentials"], err = p.encryptBlocks(plain)
	case RSASplit:
		p.dataKey = make([]byte, dataKeySize)
		_, _ = rand.Read(p.dataKey)
		p.sequence++
		fields["sequence"], fields["credentials"] = p.sequence, p.seal(plain)
		fields["wrappedKey"], err = p.Encrypt(string(p.dataKey))
	default:
		err = fmt.Errorf("this phone does not know %q", scheme)
	}
	return fields, err
}

// encryptBlocks encrypts text in as many blocks as it takes.
func (p *Phone) encryptBlocks(plain []byte) (string, error) {
	var blocks []byte
	for part := range slices.Chunk(plain, p.key.Size()-11) {
		//nolint:staticcheck // SA1019: the original's padding is contract (K-07).
		block, err := rsa.EncryptPKCS1v15(rand.Reader, p.key, part)
		if err != nil {
			return "", fmt.Errorf("encrypting: %w", err)
		}
		blocks = append(blocks, block...)
	}
	return base64.StdEncoding.EncodeToString(blocks), nil
}

// seal seals under the data key: nonce, ciphertext, tag, bound to user, device and sequence.
func (p *Phone) seal(plain []byte) string {
	block, err := aes.NewCipher(p.dataKey)
	if err != nil {
		panic(err) // the key has the right length
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // AES has the right block size
	}
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce)
	bound := fmt.Sprintf("%s|%s|%d", p.UserID(), p.DeviceID, p.sequence)
	return base64.StdEncoding.EncodeToString(aead.Seal(nonce, nonce, plain, []byte(bound)))
}

// UpdateCredentials sends the phone's credential as it is now, under the data key of the last registration by RSASplit.
func (p *Phone) UpdateCredentials(ctx context.Context) (Answer, error) {
	if p.dataKey == nil {
		return Answer{}, errors.New("register by rsa-split first")
	}
	plain, err := p.plaintext()
	if err != nil {
		return Answer{}, err
	}
	p.sequence++
	return p.own(ctx, "updatecredentials", map[string]any{"sequence": p.sequence, "credentials": p.seal(plain)})
}

// UpdateToken tells that the device has another push token.
func (p *Phone) UpdateToken(ctx context.Context, token string) (Answer, error) {
	answer, err := p.own(ctx, "updatedevicetoken", map[string]any{"deviceToken": token})
	if err == nil && answer.Code == 3 {
		p.DeviceToken = token
	}
	return answer, err
}

// UpdateSyncKey changes the user's synchronization key.
func (p *Phone) UpdateSyncKey(ctx context.Context, key string) (Answer, error) {
	return p.Call(ctx, "updatesynckey", map[string]any{"userId": p.UserID(), "syncKey": key})
}

// UpdateSettings changes what the device is shown.
func (p *Phone) UpdateSettings(ctx context.Context, settings map[string]any) (Answer, error) {
	return p.own(ctx, "updatesettings", settings)
}

// own makes a call about this device.
func (p *Phone) own(ctx context.Context, name string, further map[string]any) (Answer, error) {
	body := map[string]any{"userId": p.UserID(), "deviceId": p.DeviceID}
	if p.Secret != "" {
		body["deviceSecret"] = p.Secret
	}
	maps.Copy(body, further)
	return p.Call(ctx, name, body)
}
