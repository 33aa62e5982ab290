package config

import "crypto/tls"

// Number is the version as crypto/tls counts it; VersionTLS12 for one that is not known or not set.
func (v TLSVersion) Number() uint16 {
	switch v {
	case TLS10:
		return tls.VersionTLS10
	case TLS11:
		return tls.VersionTLS11
	case TLS13:
		return tls.VersionTLS13
	default:
		return tls.VersionTLS12
	}
}
