// Package docs_test keeps documents true that the compiler cannot.
package docs_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// families are all statements that docs/compatibility.md has to answer: the numbers of each family.
var families = map[string]string{
	"A": "1-25", "P": "1-33", "R": "3-9 14-17 21 23-26 28-30 32 34-36 90-92", "K": "1-18", "W": "1-20", "E": "1-25", "H": "1-10",
	"B": "1-8", "N": "1-15", "C": "1-14", "S": "1-6", "G": "1-18", "L": "1-26", "U": "1-4", "T": "1-4", "D": "1-10", "I": "1-10",
	"Q": "1-10", "Z": "1-8", "X": "1-11", "LC": "1-41", "CT": "1-15",
}

// total guards families against a slip: it was counted in the list that they were taken from.
const total = 301 + 41 + 15

func wantedIDs(t *testing.T) map[string]bool {
	t.Helper()
	number := func(text string) int {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	ids := map[string]bool{}
	for family, numbers := range families {
		for span := range strings.FieldsSeq(numbers) {
			first, last, found := strings.Cut(span, "-")
			if !found {
				last = first
			}
			for n := number(first); n <= number(last); n++ {
				ids[fmt.Sprintf("%s-%02d", family, n)] = true
			}
		}
	}
	if len(ids) != total {
		t.Fatalf("the list has %d ids, want %d", len(ids), total)
	}
	return ids
}

// row is a line of one of the document's tables.
type row struct {
	line                   int
	id, says, here, checks string
}

var (
	idCell      = regexp.MustCompile(`^[A-Z]+-?[0-9]+$`)
	placeholder = regexp.MustCompile(`\(TODO [^)]+\)`)
	// reference is a package, a test in the package before it, or a text in the tests of that package, such as the name of
	// a subtest.
	reference = regexp.MustCompile("`([a-z0-9][a-z0-9/]*)`|\\b((?:Test|Fuzz|Benchmark)[A-Z]\\w*)|\"([^\"]+)\"")
	// reasons begin the answers that need no test.
	reasons = []string{"Not yet:", "Differs:", "Outside:"}
)

func readRows(t *testing.T, document string) []row {
	t.Helper()
	content, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	var rows []row
	for number, line := range strings.Split(string(content), "\n") {
		cells := strings.Split(strings.ReplaceAll(line, `\|`, "\x00"), "|")
		if len(cells) < 2 || !idCell.MatchString(strings.TrimSpace(cells[1])) {
			continue
		}
		if len(cells) != 6 {
			t.Errorf("line %d has %d cells, want 4", number+1, len(cells)-2)
			continue
		}
		for i, cell := range cells {
			cells[i] = strings.TrimSpace(strings.ReplaceAll(cell, "\x00", "|"))
		}
		rows = append(rows, row{line: number + 1, id: cells[1], says: cells[2], here: cells[3], checks: cells[4]})
	}
	return rows
}

// pains is how many troubles with operators docs/operations.md has to answer, R1 and so on.
const pains = 22

func TestEveryStatementIsAnsweredOnce(t *testing.T) {
	t.Parallel()
	for document, missing := range map[string]map[string]bool{compatibility: wantedIDs(t), operations: wantedPains()} {
		t.Run(document, func(t *testing.T) {
			t.Parallel()
			answeredOnce(t, document, missing)
		})
	}
}

// The documents that answer one by one.
const (
	compatibility = "compatibility.md"
	operations    = "operations.md"
)

func wantedPains() map[string]bool {
	ids := map[string]bool{}
	for n := range pains {
		ids[fmt.Sprintf("R%d", n+1)] = true
	}
	return ids
}

func answeredOnce(t *testing.T, document string, missing map[string]bool) {
	t.Helper()
	seen := map[string]int{}
	for _, r := range readRows(t, document) {
		switch {
		case seen[r.id] > 0:
			t.Errorf("line %d: %s is answered in line %d already", r.line, r.id, seen[r.id])
		case !missing[r.id]:
			t.Errorf("line %d: nobody has heard of %s", r.line, r.id)
		case r.says == "" || r.here == "":
			t.Errorf("line %d: %s is not answered", r.line, r.id)
		}
		seen[r.id] = r.line
		delete(missing, r.id)
	}
	var ids []string
	for id := range missing {
		ids = append(ids, id)
	}
	if slices.Sort(ids); len(ids) > 0 {
		t.Errorf("not answered are %s", strings.Join(ids, " "))
	}
}

func TestTheTestsThatTheAnswersNameExist(t *testing.T) {
	t.Parallel()
	for _, document := range []string{compatibility, operations} {
		t.Run(document, func(t *testing.T) {
			t.Parallel()
			namedTestsExist(t, readRows(t, document))
		})
	}
}

func namedTestsExist(t *testing.T, rows []row) {
	t.Helper()
	packages := map[string]*testedPackage{}
	for _, r := range rows {
		unfinished := placeholder.FindAllString(r.here+r.checks, -1)
		if len(unfinished) > 0 {
			t.Errorf("line %d: %s has yet to be filled in: %s", r.line, r.id, strings.Join(unfinished, " "))
		}
		tests := 0
		var in *testedPackage
		for _, found := range reference.FindAllStringSubmatch(r.checks, -1) {
			path, test, text := found[1], found[2], found[3]
			switch {
			case path != "":
				if packages[path] == nil {
					packages[path] = readTests(t, path)
				}
				in = packages[path]
			case in == nil:
				t.Errorf("line %d: %s names no package before %s%s", r.line, r.id, test, text)
			case test != "" && !in.tests[test]:
				t.Errorf("line %d: %s names %s, which %s does not have", r.line, r.id, test, in.path)
			case text != "" && !in.texts[text]:
				t.Errorf("line %d: %s names %q, which stands in no test of %s", r.line, r.id, text, in.path)
			}
			if test != "" {
				tests++
			}
		}
		excused := slices.ContainsFunc(reasons, func(reason string) bool { return strings.HasPrefix(r.here, reason) })
		if tests == 0 && len(unfinished) == 0 && !excused {
			t.Errorf("line %d: %s names no test, and begins with none of %q", r.line, r.id, reasons)
		}
	}
}

// testedPackage is what the tests of a package hold.
type testedPackage struct {
	path string
	// tests are its test functions, texts the strings in them.
	tests, texts map[string]bool
}

// readTests reads the tests of a package, given by its folder below the root of the repository.
func readTests(t *testing.T, path string) *testedPackage {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", filepath.FromSlash(path), "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Errorf("%s is no package with tests", path)
	}
	p := &testedPackage{path: path, tests: map[string]bool{}, texts: map[string]bool{}}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, declaration := range parsed.Decls {
			if function, ok := declaration.(*ast.FuncDecl); ok && function.Recv == nil {
				p.tests[function.Name.Name] = true
			}
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
				if text, err := strconv.Unquote(literal.Value); err == nil {
					p.texts[text] = true
				}
			}
			return true
		})
	}
	return p
}
