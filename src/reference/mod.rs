//! The reference pages of the documentation, made from what the program itself knows. `linkspan reference PAGE` prints
//! them; a test compares them with `docs/reference`.

mod commands;
mod fields;

pub use commands::commands;

/// Objects of Kubernetes: all fields of Member, GatewayNode and ServiceRecord.
///
/// # Errors
/// Never in practice: the definitions have a form in JSON.
pub fn crds() -> anyhow::Result<String> {
    let mut page =
        "# Kubernetes objects of Linkspan\n\nThose of the Multi-Cluster Services API are described by that API \
                    (KEP-1645). Here are Linkspan's own, in API group `linkspan.dev`.\n"
            .to_owned();
    for crd in controller::api::crds() {
        let kind = crd.spec.names.kind.clone();
        let short = crd.spec.names.short_names.clone().unwrap_or_default().join(", ");
        for version in &crd.spec.versions {
            let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
            let schema = serde_json::to_value(schema)?;
            page += &format!("\n## {kind} ({}, short: {short})\n\n", version.name);
            page += &fields::table(&schema, &schema, &["spec", "status"]);
        }
    }
    Ok(page)
}

/// All fields of the site file.
///
/// # Errors
/// Never in practice: the schema has a form in JSON.
pub fn site_file() -> anyhow::Result<String> {
    let schema = serde_json::to_value(crate::site::schema())?;
    let intro = "# The site file\n\nOne file describes a cluster, for `linkspan run --config site.yaml`; an example is in the \
                 [README](../../README.md#the-site-file). `linkspan schema` prints a JSON Schema for editors.\n\n";
    Ok(format!("{intro}{}", fields::table(&schema, &schema, &[])))
}
