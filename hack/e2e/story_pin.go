package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
)

// pin changes Exchange's certificate: the next one is pinned first, then Exchange shows it, then the former pin goes.
func pin(ctx context.Context, t *theatre) error {
	exchange := t.Outside.Exchange
	return t.underTraffic(ctx, func(ctx context.Context) error {
		before := exchange.Fingerprint()
		next, err := exchange.NextCertificate()
		if err != nil {
			return err
		}
		if err := t.pinTo(ctx, before, next); err != nil {
			return err
		}
		exchange.UseNextCertificate()
		t.say("Exchange shows its next certificate")
		if err := t.pinTo(ctx, next); err != nil {
			return err
		}
		return await(ctx, "the endpoint's condition Pinned", func(ctx context.Context) (bool, error) {
			endpoint := &v1alpha1.EwsEndpoint{}
			err := t.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "exchange"}, endpoint)
			return apimeta.IsStatusConditionTrue(endpoint.Status.Conditions, v1alpha1.ConditionPinned), err
		})
	})
}

// pinTo changes the pins and waits until the tenant's pods have them.
func (t *theatre) pinTo(ctx context.Context, pins ...string) error {
	began := time.Now()
	reloaded, err := t.logged(ctx, reloadedMessage)
	if err != nil {
		return err
	}
	list := `"` + strings.Join(pins, `","`) + `"`
	if err := t.patch(ctx, "ewsendpoint", "exchange", fmt.Sprintf(`{"spec":{"pinning":{"pinned":{"sha256":[%s]}}}}`, list)); err != nil {
		return err
	}
	if _, err := t.awaitTenant(ctx, v1alpha1.ConditionReady); err != nil {
		return err
	}
	// The kubelet brings a changed file to the pods within two minutes.
	err = await(ctx, "the pods' new configuration", func(ctx context.Context) (bool, error) {
		now, err := t.logged(ctx, reloadedMessage)
		for pod, times := range now {
			if times <= reloaded[pod] {
				return false, err
			}
		}
		return true, err
	})
	if err != nil {
		return err
	}
	t.say("%d pins after %.1f s", len(pins), time.Since(began).Seconds())
	return nil
}

// reloadedMessage is what the runtime logs when a changed configuration is in force.
const reloadedMessage = "The configuration was reloaded"

// logged counts how often each of the tenant's pods has logged a message.
func (t *theatre) logged(ctx context.Context, message string) (map[string]int, error) {
	pods := &corev1.PodList{}
	if err := t.Client.List(ctx, pods, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	times := map[string]int{}
	for _, pod := range pods.Items {
		log, err := t.Kubectl(ctx, "--namespace="+namespace, "logs", pod.Name)
		if err != nil {
			return nil, err
		}
		times[pod.Name] = strings.Count(log, message)
	}
	return times, nil
}
