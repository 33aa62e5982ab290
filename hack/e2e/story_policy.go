package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// policy looks at the network policies of operator and tenant. Whether they are enforced is up to the cluster's network.
func policy(ctx context.Context, t *theatre) error {
	ports, err := t.Outside.Ports()
	if err != nil {
		return err
	}
	for _, of := range []client.ObjectKey{{Namespace: operatorNamespace, Name: release}, {Namespace: namespace, Name: tenantName}} {
		policy := &networkingv1.NetworkPolicy{}
		if err := t.Client.Get(ctx, of, policy); err != nil {
			return err
		}
		open := egressPorts(policy)
		for _, needed := range append([]string{"53"}, ports...) {
			if !slices.Contains(open, needed) {
				return fmt.Errorf("the policy of %s lets out to the ports %v and not to %s", of, open, needed)
			}
		}
		if len(policy.Spec.PolicyTypes) == 0 || len(policy.Spec.PodSelector.MatchLabels) == 0 {
			return fmt.Errorf("the policy of %s chooses no pods or no direction", of)
		}
		t.say("%s: out to the ports %v, %d rules for who comes in", of, open, len(policy.Spec.Ingress))
	}
	if t.Own() {
		t.counted = "objects as intended; the bridge of this cluster enforces none"
	} else {
		t.counted = "objects as intended; whether this cluster's network enforces them was not tried"
	}
	t.say("%s", t.counted)
	return nil
}

func egressPorts(policy *networkingv1.NetworkPolicy) []string {
	var open []string
	for _, rule := range policy.Spec.Egress {
		for _, port := range rule.Ports {
			if number := strconv.Itoa(int(port.Port.IntVal)); !slices.Contains(open, number) {
				open = append(open, number)
			}
		}
	}
	return open
}
