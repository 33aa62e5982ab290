package credential

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/ens-operator/ens-operator/runtime/secret"
)

// How a credential looks before it is sealed: a byte that says what follows, the authType, then parts, each with its
// kind and length, then zeros.
const (
	formCredential = 2
	// formDataKey says that a data key follows, and the credential rests elsewhere.
	formDataKey = 3
)

// The kinds of parts.
const (
	partEnd = iota
	partUsername
	partPassword
	partToken
	partExpires
	partKey
	partCertificate
)

// paddingBlock hides the length of a password: lengths differ only in steps of this size.
const paddingBlock = 64

func encode(c Credential) []byte {
	expires := secret.Value{}
	if !c.Expires.IsZero() {
		expires = secret.New(binary.BigEndian.AppendUint64(nil, uint64(c.Expires.Unix())))
	}
	parts := []struct {
		kind  byte
		value secret.Value
	}{
		{partUsername, c.Username}, {partPassword, c.Password}, {partToken, c.Token}, {partExpires, expires},
		{partKey, c.Certificate.Key},
	}
	for _, certificate := range c.Certificate.Chain {
		parts = append(parts, struct {
			kind  byte
			value secret.Value
		}{partCertificate, certificate})
	}
	const header = 3 // a part's kind and length
	size := 2
	for _, part := range parts {
		size += header + len(part.value.Reveal())
	}
	// Of the final size from the start, so that no copy is left behind by a slice that grew.
	plain := make([]byte, 0, size+paddingBlock)
	plain = append(plain, formCredential, byte(c.AuthType))
	for _, part := range parts {
		if value := part.value.Reveal(); len(value) > 0 {
			plain = append(plain, part.kind)
			plain = binary.BigEndian.AppendUint16(plain, uint16(len(value)))
			plain = append(plain, value...)
		}
	}
	if rest := len(plain) % paddingBlock; rest != 0 {
		plain = append(plain, make([]byte, paddingBlock-rest)...)
	}
	return plain
}

// errDamaged is an error of decode.
var errDamaged = fmt.Errorf("reading the credential: %w", ErrSealBroken)

func decode(plain []byte) (Credential, error) {
	if len(plain) < 2 || plain[0] != formCredential {
		return Credential{}, errDamaged
	}
	c := Credential{AuthType: AuthType(plain[1])}
	for rest := plain[2:]; len(rest) > 0 && rest[0] != partEnd; {
		if len(rest) < 3 || len(rest)-3 < int(binary.BigEndian.Uint16(rest[1:])) {
			c.Wipe()
			return Credential{}, errDamaged
		}
		kind, length := rest[0], int(binary.BigEndian.Uint16(rest[1:]))
		value := secret.New(bytes.Clone(rest[3 : 3+length]))
		rest = rest[3+length:]
		switch kind {
		case partUsername:
			c.Username = value
		case partPassword:
			c.Password = value
		case partToken:
			c.Token = value
		case partExpires:
			if length != 8 {
				c.Wipe()
				return Credential{}, errDamaged
			}
			c.Expires = time.Unix(int64(binary.BigEndian.Uint64(value.Reveal())), 0).UTC()
		case partKey:
			c.Certificate.Key = value
		case partCertificate:
			c.Certificate.Chain = append(c.Certificate.Chain, value)
		default: // of a newer runtime, which knows why it matters
			value.Wipe()
			c.Wipe()
			return Credential{}, errDamaged
		}
	}
	return c, nil
}
