package condition

import (
	"errors"
	"fmt"
	"net/url"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/runtime/egress"
)

// Address judges whether connections to the address in field may be made at all, as far as can be told without
// resolving its name; the runtime looks again at each connection.
func Address(field, text string, guard egress.Guard) Finding {
	accepted := OK(v1alpha1.ReasonAccepted, "Tenants may connect to this address")
	if text == "" {
		return accepted
	}
	address, err := url.Parse(text)
	if err != nil {
		return Stuck(v1alpha1.ReasonInvalid, fmt.Sprintf("The address in spec.%s cannot be read: correct it", field))
	}
	err = guard.CheckURL(address)
	if err == nil {
		return accepted
	}
	if refusal, ok := errors.AsType[*egress.RefusedError](err); ok && refusal.Allowable {
		return Stuck(v1alpha1.ReasonLoopbackRefused, fmt.Sprintf(
			"The address in spec.%s leads to %s: correct it (only an operator with --allow-loopback permits it, for tests)", field, refusal.Place))
	}
	return Stuck(v1alpha1.ReasonInvalid, fmt.Sprintf("The address in spec.%s is refused: %v", field, err))
}
