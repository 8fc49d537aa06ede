//! The image of an upgrade: whoever runs Linkspan from a registry of their own goes on to do so.

use anyhow::bail;
use k8s_openapi::api::apps::v1::DaemonSet;

use crate::kubectl::image::Image;

/// Where the manifests take it from.
const REPOSITORY: &str = "linkspan/linkspan";

/// The image of `version` that takes the place of what `nodes` runs now; `None`: that of the manifests.
///
/// # Errors
/// What runs is named by its digest, which says nothing of another version's.
pub fn successor(nodes: Option<&DaemonSet>, version: &str) -> anyhow::Result<Option<String>> {
    let Some(running) = nodes.and_then(image) else { return Ok(None) };
    let Image { repository, digest, .. } = Image::of(running);
    if digest.is_some() {
        bail!("this cluster runs {running}, which names one version alone: give --image with the one to upgrade to");
    }
    Ok((repository != REPOSITORY).then(|| format!("{repository}:{version}")))
}

fn image(nodes: &DaemonSet) -> Option<&str> {
    let pod = nodes.spec.as_ref()?.template.spec.as_ref()?;
    pod.containers.iter().find(|container| container.name == "node")?.image.as_deref()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn after(running: &str) -> anyhow::Result<Option<String>> {
        let containers = json!([{ "name": "other", "image": "x" }, { "name": "node", "image": running }]);
        let template = json!({ "metadata": {}, "spec": { "containers": containers } });
        let nodes = json!({ "spec": { "selector": {}, "template": template } });
        successor(Some(&serde_json::from_value(nodes).unwrap()), "0.2.0")
    }

    #[test]
    fn an_upgrade_stays_with_the_registry_of_what_runs() {
        assert_eq!(successor(None, "0.2.0").unwrap(), None);
        assert_eq!(after("linkspan/linkspan:0.1.0").unwrap(), None);
        for (running, next) in [
            ("registry.example/linkspan:0.1.0", "registry.example/linkspan:0.2.0"),
            ("registry.example:5000/net/linkspan:0.1.0", "registry.example:5000/net/linkspan:0.2.0"),
            ("registry.example:5000/linkspan", "registry.example:5000/linkspan:0.2.0"),
        ] {
            assert_eq!(after(running).unwrap().as_deref(), Some(next), "{running}");
        }
        let error = after("linkspan/linkspan@sha256:00ff").unwrap_err().to_string();
        assert!(error.contains("give --image"), "{error}");
    }
}
