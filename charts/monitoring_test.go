package charts_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	crmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/yaml"

	_ "github.com/ens-operator/ens-operator/controllers" // registers the operator's metrics
	"github.com/ens-operator/ens-operator/hack/runtimetest"
)

// exported are the metrics that a program has, with their labels.
type exported map[string][]string

var described = regexp.MustCompile(`fqName: "([^"]+)".*variableLabels: \{([^}]*)\}`)

// describe finds out what metrics there are, whether or not they have a value yet.
func describe(t *testing.T, describe func(chan<- *prometheus.Desc), also ...string) exported {
	t.Helper()
	descriptions := make(chan *prometheus.Desc)
	go func() {
		defer close(descriptions)
		describe(descriptions)
	}()
	found := exported{}
	for description := range descriptions {
		parts := described.FindStringSubmatch(description.String())
		if parts == nil {
			t.Fatalf("cannot read %s", description)
		}
		labels := append([]string{}, also...)
		for name := range strings.SplitSeq(parts[2], ",") {
			if name = strings.Trim(strings.TrimPrefix(name, "c("), ")"); name != "" {
				labels = append(labels, name)
			}
		}
		found[parts[1]] = labels
		// How histograms are read; the labels of a bucket have le.
		found[parts[1]+"_bucket"] = append(slices.Clone(labels), "le")
	}
	return found
}

// everyMetric is what operator and runtime have, and the labels that ServiceMonitor and PodMonitor add.
func everyMetric(t *testing.T) exported {
	t.Helper()
	operator, ok := crmetrics.Registry.(prometheus.Collector)
	if !ok {
		t.Fatalf("%T does not describe its metrics", crmetrics.Registry)
	}
	all := describe(t, operator.Describe, "namespace", "pod")
	runtime := describe(t, runtimetest.New(t, runtimetest.Options{}).Launch(t).Describe, "namespace", "pod", "tenant")
	for name, labels := range runtime {
		if strings.HasPrefix(name, "ens_") && all[name] != nil {
			t.Errorf("operator and runtime both have %s", name)
		}
		all[name] = labels
	}
	return all
}

// rule is one of files/alerts.yaml.
type rule struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	For         string            `json:"for"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

func alertRules(t *testing.T) []rule {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(chart, "files", "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string `json:"name"`
			Rules []rule `json:"rules"`
		} `json:"groups"`
	}
	if err := yaml.UnmarshalStrict(text, &file); err != nil {
		t.Fatal(err)
	}
	var rules []rule
	for _, group := range file.Groups {
		rules = append(rules, group.Rules...)
	}
	return rules
}

// dashboard is what is read of one.
type dashboard struct {
	Title      string `json:"title"`
	UID        string `json:"uid"`
	Templating struct {
		List []struct {
			Name  string `json:"name"`
			Type  string `json:"type"`
			Query string `json:"query"`
		} `json:"list"`
	} `json:"templating"`
	Panels []struct {
		Title   string `json:"title"`
		GridPos struct{ X, Y, W, H int }
		Targets []struct {
			Expr string `json:"expr"`
		} `json:"targets"`
	} `json:"panels"`
}

func dashboards(t *testing.T) map[string]dashboard {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(chart, "files", "dashboard_*.json"))
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	found := map[string]dashboard{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var board dashboard
		if err := json.Unmarshal(text, &board); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		found[strings.TrimSuffix(filepath.Base(file), ".json")] = board
	}
	return found
}

var (
	quoted   = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
	selector = regexp.MustCompile(`\b([a-z][a-z0-9_]*_[a-z0-9_]+)\b(\{[^}]*\})?`)
	matcher  = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)`)
	grouping = regexp.MustCompile(`\b(?:by|on|without|ignoring)\s*\(([^)]*)\)`)
)

// functions of PromQL that look like metrics.
var functions = []string{"histogram_quantile", "label_values"}

// misread says what an expression reads that nobody has: a metric, or a label of one.
func misread(expression string, metrics exported) (wrong []string) {
	plain := quoted.ReplaceAllString(expression, `""`)
	var groups []string
	for _, group := range grouping.FindAllStringSubmatch(plain, -1) {
		for label := range strings.SplitSeq(group[1], ",") {
			groups = append(groups, strings.TrimSpace(label))
		}
	}
	plain = grouping.ReplaceAllString(plain, "")
	read := 0
	for _, found := range selector.FindAllStringSubmatch(plain, -1) {
		name := found[1]
		if slices.Contains(functions, name) {
			continue
		}
		read++
		labels, there := metrics[name]
		if !there {
			wrong = append(wrong, "there is no metric "+name)
			continue
		}
		wanted := slices.Clone(groups)
		for _, label := range matcher.FindAllStringSubmatch(found[2], -1) {
			wanted = append(wanted, label[1])
		}
		for _, label := range wanted {
			if !slices.Contains(labels, label) {
				wrong = append(wrong, name+" has no label "+label)
			}
		}
	}
	if read == 0 {
		wrong = append(wrong, "it reads nothing")
	}
	return wrong
}

func TestMisreadMetricsAreFound(t *testing.T) {
	t.Parallel()
	metrics := exported{"ens_a_total": {"namespace", "x"}, "ens_b": {"namespace"}, "ens_c_bucket": {"le"}}
	for expression, want := range map[string]string{
		`sum by (namespace) (rate(ens_a_total{x=~"ens_no"}[5m])) > 0.5 * sum by (namespace) (ens_b offset 1h)`: "",
		`histogram_quantile(0.99, sum by (le) (rate(ens_c_bucket[5m])))`:                                       "",
		`time() - ens_d > 5`:                  "there is no metric ens_d",
		`ens_b{x="1"}`:                        "ens_b has no label x",
		`sum by (x) (ens_b)`:                  "ens_b has no label x",
		`ens_a_total{namespace!="a", y!~"b"}`: "ens_a_total has no label y",
		`vector(0)`:                           "it reads nothing",
	} {
		if got := strings.Join(misread(expression, metrics), "; "); got != want {
			t.Errorf("%s: %q, want %q", expression, got, want)
		}
	}
}

func TestMonitoringReadsMetricsAndLabelsThatThereAre(t *testing.T) {
	t.Parallel()
	metrics := everyMetric(t)
	for _, r := range alertRules(t) {
		for _, wrong := range misread(r.Expr, metrics) {
			t.Errorf("alert %s: %s", r.Alert, wrong)
		}
	}
	for name, board := range dashboards(t) {
		for _, panel := range board.Panels {
			for _, target := range panel.Targets {
				for _, wrong := range misread(target.Expr, metrics) {
					t.Errorf("%s, %s: %s", name, panel.Title, wrong)
				}
			}
		}
		for _, variable := range board.Templating.List {
			if variable.Type != "query" {
				continue
			}
			if wrong := misread(variable.Query, metrics); len(wrong) > 0 {
				t.Errorf("%s, variable %s: %s", name, variable.Name, wrong)
			}
		}
	}
}

// Who is woken at night is told what has happened and what to do.
func TestEachAlertSaysWhatToDo(t *testing.T) {
	t.Parallel()
	handbook, err := os.ReadFile(filepath.Join("..", "docs", "alerts.md"))
	if err != nil {
		t.Fatal(err)
	}
	label := regexp.MustCompile(`\$labels\.([a-z_]+)`)
	metrics := everyMetric(t)
	seen := map[string]bool{}
	for _, r := range alertRules(t) {
		if seen[r.Alert] || r.Labels["severity"] != "critical" && r.Labels["severity"] != "warning" {
			t.Errorf("%s is there twice, or has severity %q", r.Alert, r.Labels["severity"])
		}
		seen[r.Alert] = true
		if want := []string{"description", "runbook", "summary"}; !slices.Equal(slices.Sorted(maps.Keys(r.Annotations)), want) {
			t.Errorf("%s has the annotations %v, want %v", r.Alert, r.Annotations, want)
		}
		file, anchor, _ := strings.Cut(r.Annotations["runbook"], "#")
		if heading := "\n## " + r.Alert + "\n"; file != "docs/alerts.md" || !strings.HasPrefix(strings.ToLower(r.Alert), anchor) ||
			!strings.Contains(string(handbook), heading) && !strings.Contains(strings.ToLower(string(handbook)), "\n## "+anchor+"\n") {
			t.Errorf("%s: docs/alerts.md does not say what to do (%s)", r.Alert, r.Annotations["runbook"])
		}
		if r.For != "" {
			if _, err := time.ParseDuration(r.For); err != nil {
				t.Errorf("%s: for %s: %v", r.Alert, r.For, err)
			}
		}
		// A label in the text must be one that the result of the expression has.
		kept := grouping.FindStringSubmatch(r.Expr)
		for _, name := range label.FindAllStringSubmatch(r.Annotations["summary"]+r.Annotations["description"], -1) {
			ok := kept != nil && strings.Contains(kept[1], name[1])
			for _, read := range selector.FindAllStringSubmatch(quoted.ReplaceAllString(r.Expr, `""`), -1) {
				ok = ok || kept == nil && slices.Contains(metrics[read[1]], name[1])
			}
			if !ok {
				t.Errorf("%s speaks of the label %s, which its expression does not keep", r.Alert, name[1])
			}
		}
	}
}

func TestDashboardsHaveTheirVariablesAndRoom(t *testing.T) {
	t.Parallel()
	uids := map[string]bool{}
	for name, board := range dashboards(t) {
		if board.Title == "" || board.UID == "" || uids[board.UID] {
			t.Errorf("%s has title %q and uid %q", name, board.Title, board.UID)
		}
		uids[board.UID] = true
		text := ""
		taken := map[[2]int]string{}
		for _, panel := range board.Panels {
			for _, target := range panel.Targets {
				text += target.Expr + "\n"
			}
			for x := panel.GridPos.X; x < panel.GridPos.X+panel.GridPos.W; x++ {
				for y := panel.GridPos.Y; y < panel.GridPos.Y+panel.GridPos.H; y++ {
					if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
						t.Fatalf("%s: %s has no room, or lies on %s", name, panel.Title, other)
					}
					taken[[2]int{x, y}] = panel.Title
				}
			}
		}
		for _, variable := range board.Templating.List {
			if variable.Name != "datasource" && !strings.Contains(text, "$"+variable.Name) {
				t.Errorf("%s does not use the variable %s", name, variable.Name)
			}
		}
	}
	tenant := dashboards(t)["dashboard_tenant"]
	for _, panel := range tenant.Panels {
		for _, target := range panel.Targets {
			if !strings.Contains(target.Expr, `namespace=~"$namespace", tenant=~"$tenant"`) {
				t.Errorf("%s does not limit itself to the tenant that is chosen", panel.Title)
			}
		}
	}
}

// What the operator's own metrics say of namespaces must not be overwritten by the namespace of its pod.
func TestMonitorsKeepAndAddTheLabelsThatAreRead(t *testing.T) {
	t.Parallel()
	all := render(t, "monitoring: {serviceMonitor: true, podMonitor: true}")
	service, _, err := unstructured.NestedSlice(all["ServiceMonitor ens-operator-system/ens-operator"].Object, "spec", "endpoints")
	if err != nil || len(service) != 1 || service[0].(map[string]any)["honorLabels"] != true {
		t.Errorf("the ServiceMonitor has %v (%v)", service, err)
	}
	pods, _, err := unstructured.NestedSlice(all["PodMonitor ens-operator-system/ens-operator-tenants"].Object, "spec", "podMetricsEndpoints")
	if err != nil || len(pods) != 1 {
		t.Fatal(pods, err)
	}
	relabelings, _ := json.Marshal(pods[0].(map[string]any)["relabelings"])
	if want := `[{"sourceLabels":["__meta_kubernetes_pod_label_ens_operator_io_tenant"],"targetLabel":"tenant"}]`; string(relabelings) != want {
		t.Errorf("the PodMonitor relabels %s, want %s", relabelings, want)
	}
}
