package step_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"testing"

	"github.com/ens-operator/ens-operator/runtime/step"
)

func TestEveryStepIsListed(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "step.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	declared := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		name, _ := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		declared++
		if !slices.Contains(step.All(), step.Step(name)) {
			t.Errorf("%s is not in All, so no process dies there in a test", spec.Names[0])
		}
		return true
	})
	if declared != len(step.All()) {
		t.Errorf("All has %d steps, %d are declared", len(step.All()), declared)
	}
}

func TestNobodyNeedsToListen(t *testing.T) {
	t.Parallel()
	step.Hook(nil).Reached(step.PostReceived)
}
