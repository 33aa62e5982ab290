package pfx

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	encoding "encoding/asn1"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// What is inside the encrypted part of a PKCS#12 file cannot be looked at before it is decrypted. A private key that
// hides there may ask for any amount of work, since it is encrypted once more with a key derivation of its own. The
// library refuses a second key before it derives anything for it, so the key that can be seen has to come first.

// The object identifiers of PKCS#7, PKCS#12, and PKCS#5.
var (
	oidData        = encoding.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidKeyBag      = encoding.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 1}
	oidShroudedKey = encoding.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 2}
	oidPBKDF2      = encoding.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidPBMAC1      = encoding.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 14}
	oidHMACSHA256  = encoding.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
)

// explicit is the tag [0] EXPLICIT.
var explicit = asn1.Tag(0).Constructed().ContextSpecific()

// keyFirst returns the file with the part first that is not encrypted and holds a private key. It returns false if there
// is none: all programs that are known to export certificates write one. A file whose order is changed gets another
// integrity check, since the one it had covers the order; who has the file and its password needs none.
func keyFirst(pfx []byte, password string) ([]byte, bool) {
	input := cryptobyte.String(pfx)
	var file, content, safe, parts cryptobyte.String
	var version int
	if !input.ReadASN1(&file, asn1.SEQUENCE) || !input.Empty() || !file.ReadASN1Integer(&version) || !file.ReadASN1(&content, asn1.SEQUENCE) ||
		!readData(&content, &safe) || !safe.ReadASN1(&parts, asn1.SEQUENCE) {
		return nil, false
	}
	var order []cryptobyte.String
	key := -1
	for !parts.Empty() {
		var part cryptobyte.String
		if !parts.ReadASN1Element(&part, asn1.SEQUENCE) {
			return nil, false
		}
		if key < 0 && holdsKey(part) {
			key = len(order)
		}
		order = append(order, part)
	}
	switch key {
	case -1:
		return nil, false
	case 0:
		return pfx, true
	}
	first := order[key]
	order = slices.Insert(slices.Delete(order, key, key+1), 0, first)
	joined := bytes.Join(asBytes(order), nil)
	defer clear(joined)
	return wrapSafe(joined, password)
}

func asBytes(parts []cryptobyte.String) [][]byte {
	all := make([][]byte, len(parts))
	for i, part := range parts {
		all[i] = part
	}
	return all
}

// readData reads a content that is not encrypted: the object identifier and an octet string.
func readData(content, data *cryptobyte.String) bool {
	var kind encoding.ObjectIdentifier
	var inner cryptobyte.String
	return content.ReadASN1ObjectIdentifier(&kind) && kind.Equal(oidData) &&
		content.ReadASN1(&inner, explicit) && inner.ReadASN1(data, asn1.OCTET_STRING)
}

// holdsKey reports whether a part is not encrypted and has a private key among its bags.
func holdsKey(part cryptobyte.String) bool {
	var content, data, bags cryptobyte.String
	if !part.ReadASN1(&content, asn1.SEQUENCE) || !readData(&content, &data) || !data.ReadASN1(&bags, asn1.SEQUENCE) {
		return false
	}
	for !bags.Empty() {
		var bag cryptobyte.String
		var kind encoding.ObjectIdentifier
		if !bags.ReadASN1(&bag, asn1.SEQUENCE) || !bag.ReadASN1ObjectIdentifier(&kind) {
			return false
		}
		if kind.Equal(oidKeyBag) || kind.Equal(oidShroudedKey) {
			return true
		}
	}
	return false
}

// saltSize is that of RFC 8018, section 4.1.
const saltSize = 8

// wrapSafe makes a file of parts, with the integrity check of RFC 9579 in its cheapest form.
func wrapSafe(parts []byte, password string) ([]byte, bool) {
	salt := make([]byte, saltSize)
	// overhead is more than what stands around the parts, so that no copy of a key is left behind by a slice that grew.
	const iterations, version, overhead = 1, 3, 512
	macKey, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		return nil, false
	}
	defer clear(macKey)
	safe := cryptobyte.NewBuilder(make([]byte, 0, len(parts)+overhead))
	sequence(safe, func(b *cryptobyte.Builder) { b.AddBytes(parts) })
	content, err := safe.Bytes()
	if err != nil {
		return nil, false
	}
	defer clear(content)
	mac := hmac.New(sha256.New, macKey)
	mac.Write(content)
	hmacSHA256 := func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidHMACSHA256)
		b.AddASN1NULL()
	}
	derivation := func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidPBKDF2)
		sequence(b, func(b *cryptobyte.Builder) {
			b.AddASN1OctetString(salt)
			b.AddASN1Int64(iterations)
			b.AddASN1Int64(sha256.Size)
			sequence(b, hmacSHA256)
		})
	}
	file := cryptobyte.NewBuilder(make([]byte, 0, len(content)+overhead))
	sequence(file, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(version)
		sequence(b, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidData)
			b.AddASN1(explicit, func(b *cryptobyte.Builder) { b.AddASN1OctetString(content) })
		})
		sequence(b, func(b *cryptobyte.Builder) {
			sequence(b, func(b *cryptobyte.Builder) {
				sequence(b, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(oidPBMAC1)
					sequence(b, func(b *cryptobyte.Builder) {
						sequence(b, derivation)
						sequence(b, hmacSHA256)
					})
				})
				b.AddASN1OctetString(mac.Sum(nil))
			})
			b.AddASN1OctetString(salt)
			b.AddASN1Int64(iterations)
		})
	})
	whole, err := file.Bytes()
	return whole, err == nil
}

func sequence(b *cryptobyte.Builder, inside cryptobyte.BuilderContinuation) {
	b.AddASN1(asn1.SEQUENCE, inside)
}
