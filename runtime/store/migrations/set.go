package migrations

import (
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"sync"
)

//go:embed sql/*.sql
var embedded embed.FS

// What the table meta says of the schema's version.
const (
	schemaVersionKey = "schema_version"
	// minimumRuntimeKey is the oldest version that a runtime must know.
	minimumRuntimeKey = "minimum_runtime_schema"
)

// Set is a sequence of scripts, each of which makes a version of the schema out of the one before. Programs take Known;
// other sets show how different versions of operator and runtime get on.
type Set struct {
	scripts         []string
	compatibleSince int
}

// Known is the set of this program.
var Known = sync.OnceValue(func() Set {
	folder, err := fs.Sub(embedded, "sql")
	if err != nil {
		panic(err) // only for a path that is none
	}
	set, err := newSet(folder, compatibleSince)
	if err != nil {
		panic(err) // as the test finds that looks at them
	}
	return set
})

// newSet reads the scripts of a folder, whose names begin with the number of the version that they make, from 0001 on
// without a gap.
func newSet(folder fs.FS, compatibleSince int) (Set, error) {
	names, err := fs.Glob(folder, "*.sql")
	if err != nil {
		return Set{}, fmt.Errorf("listing the scripts: %w", err)
	}
	slices.Sort(names)
	set := Set{compatibleSince: compatibleSince}
	for i, name := range names {
		const digits = 4
		if number, err := strconv.Atoi(name[:min(digits, len(name))]); err != nil || number != i+1 {
			return Set{}, fmt.Errorf("script %s stands where number %d is expected", name, i+1)
		}
		script, err := fs.ReadFile(folder, name)
		if err != nil {
			return Set{}, fmt.Errorf("reading script %s: %w", name, err)
		}
		set.scripts = append(set.scripts, string(script))
	}
	return set, nil
}

// Version is the version that the last script makes.
func (s Set) Version() int { return len(s.scripts) }

// UpTo is the set as it was at an earlier version, at which an operator of that time would leave a schema.
func (s Set) UpTo(version int) Set {
	return Set{scripts: s.scripts[:version], compatibleSince: min(s.compatibleSince, version)}
}

// Then is the set as it may be at the next version, with one more script. CompatibleSince is the oldest version that a
// runtime may know and still work with that.
func (s Set) Then(script string, compatibleSince int) Set {
	return Set{scripts: append(slices.Clone(s.scripts), script), compatibleSince: compatibleSince}
}
