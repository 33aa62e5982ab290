// Package ntlmtest is the server's side of an NTLM handshake (MS-NLMP), for the fakes of Exchange: it makes challenges and
// judges the answers to them, NTLMv2 alone. Which connection a handshake belongs to is the server's to know.
package ntlmtest

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"time"
	"unicode/utf16"

	"golang.org/x/crypto/md4" //nolint:staticcheck // NTLM hashes passwords with MD4 (MS-NLMP, section 3.3.2)
)

// Message is what a client sends as the value of its Authorization header, decoded.
type Message []byte

// The messages of MS-NLMP, section 2.2.1.
const (
	signature    = "NTLMSSP\x00"
	negotiate    = 1
	authenticate = 3
	// typeEnd is where the type ends that every message has behind the signature.
	typeEnd = 12
	// headerBytes is the length of a CHALLENGE_MESSAGE up to its payload, with the Version field.
	headerBytes = 56
	// flags of a domain member that has got the usual ones of a client: UNICODE, REQUEST_TARGET, NTLM, ALWAYS_SIGN,
	// TARGET_TYPE_DOMAIN, EXTENDED_SESSIONSECURITY, TARGET_INFO, VERSION, 128 and 56.
	flags = 0x00000001 | 0x00000004 | 0x00000200 | 0x00008000 | 0x00010000 | 0x00080000 | 0x00800000 | 0x02000000 | 0x20000000 | 0x80000000
	// proofBytes is the HMAC before the blob of an NTLMv2 response, and blobTargetInfo where the blob repeats the target
	// info (MS-NLMP, section 2.2.2.7).
	proofBytes     = 16
	blobTargetInfo = 28
	// windowsEpoch is 1601 in Unix time, in FILETIME's units of 100 ns.
	windowsEpoch = 116444736000000000
)

// ChallengeBytes is how long a server's challenge is.
const ChallengeBytes = 8

// ParseMessage decodes a message. It reports false for what is none.
func ParseMessage(value string) (m Message, ok bool) {
	m, err := base64.StdEncoding.DecodeString(value)
	return m, err == nil && len(m) >= typeEnd && string(m[:len(signature)]) == signature
}

// Negotiates says that the client begins a handshake.
func (m Message) Negotiates() bool { return m.kind() == negotiate }

// Authenticates says that the client answers a challenge.
func (m Message) Authenticates() bool { return m.kind() == authenticate }

func (m Message) kind() uint32 { return binary.LittleEndian.Uint32(m[len(signature):]) }

// Challenge is a CHALLENGE_MESSAGE with a challenge of ChallengeBytes, in base64, as of a time.
func Challenge(challenge []byte, now time.Time) string {
	target, info := utf16LE("EXAMPLE"), targetInfo(now)
	message := make([]byte, headerBytes)
	copy(message, signature)
	binary.LittleEndian.PutUint32(message[8:], 2)
	putField(message[12:], len(target), headerBytes)
	binary.LittleEndian.PutUint32(message[20:], flags)
	copy(message[24:], challenge)
	putField(message[40:], len(info), headerBytes+len(target))
	copy(message[48:], []byte{10, 0, 0x63, 0x45, 0, 0, 0, 15}) // Windows Server 2019
	return base64.StdEncoding.EncodeToString(append(append(message, target...), info...))
}

// targetInfo are the AV_PAIRs of the challenge (MS-NLMP, section 2.2.2.1).
func targetInfo(at time.Time) []byte {
	now := make([]byte, 8)
	binary.LittleEndian.PutUint64(now, uint64(at.UnixNano()/int64(100*time.Nanosecond)+windowsEpoch))
	var info []byte
	for _, pair := range []struct {
		id    uint16
		value []byte
	}{
		{2, utf16LE("EXAMPLE")}, {1, utf16LE("FAKE01")}, {4, utf16LE("example.com")}, {3, utf16LE("fake01.example.com")}, {7, now}, {0, nil},
	} {
		info = binary.LittleEndian.AppendUint16(info, pair.id)
		info = binary.LittleEndian.AppendUint16(info, uint16(len(pair.value)))
		info = append(info, pair.value...)
	}
	return info
}

// Login is the user's name in an AUTHENTICATE_MESSAGE, as DOMAIN\name if it names a domain.
func (m Message) Login() (string, error) {
	domain, err1 := m.field(domainField)
	name, err2 := m.field(nameField)
	if err := errors.Join(err1, err2); err != nil {
		return "", err
	}
	if len(domain) > 0 {
		return fromUTF16LE(domain) + `\` + fromUTF16LE(name), nil
	}
	return fromUTF16LE(name), nil
}

// Where an AUTHENTICATE_MESSAGE says where its parts stand.
const (
	responseField = 20
	domainField   = 28
	nameField     = 36
)

// Proves checks the NTLMv2 response of an AUTHENTICATE_MESSAGE to a challenge (MS-NLMP, section 3.3.2).
func (m Message) Proves(challenge []byte, password string) bool {
	response, err1 := m.field(responseField)
	domain, err2 := m.field(domainField)
	name, err3 := m.field(nameField)
	if errors.Join(err1, err2, err3) != nil || len(response) < proofBytes+blobTargetInfo { // NTLMv1 has 24 bytes
		return false
	}
	proof, blob := response[:proofBytes], response[proofBytes:]
	if blob[0] != 1 || blob[1] != 1 || !bytes.HasPrefix(blob[blobTargetInfo:], targetNames) {
		return false
	}
	hash := md4.New()
	hash.Write(utf16LE(password))
	key := hmacMD5(hash.Sum(nil), append(utf16LE(strings.ToUpper(fromUTF16LE(name))), domain...))
	return hmac.Equal(proof, hmacMD5(key, append(bytes.Clone(challenge), blob...)))
}

// targetNames are the AV_PAIRs that stand before the time.
var targetNames = func() []byte {
	info := targetInfo(time.Unix(0, 0))
	return info[:bytes.Index(info, []byte{7, 0, 8, 0})]
}()

func hmacMD5(key, data []byte) []byte {
	mac := hmac.New(md5.New, key)
	mac.Write(data)
	return mac.Sum(nil)
}

// putField writes where a variable part stands: its length twice and its offset.
func putField(at []byte, length, offset int) {
	binary.LittleEndian.PutUint16(at, uint16(length))
	binary.LittleEndian.PutUint16(at[2:], uint16(length))
	binary.LittleEndian.PutUint32(at[4:], uint32(offset))
}

// field reads the variable part that the field at this offset points to.
func (m Message) field(at int) ([]byte, error) {
	if len(m) < at+8 {
		return nil, errors.New("the message is too short")
	}
	length := int(binary.LittleEndian.Uint16(m[at:]))
	offset := int(binary.LittleEndian.Uint32(m[at+4:]))
	if offset > len(m) || length > len(m)-offset {
		return nil, errors.New("a field lies outside the message")
	}
	return m[offset : offset+length], nil
}

func utf16LE(text string) []byte {
	var b []byte
	for _, unit := range utf16.Encode([]rune(text)) {
		b = binary.LittleEndian.AppendUint16(b, unit)
	}
	return b
}

func fromUTF16LE(b []byte) string {
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return string(utf16.Decode(units))
}
