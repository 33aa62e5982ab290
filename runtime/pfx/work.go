package pfx

import (
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

const (
	// maxIterations bounds the key derivation that opening a file costs. Windows writes 2,000 and OpenSSL 2,048; the
	// advice for passwords that protect files on disk goes up to 600,000, a fraction of a second.
	maxIterations = 600_000
	// maxNesting is deeper than any PKCS#12 file goes.
	maxNesting = 24
)

// affordable reports whether the file asks for no more key derivation than maxIterations, as far as that can be seen
// without the password: in the integrity check and in everything that is not itself encrypted.
func affordable(pfx []byte) bool {
	input := cryptobyte.String(pfx)
	var file, version, content, mac cryptobyte.String
	var tag asn1.Tag
	if !input.ReadASN1(&file, asn1.SEQUENCE) || !file.ReadASN1(&version, asn1.INTEGER) || !file.ReadASN1Element(&content, asn1.SEQUENCE) {
		return false
	}
	if !file.Empty() && (!file.ReadASN1(&mac, asn1.SEQUENCE) || !modest(mac)) {
		return false
	}
	for !mac.Empty() { // DigestInfo, with PBMAC1 a key derivation of its own
		var part cryptobyte.String
		if !mac.ReadAnyASN1Element(&part, &tag) || !derivations(part, 0) {
			return false
		}
	}
	return derivations(content, 0)
}

// derivations walks through DER and reports whether every algorithm of PKCS#5 and PKCS#12 in it asks for modest work.
func derivations(der cryptobyte.String, depth int) bool {
	for !der.Empty() {
		var value cryptobyte.String
		var tag asn1.Tag
		if depth > maxNesting || !der.ReadAnyASN1(&value, &tag) {
			return false
		}
		switch {
		case tag == asn1.SEQUENCE && isKeyDerivation(value):
			if !modestWithin(value, depth) {
				return false
			}
		case tag == asn1.OCTET_STRING && !looksLikeSequence(value), tag&asn1.Tag(constructed) == 0 && tag != asn1.OCTET_STRING:
		case !derivations(value, depth+1):
			return false
		}
	}
	return true
}

// constructed is the bit of a tag that says that other elements are inside.
const constructed = 0x20

// looksLikeSequence reports whether an octet string holds DER again, as those of PKCS#12 do.
func looksLikeSequence(value cryptobyte.String) bool {
	var inner cryptobyte.String
	return value.ReadASN1(&inner, asn1.SEQUENCE) && value.Empty()
}

// keyDerivations are the beginnings of the object identifiers by which a key is derived from a password: those of
// PKCS#5 (1.2.840.113549.1.5) and of PKCS#12 (1.2.840.113549.1.12.1).
var keyDerivations = []string{"\x2a\x86\x48\x86\xf7\x0d\x01\x05", "\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01"}

func isKeyDerivation(sequence cryptobyte.String) bool {
	var identifier cryptobyte.String
	if !sequence.ReadASN1(&identifier, asn1.OBJECT_IDENTIFIER) {
		return false
	}
	for _, beginning := range keyDerivations {
		if len(identifier) >= len(beginning) && string(identifier[:len(beginning)]) == beginning {
			return true
		}
	}
	return false
}

// modestWithin is modest for a sequence and all that are in it.
func modestWithin(sequence cryptobyte.String, depth int) bool {
	if depth > maxNesting || !modest(sequence) {
		return false
	}
	for !sequence.Empty() {
		var value cryptobyte.String
		var tag asn1.Tag
		if !sequence.ReadAnyASN1(&value, &tag) {
			return false
		}
		if tag == asn1.SEQUENCE && !modestWithin(value, depth+1) {
			return false
		}
	}
	return true
}

// modest reports whether no number directly in the sequence is above maxIterations.
func modest(sequence cryptobyte.String) bool {
	for !sequence.Empty() {
		var element cryptobyte.String
		var tag asn1.Tag
		if !sequence.ReadAnyASN1Element(&element, &tag) {
			return false
		}
		var number int64
		if tag == asn1.INTEGER && (!element.ReadASN1Integer(&number) || number > maxIterations) {
			return false
		}
	}
	return true
}
