package outbound

import (
	"errors"

	"github.com/ens-operator/ens-operator/runtime/egress"
	"github.com/ens-operator/ens-operator/runtime/push"
)

const reasonProxy = "ProxyRefused"

// BlameProxy makes it a refusal's reason if err, the end of a request without an answer, is the forward proxy's doing.
func BlameProxy(refusal *push.Error, err error) {
	proxy, ok := errors.AsType[*egress.ProxyError](err)
	if !ok {
		return
	}
	refusal.Reason, refusal.Err = reasonProxy, proxy
	if proxy.Lasting() {
		refusal.Outcome, refusal.Lasting = push.Misconfigured, true
	}
}

// NeedsSomebody reports whether err is the proxy's doing and trying again is no use.
func NeedsSomebody(err error) bool {
	proxy, ok := errors.AsType[*egress.ProxyError](err)
	return ok && proxy.Lasting()
}
