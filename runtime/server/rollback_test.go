package server_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

func TestKeysThatAreRolledBackStopNobody(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	replica := x.Start(t)
	phone := x.Phone(alice, push.IOS)
	x.Write(t, filepath.Join(config.KeysFolder, "kek-2"), config.NewKeyFiles()["kek-1"])
	runtimetest.Eventually(t, func() string {
		if storetest.Value[int](t, x.Schema, `SELECT count(*) FROM instances WHERE sealing_kek = 2`) == 0 {
			return "the new key is not sealed with"
		}
		return ""
	})
	runtimetest.MustRegister(t, phone, 7)
	if err := os.Remove(filepath.Join(x.Folder, config.KeysFolder, "kek-2")); err != nil {
		t.Fatal(err)
	}
	runtimetest.Eventually(t, func() string {
		if !strings.Contains(get(t, "http://"+replica.Metrics+"/metrics"), "ens_config_valid 0") {
			return "the configuration counts as valid"
		}
		return ""
	})
	deliver(t, x, lunch)
	if titles := shown(t, x, phone, 1); titles[0] != lunch.FromName {
		t.Errorf("shown are %q", titles)
	}
	runtimetest.MustRegister(t, x.Phone("bob@example.com", push.IOS), 7)
	runtimetest.WaitReady(t, replica.Metrics)
}
