//! Which names, labels and annotations Kubernetes takes, and which of them an export may set.

use std::collections::BTreeMap;

/// Longest RFC 1123 label, label value and name part of a key.
const MAX_LABEL: usize = 63;
/// Longest RFC 1123 subdomain.
const MAX_SUBDOMAIN: usize = 253;
/// Labels that an export may have.
pub const MAX_LABELS: usize = 64;
/// Annotations that an export may have.
pub const MAX_ANNOTATIONS: usize = 64;
/// Bytes of all annotations of an export, keys and values. Kubernetes takes 256 KiB for a whole object.
pub const MAX_ANNOTATION_BYTES: usize = 64 * 1024;

/// Prefixes of keys that nobody sets but controllers; domains below them too.
const RESERVED_PREFIXES: [&str; 6] = [
    "multicluster.kubernetes.io",
    "multicluster.x-k8s.io",
    "linkspan.dev",
    "endpointslice.kubernetes.io",
    "service.kubernetes.io",
    "kubectl.kubernetes.io",
];
/// Single keys that nobody sets but controllers.
const RESERVED_KEYS: [&str; 4] = [
    "app.kubernetes.io/managed-by",
    "kubernetes.io/service-name",
    "control-plane.alpha.kubernetes.io/leader",
    "endpoints.kubernetes.io/last-change-trigger-time",
];

/// Whether `text` is an RFC 1123 label: names of namespaces, clusters, hosts and ports.
pub fn is_dns_label(text: &str) -> bool {
    let edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    is_made_of(text, MAX_LABEL, edge, |byte| edge(byte) || *byte == b'-')
}

/// Whether `text` is an RFC 1035 label: names of Services.
pub fn is_service_name(text: &str) -> bool {
    is_dns_label(text) && text.as_bytes()[0].is_ascii_lowercase()
}

/// Whether `text` may be the value of a label.
pub fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_name_part(text)
}

/// Whether `text` may be the key of a label or annotation, or an application protocol: `[prefix/]name`.
pub fn is_qualified_name(text: &str) -> bool {
    match text.split_once('/') {
        None => is_name_part(text),
        Some((prefix, name)) => is_subdomain(prefix) && is_name_part(name),
    }
}

/// Whether `text` is an RFC 1123 subdomain: names of nodes.
pub fn is_subdomain(text: &str) -> bool {
    text.len() <= MAX_SUBDOMAIN && text.split('.').all(is_dns_label)
}

/// Whether an export may not set `key`, because a controller's state would hang on it.
pub fn is_reserved(key: &str) -> bool {
    let Some((prefix, _)) = key.split_once('/') else { return false };
    let below =
        |reserved: &str| prefix.strip_suffix(reserved).is_some_and(|domain| domain.is_empty() || domain.ends_with('.'));
    RESERVED_KEYS.contains(&key) || RESERVED_PREFIXES.iter().any(|reserved| below(reserved))
}

/// What is wrong with labels as a ServiceImport would carry them, if anything is.
pub fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), String> {
    if labels.len() > MAX_LABELS {
        return Err(format!("{} exported labels, more than {MAX_LABELS}", labels.len()));
    }
    for (key, value) in labels {
        if !is_qualified_name(key) {
            return Err(format!("exported label {} has no legal key", shorten(key)));
        }
        if !is_label_value(value) {
            return Err(format!("exported label {key} has no legal value"));
        }
    }
    Ok(())
}

/// What is wrong with annotations as a ServiceImport would carry them, if anything is.
pub fn check_annotations(annotations: &BTreeMap<String, String>) -> Result<(), String> {
    if annotations.len() > MAX_ANNOTATIONS {
        return Err(format!("{} exported annotations, more than {MAX_ANNOTATIONS}", annotations.len()));
    }
    let bytes: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MAX_ANNOTATION_BYTES {
        return Err(format!("exported annotations have {bytes} bytes, more than {MAX_ANNOTATION_BYTES}"));
    }
    // Kubernetes folds the case of annotation keys before it checks them.
    match annotations.keys().find(|key| !is_qualified_name(&key.to_ascii_lowercase())) {
        Some(key) => Err(format!("exported annotation {} has no legal key", shorten(key))),
        None => Ok(()),
    }
}

/// A text from outside, short enough for a message.
pub fn shorten(text: &str) -> String {
    const SHOWN: usize = 64;
    let shown: String = text.chars().take(SHOWN).flat_map(char::escape_default).collect();
    if text.chars().nth(SHOWN).is_some() { format!("`{shown}…`") } else { format!("`{shown}`") }
}

fn is_name_part(text: &str) -> bool {
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    is_made_of(text, MAX_LABEL, u8::is_ascii_alphanumeric, inner)
}

fn is_made_of(text: &str, longest: usize, edge: impl Fn(&u8) -> bool, inner: impl Fn(&u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    bytes.len() <= longest && edge(first) && edge(last) && bytes.iter().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(texts: &[&str], test: impl Fn(&str) -> bool) -> Vec<String> {
        texts.iter().filter(|text| test(text)).map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn names_are_those_that_kubernetes_takes() {
        let sixty_four = "a".repeat(64);
        let texts = ["", "a", "a-b", "1a", "-a", "a-", "A", "a.b", "a_b", "ü", &sixty_four];
        assert_eq!(all(&texts, is_dns_label), ["a", "a-b", "1a"]);
        assert_eq!(all(&texts, is_service_name), ["a", "a-b"]);
        assert_eq!(all(&texts, is_label_value), ["", "a", "a-b", "1a", "A", "a.b", "a_b"]);
        let keys = ["a", "x.y/a", "/a", "a/", "x/y/z", "X/a", "x.y/A_b", "kubernetes.io/h2c"];
        assert_eq!(all(&keys, is_qualified_name), ["a", "x.y/a", "x.y/A_b", "kubernetes.io/h2c"]);
    }

    #[test]
    fn row_60_keys_of_controllers_are_reserved_and_other_keys_are_not() {
        let keys = [
            "multicluster.kubernetes.io/derived-service",
            "multicluster.kubernetes.io/service-name",
            "linkspan.dev/cluster",
            "sub.linkspan.dev/x",
            "kubernetes.io/service-name",
            "app.kubernetes.io/managed-by",
            "kubectl.kubernetes.io/last-applied-configuration",
            "app.kubernetes.io/name",
            "notlinkspan.dev/x",
            "team",
            "example.com/linkspan.dev",
        ];
        assert_eq!(
            all(&keys, |key| !is_reserved(key)),
            ["app.kubernetes.io/name", "notlinkspan.dev/x", "team", "example.com/linkspan.dev"]
        );
    }

    #[test]
    fn as_many_labels_and_annotations_are_taken_as_a_record_has_room_for() {
        let pairs = |count: usize| (0..count).map(|n| (format!("k{n}"), String::new())).collect::<BTreeMap<_, _>>();
        assert_eq!((check_labels(&pairs(64)), check_annotations(&pairs(64))), (Ok(()), Ok(())));
        assert_eq!(check_labels(&pairs(65)).unwrap_err(), "65 exported labels, more than 64");
        assert_eq!(check_annotations(&pairs(65)).unwrap_err(), "65 exported annotations, more than 64");
        // What is refused by the schema is refused here first, where somebody is told.
        let schema = serde_json::to_value(<crate::api::ServiceRecord as kube::CustomResourceExt>::crd()).unwrap();
        let spec = &schema["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
        assert_eq!(spec["exportedLabels"]["maxProperties"], MAX_LABELS);
        assert_eq!(spec["exportedAnnotations"]["maxProperties"], MAX_ANNOTATIONS);
        assert_eq!(spec["exportedLabels"]["additionalProperties"]["maxLength"], MAX_LABEL);
        assert_eq!(spec["exportedAnnotations"]["additionalProperties"]["maxLength"], MAX_ANNOTATION_BYTES);
    }

    #[test]
    fn texts_from_outside_are_shortened_and_escaped() {
        assert_eq!(shorten("a\nb"), "`a\\nb`");
        assert_eq!(shorten(&"x".repeat(65)), format!("`{}…`", "x".repeat(64)));
    }
}
