//! Alerts and dashboards: what they name exists in what the program exposes, Prometheus takes them, and each alert has its
//! page.

use std::collections::BTreeSet;

use super::observability::all_exposed;
use super::*;

pub(super) fn rules() -> Value {
    documents(&read("deploy/observability/prometheusrule.yaml")).remove(0)["spec"].take()
}

pub(super) fn alerts() -> Vec<Value> {
    let groups = rules()["groups"].as_array().unwrap().clone();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

/// The queries of all dashboards, with their variables filled in.
fn queries() -> Vec<String> {
    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|value| collect(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    for name in ["fleet", "cluster"] {
        let before = found.len();
        let dashboard: Value =
            serde_json::from_str(&read(format!("deploy/observability/dashboards/{name}.json"))).unwrap();
        collect(&dashboard, &mut found);
        assert!(found.len() > before + 10, "dashboard {name} has hardly a query");
    }
    found.iter().map(|query| query.replace("$__rate_interval", "5m").replace("$cluster", "paris")).collect()
}

/// Names of metrics in a query.
fn named(query: &str) -> BTreeSet<String> {
    let words = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("linkspan_")).map(str::to_owned).collect()
}

#[test]
fn alerts_and_dashboards_name_metrics_that_exist() {
    let exposed: BTreeSet<_> = all_exposed().into_keys().collect();
    let alerts: Vec<_> = alerts().iter().map(|alert| alert["expr"].as_str().unwrap().to_owned()).collect();
    let mut names = BTreeSet::new();
    for query in alerts.iter().chain(&queries()) {
        let these = named(query);
        // Prometheus' own word on its targets.
        assert!(!these.is_empty() || query.starts_with("up{"), "{query} names no metric of ours");
        assert!(these.is_subset(&exposed), "{query}: {:?} is exposed by nobody", &these - &exposed);
        names.extend(these);
    }
    assert!(names.len() > 30, "{names:?}");
}

/// Runs promtool on files of these names and texts.
pub(super) fn promtool(arguments: &[&str], files: &[(&str, &str)]) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let output = Command::new(peer("promtool")).args(arguments).current_dir(folder.path()).output().unwrap();
    let told = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    if output.status.success() { Ok(told) } else { Err(told) }
}

#[test]
fn prometheus_takes_all_rules_and_queries() {
    promtool(&["check", "rules", "--lint=all", "--lint-fatal", "rules.yaml"], &[("rules.yaml", &rules().to_string())])
        .unwrap();
    let query = |(number, query)| serde_json::json!({ "record": format!("query:{number}"), "expr": query });
    let records: Vec<_> = queries().into_iter().enumerate().map(query).collect();
    let all = serde_json::json!({ "groups": [{ "name": "dashboards", "rules": records }] }).to_string();
    promtool(&["check", "rules", "all.yaml"], &[("all.yaml", &all)]).unwrap();
    let wrong = all.replacen("sum by (", "sum by ((", 1);
    promtool(&["check", "rules", "all.yaml"], &[("all.yaml", &wrong)]).unwrap_err();
}

#[test]
fn every_alert_has_its_page_and_every_page_its_alert() {
    let mut pages = BTreeSet::from(["README.md".to_owned()]);
    let index = read("docs/runbooks/README.md");
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        let page = read(format!("docs/runbooks/{name}.md"));
        let expr = alert["expr"].as_str().unwrap();
        assert!(page.starts_with(&format!("# {name}\n")) && page.contains(&format!("\n{expr}\n")), "{page}");
        for part in ["## What it means", "## Where to look", "## What to do"] {
            assert!(page.contains(part), "{name} does not say {part:?}");
        }
        let url = alert["annotations"]["runbook_url"].as_str().unwrap();
        assert!(url.ends_with(&format!("/docs/runbooks/{name}.md")), "{url}");
        assert!(matches!(alert["labels"]["severity"].as_str(), Some("critical" | "warning" | "info")), "{name}");
        assert!(index.contains(&format!("[{name}]({name}.md)")), "docs/runbooks/README.md lacks {name}");
        pages.insert(format!("{name}.md"));
    }
    let found = files::below(&tree().join("docs/runbooks"));
    let found: BTreeSet<_> =
        found.iter().map(|page| page.file_name().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(found, pages);
}

#[test]
fn the_chart_brings_what_kubectl_does() {
    let plain = chart("linkspan", "default", "");
    let mut with =
        chart("linkspan", "default", "monitoring: { podMonitor: true, prometheusRule: true, dashboards: true }");
    with.retain(|name, _| !plain.contains_key(name));
    assert_same("monitoring", &with, &base("deploy/observability"));
}
