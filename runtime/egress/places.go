package egress

import "net/netip"

// A place is a range of addresses that outgoing connections do not reach.
type place struct {
	name     string
	prefixes []netip.Prefix
	// local places are what AllowLoopback allows.
	local bool
}

// The forbidden places, the most telling first: an address is called by the first that holds it.
var places = []place{
	{name: "the metadata service of a cloud", prefixes: prefixes(
		"169.254.169.254/32", // AWS, Azure, Google, OpenStack, Oracle
		"169.254.170.2/32",   // AWS ECS credentials
		"169.254.170.23/32",  // AWS EKS Pod Identity
		"fd00:ec2::254/128",  // AWS over IPv6
		"fd00:ec2::23/128",   // AWS EKS Pod Identity over IPv6
		"fd20:ce::254/128",   // Google over IPv6
		"100.100.100.200/32", // Alibaba
		"168.63.129.16/32",   // Azure's host agent
	)},
	{name: "a loopback address", prefixes: prefixes("127.0.0.0/8", "::1/128"), local: true},
	{name: "a link-local address", prefixes: prefixes("169.254.0.0/16", "fe80::/10"), local: true},
	// Linux connects 0.0.0.0 and :: to the machine itself.
	{name: "an unspecified address", prefixes: prefixes("0.0.0.0/8", "::/128")},
	{name: "a multicast address", prefixes: prefixes("224.0.0.0/4", "ff00::/8")},
	{name: "a broadcast or reserved address", prefixes: prefixes("240.0.0.0/4")},
	// IPv4-compatible and site-local addresses are long deprecated (RFC 4291, section 2.5.5.1; RFC 3879), some stacks
	// still route them.
	{name: "a deprecated form of address", prefixes: prefixes("::/96", "fec0::/10")},
}

// The prefixes of IPv6 addresses that lead to the IPv4 address inside them, and the byte where it begins.
var embeddings = []struct {
	prefix netip.Prefix
	offset int
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12}, // NAT64, RFC 6052
	{netip.MustParsePrefix("2002::/16"), 2},     // 6to4, RFC 3056
}

func prefixes(texts ...string) []netip.Prefix {
	parsed := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		parsed[i] = netip.MustParsePrefix(text)
	}
	return parsed
}

// refusal says why address may not be reached; nil if it may.
func (g Guard) refusal(address netip.Addr) *RefusedError {
	inner := embedded(address)
	for _, place := range places {
		for _, prefix := range place.prefixes {
			if !prefix.Contains(inner) {
				continue
			}
			if place.local && g.AllowLoopback {
				return nil
			}
			return &RefusedError{Address: address, Place: place.name, Allowable: place.local}
		}
	}
	return nil
}

// embedded returns the IPv4 address that address stands for (mapped, NAT64 or 6to4), else address without its zone.
func embedded(address netip.Addr) netip.Addr {
	address = address.Unmap().WithZone("")
	for _, embedding := range embeddings {
		if embedding.prefix.Contains(address) {
			bytes := address.As16()
			return netip.AddrFrom4([4]byte(bytes[embedding.offset : embedding.offset+4]))
		}
	}
	return address
}
