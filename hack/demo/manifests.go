package main

import (
	"context"
	"encoding/base64"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ens-operator/ens-operator/hack/samples"
	"github.com/ens-operator/ens-operator/runtime/push/apns/apnstest"
)

// authorities is the ConfigMap with the certificate authorities of the fakes.
const authorities = "demo-authorities"

// apply applies config/samples as `kubectl apply --server-side` does. Only the addresses are changed, to those of the
// simulated Exchange and push services, whose certificates are pinned or trusted in turn, and a second endpoint is added:
// a secure email gateway in front of the same Exchange.
func (s *scene) apply(ctx context.Context, n *narrator) error {
	objects, err := samples.Objects()
	if err != nil {
		return err
	}
	if err := s.meetFakes(objects); err != nil {
		return err
	}
	for _, object := range append([]*unstructured.Unstructured{s.authorities(), s.gatewayManifest()}, objects...) {
		object.SetNamespace(namespace)
		err := s.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), client.FieldOwner("kubectl"))
		if err != nil {
			return fmt.Errorf("applying %s %s: %w", object.GetKind(), object.GetName(), err)
		}
		n.say("applied %-12s %s", object.GetKind(), object.GetName())
	}
	return nil
}

// meetFakes points the samples to the fakes, and tells the fakes which credentials the samples hold.
func (s *scene) meetFakes(objects []*unstructured.Unstructured) error {
	bundle := func(key string) map[string]any {
		return map[string]any{"configMap": map[string]any{"name": authorities, "key": key}}
	}
	for _, object := range objects {
		spec, _, _ := unstructured.NestedMap(object.Object, "spec")
		switch object.GetKind() {
		case "EwsEndpoint":
			spec["url"] = s.exchange.URL()
			spec["pinning"] = map[string]any{"pinned": map[string]any{"sha256": []any{s.exchange.Fingerprint()}}}
		case "EnsTenant":
			endpoints, _ := spec["endpoints"].([]any)
			spec["endpoints"] = append(endpoints, gatewayEndpoint)
		case "PushProvider":
			if apns, ok := spec["apns"].(map[string]any); ok {
				apns["url"] = s.apns.URL()
				spec["caBundle"] = bundle("apns.crt")
				if err := s.trustAPNs(apns, objects); err != nil {
					return err
				}
			}
			if fcm, ok := spec["fcm"].(map[string]any); ok {
				fcm["url"], fcm["tokenURL"] = s.fcm.URL(), s.fcm.TokenURL()
				spec["caBundle"] = bundle("fcm.crt")
				content, err := secretValue(objects, fcm["serviceAccountSecretRef"])
				if err != nil {
					return err
				}
				if err := s.fcm.TrustServiceAccount(content); err != nil {
					return fmt.Errorf("the sample's service account: %w", err)
				}
			}
		default:
			continue
		}
		object.Object["spec"] = spec
	}
	return nil
}

func (s *scene) trustAPNs(apns map[string]any, objects []*unstructured.Unstructured) error {
	p8, err := secretValue(objects, apns["keySecretRef"])
	if err != nil {
		return err
	}
	team, _ := apns["teamID"].(string)
	id, _ := apns["keyID"].(string)
	if err := s.apns.TrustKey(apnstest.Key{P8: p8, TeamID: team, KeyID: id}); err != nil {
		return fmt.Errorf("the sample's APNs key: %w", err)
	}
	return nil
}

// secretValue finds the value that a reference names among the samples.
func secretValue(objects []*unstructured.Unstructured, reference any) ([]byte, error) {
	named, _ := reference.(map[string]any)
	for _, object := range objects {
		if object.GetKind() != "Secret" || object.GetName() != named["name"] {
			continue
		}
		key, _ := named["key"].(string)
		if text, found, _ := unstructured.NestedString(object.Object, "stringData", key); found {
			return []byte(text), nil
		}
		if text, found, _ := unstructured.NestedString(object.Object, "data", key); found {
			return base64.StdEncoding.DecodeString(text)
		}
	}
	return nil, fmt.Errorf("the samples hold no Secret for %v", reference)
}

func (s *scene) authorities() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": authorities},
		"data":     map[string]any{"apns.crt": string(s.apns.CertificatePEM()), "fcm.crt": string(s.fcm.CertificatePEM())},
	}}
}
