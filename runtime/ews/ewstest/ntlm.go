package ewstest

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode/utf16"

	"golang.org/x/crypto/md4" //nolint:staticcheck // NTLM hashes passwords with MD4 (MS-NLMP, section 3.3.2)
)

// The messages of MS-NLMP, section 2.2.1.
const (
	ntlmSignature    = "NTLMSSP\x00"
	ntlmNegotiate    = 1
	ntlmAuthenticate = 3
	// ntlmHeaderBytes is the length of a CHALLENGE_MESSAGE up to its payload, with the Version field.
	ntlmHeaderBytes = 56
	// ntlmFlags of a domain member that has got the usual ones of a client: UNICODE, REQUEST_TARGET, NTLM, ALWAYS_SIGN,
	// TARGET_TYPE_DOMAIN, EXTENDED_SESSIONSECURITY, TARGET_INFO, VERSION, 128 and 56.
	ntlmFlags = 0x00000001 | 0x00000004 | 0x00000200 | 0x00008000 | 0x00010000 | 0x00080000 | 0x00800000 | 0x02000000 | 0x20000000 | 0x80000000
	// ntlmv2ProofBytes is the HMAC before the blob of an NTLMv2 response, and ntlmv2TargetInfo where the blob repeats
	// the target info (MS-NLMP, section 2.2.2.7).
	ntlmv2ProofBytes = 16
	ntlmv2TargetInfo = 28
	challengeBytes   = 8
	// windowsEpoch is 1601 in Unix time, in FILETIME's units of 100 ns.
	windowsEpoch = 116444736000000000
)

// ntlmLogin takes one step of a handshake, as scheme NTLM or inside Negotiate. A connection has one handshake at a time.
func (s *Server) ntlmLogin(conn *connection, scheme, value string) login {
	message, err := base64.StdEncoding.DecodeString(value)
	if err != nil || len(message) < 12 || string(message[:8]) != ntlmSignature {
		return login{}
	}
	switch binary.LittleEndian.Uint32(message[8:]) {
	case ntlmNegotiate:
		conn.challenge = make([]byte, challengeBytes)
		binary.LittleEndian.PutUint64(conn.challenge, s.random.Uint64())
		answer := scheme + " " + base64.StdEncoding.EncodeToString(s.ntlmChallenge(conn.challenge))
		return login{header: http.Header{"Www-Authenticate": {answer}}}
	case ntlmAuthenticate:
		challenge := conn.challenge
		conn.challenge = nil
		if challenge == nil {
			return login{} // the first message went over another connection
		}
		user, ok := s.ntlmVerify(challenge, message)
		if ok {
			conn.user = user
		}
		return login{user: user, ok: ok, wrongPassword: user != nil && !ok}
	}
	return login{}
}

// ntlmChallenge is a CHALLENGE_MESSAGE.
func (s *Server) ntlmChallenge(challenge []byte) []byte {
	target, info := utf16LE("EXAMPLE"), s.targetInfo()
	message := make([]byte, ntlmHeaderBytes)
	copy(message, ntlmSignature)
	binary.LittleEndian.PutUint32(message[8:], 2)
	putField(message[12:], len(target), ntlmHeaderBytes)
	binary.LittleEndian.PutUint32(message[20:], ntlmFlags)
	copy(message[24:], challenge)
	putField(message[40:], len(info), ntlmHeaderBytes+len(target))
	copy(message[48:], []byte{10, 0, 0x63, 0x45, 0, 0, 0, 15}) // Windows Server 2019
	return append(append(message, target...), info...)
}

// targetInfo are the AV_PAIRs of the challenge (MS-NLMP, section 2.2.2.1).
func (s *Server) targetInfo() []byte {
	now := make([]byte, 8)
	binary.LittleEndian.PutUint64(now, uint64(s.options.Clock.Now().UnixNano()/int64(100*time.Nanosecond)+windowsEpoch))
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

// ntlmVerify finds the user of an AUTHENTICATE_MESSAGE and checks the NTLMv2 response (MS-NLMP, section 3.3.2).
func (s *Server) ntlmVerify(challenge, message []byte) (user *mailbox, ok bool) {
	response, err1 := field(message, 20)
	domain, err2 := field(message, 28)
	name, err3 := field(message, 36)
	if errors.Join(err1, err2, err3) != nil {
		return nil, false
	}
	login := fromUTF16LE(name)
	if len(domain) > 0 {
		login = fromUTF16LE(domain) + `\` + login
	}
	if user, _ = s.login(login, ""); user == nil {
		return nil, false
	}
	info := s.targetInfo()
	names := info[:bytes.Index(info, []byte{7, 0, 8, 0})] // what stands before the time
	if len(response) < ntlmv2ProofBytes+ntlmv2TargetInfo {
		return user, false // NTLMv1 has 24 bytes
	}
	proof, blob := response[:ntlmv2ProofBytes], response[ntlmv2ProofBytes:]
	if blob[0] != 1 || blob[1] != 1 || !bytes.HasPrefix(blob[ntlmv2TargetInfo:], names) {
		return user, false
	}
	hash := md4.New()
	hash.Write(utf16LE(user.Password))
	key := hmacMD5(hash.Sum(nil), append(utf16LE(strings.ToUpper(fromUTF16LE(name))), domain...))
	return user, hmac.Equal(proof, hmacMD5(key, append(bytes.Clone(challenge), blob...)))
}

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
func field(message []byte, at int) ([]byte, error) {
	if len(message) < at+8 {
		return nil, errors.New("the message is too short")
	}
	length := int(binary.LittleEndian.Uint16(message[at:]))
	offset := int(binary.LittleEndian.Uint32(message[at+4:]))
	if offset > len(message) || length > len(message)-offset {
		return nil, errors.New("a field lies outside the message")
	}
	return message[offset : offset+length], nil
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
