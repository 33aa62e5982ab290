package server_test

import (
	"testing"

	"github.com/ens-operator/ens-operator/hack/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }
