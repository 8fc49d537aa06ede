//! How Linkspan is rolled out: charts, kustomize bases, K3s, Fleet, Argo CD, krew and systemd. All of them are rendered or read
//! by the real programs. `tests/setup.sh helm kubernetes krew promtool cargo-cyclonedx systemd-analyze` makes sure that they are there.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod alert_faults;
mod alerts;
mod charts;
mod files;
mod gitops;
mod image;
mod krew;
mod observability;
mod systemd;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Objects by kind, namespace and name.
type Objects = BTreeMap<String, Value>;

/// The top of the source tree.
fn tree() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = tree().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A program that `tests/setup.sh` builds.
fn peer(name: &str) -> PathBuf {
    let path = tree().join("target/peers").join(name);
    assert!(
        path.exists(),
        "{} is missing: run `tests/setup.sh helm kubernetes krew promtool cargo-cyclonedx`",
        path.display()
    );
    path
}

/// What a command prints, or what it says when it fails.
fn ran(command: &mut Command) -> Result<String, String> {
    let output = command.current_dir(tree()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// Documents of a YAML text; empty ones are left out.
fn documents(text: &str) -> Vec<Value> {
    let parsed: Result<Vec<Value>, _> = serde_saphyr::from_multiple(text);
    let parsed = parsed.unwrap_or_else(|error| panic!("{error}:\n{text}"));
    parsed.into_iter().filter(|document| !document.is_null()).collect()
}

/// The objects of a YAML text. Two of one name fail the test: the one would overwrite the other.
fn objects(text: &str) -> Objects {
    let mut objects = Objects::new();
    for document in documents(text) {
        let name = |path: &str| document.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let key = format!("{} {}/{}", name("/kind"), name("/metadata/namespace"), name("/metadata/name"));
        assert!(!key.starts_with(' ') && !key.ends_with('/'), "no object: {document}");
        assert!(objects.insert(key.clone(), document).is_none(), "{key} is there twice");
    }
    objects
}

/// The objects of a kustomize base.
fn base(folder: &str) -> Objects {
    let built = ran(Command::new(peer("kubectl")).args(["kustomize", folder]));
    objects(&built.unwrap_or_else(|error| panic!("{folder}: {error}")))
}

/// What `helm template` prints of a chart with these values, or why it refuses them.
fn template(chart: &str, namespace: &str, values: &str) -> Result<String, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), values).unwrap();
    let mut helm = Command::new(peer("helm"));
    helm.args(["template", "release", "--namespace", namespace, "--values"]).arg(file.path());
    ran(helm.arg(tree().join("deploy/helm").join(chart)))
}

/// The objects of a chart.
fn chart(chart: &str, namespace: &str, values: &str) -> Objects {
    objects(&template(chart, namespace, values).unwrap_or_else(|error| panic!("{chart}: {error}")))
}

/// Fails with the first difference, where the whole would fill pages.
fn assert_same(what: &str, found: &Objects, wanted: &Objects) {
    let names = |objects: &Objects| objects.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(wanted), "{what}");
    for (name, wanted) in wanted {
        assert_eq!(&found[name], wanted, "{what}: {name}");
    }
}

/// Adds entries to the data of ConfigMap linkspan.
fn with_config(mut objects: Objects, data: Value) -> Objects {
    let config = objects.get_mut("ConfigMap linkspan-system/linkspan").expect("it is part of the base");
    config["data"] = data;
    objects
}

/// Takes away the mark of the configuration from pods, whose value is a digest; tells how many had one.
fn without_config_marks(objects: &mut Objects) -> usize {
    let mut marks = 0;
    for object in objects.values_mut() {
        let Some(metadata) = object.pointer_mut("/spec/template/metadata") else { continue };
        let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else { continue };
        marks += usize::from(annotations.remove("linkspan.dev/config").is_some());
        if annotations.is_empty() {
            metadata.as_object_mut().expect("metadata").remove("annotations");
        }
    }
    marks
}
