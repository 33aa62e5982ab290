package ewsendpoint

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/condition"
	"github.com/ens-operator/ens-operator/controllers/desired"
	"github.com/ens-operator/ens-operator/controllers/probe"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/egress"
)

// question is what to ask the endpoint's server, as a tenant's runtime would.
func (r *Reconciler) question(ctx context.Context, endpoint *v1alpha1.EwsEndpoint) (question, error) {
	var references desired.References
	if err := references.AddEndpoint(endpoint); err != nil {
		return question{}, err
	}
	effective := config.Config{Endpoints: references.Endpoints}.Effective().Endpoints[0]
	q := question{Question: probe.Question{URL: effective.URL, UserAgent: effective.UserAgent, Verification: egress.Verification{
		SHA256: effective.Pinning.SHA256, PublicKeySHA256: effective.Pinning.PublicKeySHA256, MinVersion: effective.MinTLSVersion.Number(),
	}}}
	var bundle []byte
	if named := endpoint.Spec.Pinning.CertificateAuthority; named != nil {
		var err error
		if bundle, err = r.Foreign.Bundle(ctx, endpoint.Namespace, *named); err != nil {
			return question{}, err
		}
		q.Verification.Roots = x509.NewCertPool()
		q.Verification.Roots.AppendCertsFromPEM(bundle)
	}
	sum := sha256.Sum256(fmt.Append(nil, q.URL, q.UserAgent, q.Verification.SHA256, q.Verification.PublicKeySHA256, q.Verification.MinVersion, string(bundle)))
	q.digest = hex.EncodeToString(sum[:])
	return q, nil
}

// pinnedFinding compares the certificate that the server showed with what is accepted, and with trustOnFirstUse accepts the
// first one, or the one that an administrator names.
func (r *Reconciler) pinnedFinding(endpoint *v1alpha1.EwsEndpoint, shown *probe.Result) condition.Finding {
	if shown == nil || len(shown.Certificates) == 0 {
		return stillPinned(endpoint)
	}
	seen := egress.Fingerprint(shown.Certificates[0])
	if endpoint.Spec.Pinning.TrustOnFirstUse == nil {
		return verified(shown.Verification)
	}
	trusted := endpoint.Status.Trusted
	named, _ := egress.ParseFingerprint(endpoint.Annotations[v1alpha1.AnnotationAcceptCertificate])
	switch {
	case slices.Contains(trusted, v1alpha1.Fingerprint(seen)):
	case len(trusted) == 0:
		endpoint.Status.Trusted = []v1alpha1.Fingerprint{v1alpha1.Fingerprint(seen)}
	case named == seen: // the one before goes on counting: not all servers of a farm change in the same minute
		endpoint.Status.Trusted = []v1alpha1.Fingerprint{v1alpha1.Fingerprint(seen), trusted[0]}
	default:
		return condition.Stuck(v1alpha1.ReasonOtherCertificate, fmt.Sprintf(
			"The server shows another certificate than the one that was trusted first (SHA-256 fingerprint %s): compare it on the server itself; "+
				"if it is right, accept it by the annotation %s with that value, if not, somebody may be in between",
			seen, v1alpha1.AnnotationAcceptCertificate))
	}
	return condition.OK(v1alpha1.ReasonPinned, "The server's certificate is one that is trusted")
}

func verified(err error) condition.Finding {
	if refusal, ok := errors.AsType[*egress.PinError](err); ok {
		return condition.Stuck(v1alpha1.ReasonOtherCertificate, "The server's certificate is not accepted: "+refusal.Error())
	}
	if err != nil {
		return condition.Stuck(v1alpha1.ReasonOtherCertificate, fmt.Sprintf(
			"The server's certificate is not accepted: %v; put the authority that issued it into the bundle, or correct the url", err))
	}
	return condition.OK(v1alpha1.ReasonPinned, "The server's certificate is one that is accepted")
}

// stillPinned is what holds as long as the server does not show itself: what was found before, unless the spec has changed.
func stillPinned(endpoint *v1alpha1.EwsEndpoint) condition.Finding {
	before := meta.FindStatusCondition(endpoint.Status.Conditions, v1alpha1.ConditionPinned)
	if before == nil || before.ObservedGeneration != endpoint.Generation {
		return condition.Waiting("The server has not shown its certificate yet")
	}
	return condition.Finding{
		Status: before.Status, Reason: before.Reason, Message: before.Message, Stalled: before.Status == metav1.ConditionFalse,
	}
}

// reachableFinding says whether what answers looks like EWS.
func reachableFinding(endpoint *v1alpha1.EwsEndpoint, shown probe.Result) condition.Finding {
	unexpected := func(advice string) condition.Finding {
		return condition.Failed(v1alpha1.ReasonUnexpectedAnswer, fmt.Sprintf("The server answers %d %s without asking for credentials: %s",
			shown.Status, http.StatusText(shown.Status), advice))
	}
	switch {
	case shown.Err != nil:
		return condition.Failed(v1alpha1.ReasonUnreachable, fmt.Sprintf(
			"The operator does not reach the server: %v. If the tenants' pods do not either, look at name, route and firewall", shown.Err))
	case shown.AsksForCredentials():
		return offeredFinding(endpoint.Spec.AuthenticationMethods, shown.Schemes)
	case endpoint.Spec.SecureEmailGateway != nil && slices.Contains(gatewayAnswers, shown.Status):
		return condition.OK(v1alpha1.ReasonReachable, "A gateway answers, which lets compliant devices pass")
	case shown.Status == http.StatusNotFound:
		return unexpected("is the path of the url right, usually /EWS/Exchange.asmx, and does the gateway, if there is one, pass EWS on?")
	case shown.Status == http.StatusForbidden:
		return unexpected("is the path of the url complete, and may the operator reach EWS?")
	case shown.Status >= http.StatusInternalServerError:
		return unexpected("it seems to be in trouble; it is looked at again")
	default:
		return unexpected("is there a login page or a proxy in front of Exchange?")
	}
}

// gatewayAnswers are what a Secure Email Gateway answers to somebody who names no device (G-07 to G-09).
var gatewayAnswers = []int{http.StatusNoContent, http.StatusBadRequest, http.StatusForbidden}

// offeredFinding compares what the server offers with what is allowed. A client certificate is not offered in words.
func offeredFinding(methods []v1alpha1.AuthenticationMethod, schemes []string) condition.Finding {
	if len(methods) == 0 {
		methods = []v1alpha1.AuthenticationMethod{v1alpha1.AuthenticationBasic}
	}
	offers := func(method v1alpha1.AuthenticationMethod) bool {
		scheme := map[v1alpha1.AuthenticationMethod]string{
			v1alpha1.AuthenticationBasic: "Basic", v1alpha1.AuthenticationNTLM: "NTLM", v1alpha1.AuthenticationOAuth: "Bearer",
		}[method]
		return scheme == "" || slices.ContainsFunc(schemes, func(s string) bool { return strings.EqualFold(s, scheme) })
	}
	if !slices.ContainsFunc(methods, offers) {
		return condition.Failed(v1alpha1.ReasonMethodsNotOffered, fmt.Sprintf(
			"The server offers %s and none of the methods in spec.authenticationMethods: add one that it offers, or enable one on the server's EWS directory",
			cmp.Or(strings.Join(schemes, ", "), "nothing")))
	}
	return condition.OK(v1alpha1.ReasonReachable, "The server asks for credentials, as EWS does")
}

// describe is what the server showed, without the time: it would change with every look.
func describe(shown probe.Result) *v1alpha1.EndpointServer {
	server := &v1alpha1.EndpointServer{
		TLSVersion: shown.TLSVersion, AuthenticationSchemes: shown.Schemes, Version: shown.Version,
	}
	if shown.Status != 0 {
		server.AsksForCredentials = new(shown.AsksForCredentials())
	}
	for _, certificate := range shown.Certificates {
		server.Certificates = append(server.Certificates, v1alpha1.ShownCertificate{
			Subject: name(certificate.Subject.CommonName), Issuer: name(certificate.Issuer.CommonName),
			CertificateStatus: v1alpha1.CertificateStatus{
				SHA256: egress.Fingerprint(certificate), PublicKeySHA256: egress.PublicKeyFingerprint(certificate),
				NotAfter: new(metav1.NewTime(certificate.NotAfter)),
			},
		})
	}
	return server
}

// name keeps a server's words in bounds.
func name(text string) string {
	const longest = 128
	text = strings.ToValidUTF8(text, "")
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "")
	}
	return text
}
