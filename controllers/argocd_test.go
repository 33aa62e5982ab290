package controllers_test

import (
	"strings"
	"testing"

	lua "github.com/yuin/gopher-lua"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
)

// healthScript is what Argo CD is given for a kind.
func healthScript(t *testing.T, kind string) string {
	t.Helper()
	script, found, err := unstructured.NestedString(readManifests("config", "argocd", "argocd-cm.yaml")[0].Object,
		"data", "resource.customizations.health."+api.GroupName+"_"+kind)
	if err != nil || !found {
		t.Fatalf("there is no script for %s: %v", kind, err)
	}
	return script
}

// health runs a script as Argo CD does: the object is the global obj, and only what cannot reach out of the script is
// there besides the language itself.
func health(t *testing.T, script string, object map[string]any) (status, message string) {
	t.Helper()
	vm := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer vm.Close()
	vm.SetContext(t.Context())
	for name, open := range map[string]lua.LGFunction{lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable, lua.StringLibName: lua.OpenString} {
		vm.Push(vm.NewFunction(open))
		vm.Push(lua.LString(name))
		vm.Call(1, 0)
	}
	vm.SetGlobal("obj", luaValue(vm, object))
	if err := vm.DoString(script); err != nil {
		t.Fatal(err)
	}
	result, ok := vm.Get(-1).(*lua.LTable)
	if !ok {
		t.Fatalf("the script returned a %s", vm.Get(-1).Type())
	}
	return result.RawGetString("status").String(), result.RawGetString("message").String()
}

// luaValue turns a decoded JSON value into Lua's.
func luaValue(vm *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case map[string]any:
		table := vm.NewTable()
		for key, entry := range value {
			table.RawSetString(key, luaValue(vm, entry))
		}
		return table
	case []any:
		table := vm.NewTable()
		for _, entry := range value {
			table.Append(luaValue(vm, entry))
		}
		return table
	case string:
		return lua.LString(value)
	case int64:
		return lua.LNumber(value)
	case float64:
		return lua.LNumber(value)
	case bool:
		return lua.LBool(value)
	default:
		return lua.LNil
	}
}

// asMap is an object as a script sees it.
func asMap(t *testing.T, object client.Object) map[string]any {
	t.Helper()
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

var kinds = []string{"EnsTenant", "EwsEndpoint", "PushProvider"}

func TestArgoCDSeesTheHealthOfEachKind(t *testing.T) {
	t.Parallel()
	ready := func(status, message string) []any {
		return []any{
			map[string]any{"type": "Reconciling", "status": "True", "message": "something else"},
			map[string]any{"type": "Ready", "status": status, "message": message},
		}
	}
	object := func(observed int64, conditions []any) map[string]any {
		return map[string]any{
			"metadata": map[string]any{"generation": int64(2)},
			"status":   map[string]any{"observedGeneration": observed, "conditions": conditions},
		}
	}
	deleted := object(2, ready("True", "fine"))
	deleted["metadata"].(map[string]any)["deletionTimestamp"] = "2026-11-26T00:00:00Z"
	for name, c := range map[string]struct {
		object          map[string]any
		status, message string
	}{
		"no status":                        {map[string]any{"metadata": map[string]any{"generation": int64(1)}}, "Progressing", "Waiting for the operator"},
		"no conditions":                    {map[string]any{"metadata": map[string]any{"generation": int64(1)}, "status": map[string]any{"observedGeneration": int64(1)}}, "Progressing", "Waiting for the operator"},
		"ready, of an earlier generation":  {object(1, ready("True", "fine")), "Progressing", "Waiting for the operator"},
		"failed, of an earlier generation": {object(1, ready("False", "broken")), "Progressing", "Waiting for the operator"},
		"ready":                            {object(2, ready("True", "fine")), "Healthy", "fine"},
		"failed":                           {object(2, ready("False", "broken")), "Degraded", "broken"},
		"at work":                          {object(2, ready("Unknown", "waits for pods")), "Progressing", "waits for pods"},
		"being deleted":                    {deleted, "Progressing", "fine"},
	} {
		for _, kind := range kinds {
			status, message := health(t, healthScript(t, kind), c.object)
			if status != c.status || message != c.message {
				t.Errorf("%s, %s: %s %q, want %s %q", kind, name, status, message, c.status, c.message)
			}
		}
	}
}

func TestArgoCDSeesWhatTheOperatorFinds(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	seen := func(object client.Object, kind string) (status, message string) {
		t.Helper()
		return health(t, healthScript(t, kind), asMap(t, object))
	}
	tenant := s.provisioned()
	for kind, object := range map[string]client.Object{
		"EwsEndpoint": fetch(s, &api.EwsEndpoint{}, "exchange"), "PushProvider": fetch(s, &api.PushProvider{}, "apple"),
	} {
		s.waitCondition(object, api.ConditionReady, metav1.ConditionTrue, "")
		if status, message := seen(object, kind); status != "Healthy" {
			t.Errorf("the %s that is ready is %s: %s", kind, status, message)
		}
	}
	if status, _ := seen(tenant, "EnsTenant"); status != "Progressing" {
		t.Errorf("the tenant whose pods do not run is %s", status)
	}
	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Spec.Endpoints = []api.ResourceName{"missing"} })
	s.waitCondition(tenant, api.ConditionReady, metav1.ConditionFalse, "")
	if status, message := seen(tenant, "EnsTenant"); status != "Degraded" || !strings.Contains(message, "missing") {
		t.Errorf("the tenant that lacks an endpoint is %s: %s", status, message)
	}
}
