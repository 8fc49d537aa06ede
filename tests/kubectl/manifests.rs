//! The manifests inside the program are those that `kubectl apply -k` applies.

use linkspan::kubectl::install::manifests::Base;
use serde_json::Value;

/// kubectl's own answer for a folder of `deploy/`.
fn kustomized(folder: &str) -> Vec<Value> {
    let tree = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let run = testbed::Run::new(
        tree.join("target/peers/kubectl"),
        ["kustomize".to_owned(), tree.join("deploy").join(folder).display().to_string()],
    );
    serde_saphyr::from_multiple(&run.stdout().unwrap()).unwrap()
}

/// With all numbers as floats: 1 and 1.0 are the same to JSON Schema.
fn normal(value: Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().into(),
        Value::Array(values) => values.into_iter().map(normal).collect(),
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (key, normal(value))).collect(),
        other => other,
    }
}

fn sorted(mut objects: Vec<Value>) -> Vec<Value> {
    objects.sort_by_key(|object| format!("{}/{}", object["kind"], object["metadata"]["name"]));
    objects.into_iter().map(normal).collect()
}

#[test]
fn the_program_applies_what_kubectl_would_apply() {
    for (base, folder) in [(Base::Crds, "crds"), (Base::Broker, "broker"), (Base::Member, "member")] {
        let (ours, theirs) = (sorted(base.objects(None).unwrap()), sorted(kustomized(folder)));
        assert_eq!(ours.len(), theirs.len(), "{folder}");
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours, theirs, "{folder}");
        }
    }
}
