package credential

import (
	"crypto"
	"crypto/x509"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/ens-operator/ens-operator/runtime/secret"
)

const (
	// maxPFX is more than what fits the longest payload, in bytes.
	maxPFX = 24 << 10
	// maxChain bounds the certificates of a file: the user's own, intermediates, a root.
	maxChain = 8
	// maxIterations bounds the key derivation that opening a file costs. Windows writes 2,000 and OpenSSL 2,048; the
	// advice for passwords that protect files on disk goes up to 600,000, a fraction of a second.
	maxIterations = 600_000
	// maxNesting is deeper than any PKCS#12 file goes.
	maxNesting = 24
)

// opening lets one PKCS#12 file be opened at a time, so that a storm of expensive ones costs one core at most.
var opening = make(chan struct{}, 1)

// openPFX takes the certificate and its key out of a PKCS#12 file. Every failure is ErrUndecryptable.
func openPFX(pfx []byte, password secret.Value) (Certificate, error) {
	if len(pfx) > maxPFX || !affordable(pfx) {
		return Certificate{}, ErrUndecryptable
	}
	ordered, ok := keyFirst(pfx, password.RevealString())
	if !ok {
		return Certificate{}, ErrUndecryptable
	}
	defer clear(ordered)
	opening <- struct{}{}
	defer func() { <-opening }()
	key, own, others, err := pkcs12.DecodeChain(ordered, password.RevealString())
	if err != nil || len(others) >= maxChain {
		return Certificate{}, ErrUndecryptable
	}
	signer, ok := key.(crypto.Signer)
	if !ok || !matches(signer, own) {
		return Certificate{}, ErrUndecryptable
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Certificate{}, ErrUndecryptable
	}
	certificate := Certificate{Chain: []secret.Value{secret.New(own.Raw)}, Key: secret.New(der)}
	for _, other := range others {
		certificate.Chain = append(certificate.Chain, secret.New(other.Raw))
	}
	return certificate, nil
}

// matches reports whether the key is the certificate's.
func matches(key crypto.Signer, certificate *x509.Certificate) bool {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(certificate.PublicKey)
}

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
